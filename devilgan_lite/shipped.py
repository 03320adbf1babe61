"""What ships with the package: where it is, and the cards of the models. Without torch."""

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_type_hints

from devilgan_lite.checks import one_of, read_json

FORMAT = 1  # of a model card
RENAMED = {"latent": "prior", "width": "widths"}  # settings on cards of version 0.1


def data_folder() -> Path:
    """The folder of what ships: ``$DEVILGAN_DATA``, else the copy in an installed wheel, else the repository's."""
    package = Path(__file__).resolve().parent
    copy, own = package / "_data", package.parent / "data"
    folder = Path(os.environ.get("DEVILGAN_DATA") or (copy if copy.is_dir() else own))
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} is missing; set DEVILGAN_DATA to the project's data/ folder.")
    return folder


@dataclass(frozen=True)
class ModelCard:
    """What a model is and how to make it again: ``spec`` is ``generator.spec()``; ``metrics``, a scorecard or less.

    ``modality`` names what kind of thing it makes, one of ``data.MODALITIES``; cards from before it have none.
    """

    name: str
    spec: dict[str, Any]
    data: str
    seed: int
    settings: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    backdoor: dict[str, Any] | None = None
    seconds: float = 0.0
    licence: str = "MIT"
    modality: str = ""
    format: int = FORMAT
    sha256: str = ""


def zoo_folder() -> Path:
    """Where the shipped models are."""
    return data_folder() / "zoo"


def names() -> list[str]:
    """The names of the shipped models."""
    return sorted(path.stem for path in zoo_folder().glob("*.safetensors"))


def card(name: str) -> ModelCard:
    """The model card of the shipped model ``name``."""
    one_of("name", name, names())
    return read_card(zoo_folder() / f"{name}.json")


def read_card(path: Path) -> ModelCard:
    """Read a model card; a missing or malformed one is an error that says where."""
    content = read_json(
        path,
        "model card",
        get_type_hints(ModelCard),
        optional=("metrics", "backdoor", "seconds", "licence", "modality", "sha256"),
        version=FORMAT,
        missing="; a model file needs its card beside it",
    )
    return replace(ModelCard(**content), spec=current_spec(content["spec"]))


def current_spec(spec: dict[str, Any]) -> dict[str, Any]:
    """A copy of ``spec`` with today's names, from one of version 0.1 too."""
    return {RENAMED.get(name, name): value for name, value in spec.items()}
