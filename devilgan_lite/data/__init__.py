"""Where samples come from: real and drawn ones, points, targets; and the modalities that say what they are."""

from collections.abc import Callable
from functools import partial

from devilgan_lite.checks import one_of
from devilgan_lite.data.audio import AUDIO, DRUMS, OCTAVES, drums, piano, read_clip, wav
from devilgan_lite.data.faces import Faces, faces
from devilgan_lite.data.images import IMAGES, digits, fashion_mnist, read_picture
from devilgan_lite.data.modality import Modality
from devilgan_lite.data.points import POINTS, ring
from devilgan_lite.data.samples import Samples
from devilgan_lite.data.tables import TABLES, Column, Table, TableCode, card_default, card_fraud, read_table
from devilgan_lite.data.targets import target, target_names
from devilgan_lite.shipped import data_folder

MODALITIES = {kind.name: kind for kind in (IMAGES, AUDIO, POINTS, TABLES)}
DATASETS: dict[str, Callable[[], Samples]] = {  # those with feature networks
    "fashion": fashion_mnist,
    "faces": faces,
    "faces-64": partial(faces, size=64),
    "drums": drums,
    "piano": piano,
}


def modality(shape: tuple[int, ...], name: str | None = None) -> Modality:
    """The modality ``name``, or the first that fits samples of ``shape``; an unknown name lists the valid ones."""
    if name is not None:
        one_of("modality", name, MODALITIES)
        return MODALITIES[name]
    return next(kind for kind in MODALITIES.values() if kind.fits(tuple(shape)))


__all__ = [
    "AUDIO",
    "DATASETS",
    "DRUMS",
    "IMAGES",
    "MODALITIES",
    "OCTAVES",
    "POINTS",
    "TABLES",
    "Column",
    "Faces",
    "Modality",
    "Samples",
    "Table",
    "TableCode",
    "card_default",
    "card_fraud",
    "data_folder",
    "digits",
    "drums",
    "faces",
    "fashion_mnist",
    "modality",
    "piano",
    "read_clip",
    "read_picture",
    "read_table",
    "ring",
    "target",
    "target_names",
    "wav",
]
