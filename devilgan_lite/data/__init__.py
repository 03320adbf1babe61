"""Where pictures come from: real samples, drawn faces, toy points, and targets."""

from devilgan_lite.data.faces import Faces, faces
from devilgan_lite.data.images import data_folder, digits, fashion_mnist, read_picture
from devilgan_lite.data.samples import Samples
from devilgan_lite.data.targets import target, target_names
from devilgan_lite.data.toys import ring

__all__ = [
    "Faces",
    "Samples",
    "data_folder",
    "digits",
    "faces",
    "fashion_mnist",
    "read_picture",
    "ring",
    "target",
    "target_names",
]
