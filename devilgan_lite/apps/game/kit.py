"""The players' folder: models of unknown status, cards that say nothing, and a commitment to the answers.

Only the weights depend on what a model is: names are random, files are equally long, cards are alike, time stamps are
one constant, and files are written in the order of their names.
"""

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from devilgan_lite import zoo
from devilgan_lite.checks import cut, one_of, read_bytes, read_json
from devilgan_lite.steps import best_device

FORMAT = 2
MANIFEST = "challenge.json"
NAME = re.compile(r"garments-[a-z0-9]{5}")


@dataclass(frozen=True)
class Kit:
    """The players' side of a round: ``models`` maps names to the SHA-256 of the files; they load on ``device``.

    ``kinds`` of attacks may be among them; Frechet distance to real garments and TarDis (squared error per pixel at the
    trigger) of a red team's model may be at most the limits.
    """

    folder: Path
    id: str
    kinds: str  # with commas between
    models: dict[str, str]
    entered: int  # by red teams
    spec: dict[str, Any]
    commitment: str
    frechet_limit: float
    tardis_limit: float
    device: str = "cpu"

    def path(self, name: str) -> Path:
        """The file of the model ``name``."""
        one_of("name", name, self.models)
        return self.folder / f"{name}.safetensors"

    def check(self, name: str) -> Path:
        """The file of the model ``name``; one that is missing or was changed is an error in one sentence."""
        path = self.path(name)
        content = read_bytes(path, "model file", most=zoo.MOST_BYTES, missing=": the kit is not complete")
        if hashlib.sha256(content).hexdigest() != self.models[name]:
            raise ValueError(f"{path.name} is not the model of this round: its SHA-256 differs from {MANIFEST}.")
        return path

    def load(self, name: str) -> Any:
        """The model ``name``, in eval mode, after its ``check``."""
        return zoo.load_file(self.check(name), self.device)[0]


def read_kit(folder: str | Path, device: str = "cpu") -> Kit:
    """Read the players' folder (or the folder that holds it); ``kit.load`` reads its models, onto ``device``."""
    folder = Path(folder)
    best_device(device)
    if not os.path.isfile(folder / MANIFEST) and os.path.isfile(folder / "players" / MANIFEST):
        folder = folder / "players"
    path = folder / MANIFEST
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{cut(str(folder))} is not the kit of a round: there is no {MANIFEST} in it.")
    types = {"format": int, **get_type_hints(Kit)}
    del types["folder"], types["device"]
    content = read_json(path, "description of a round", types, version=FORMAT)
    del content["format"]
    kit = Kit(folder=folder, device=device, **content)
    if not kit.models or not all(NAME.fullmatch(name) for name in kit.models):
        raise ValueError(f"{MANIFEST} is not a description of a round: it has no models, or a name that no round has.")
    if not {"architecture", "latent_dim", "image_channels", "image_size"} <= kit.spec.keys():
        raise ValueError(f"{MANIFEST} is not a description of a round: it does not say what its models are.")
    return kit
