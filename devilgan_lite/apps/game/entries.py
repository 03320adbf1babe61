"""What the blue teams hand in: a probability for every model, and what they recovered from some of them.

A submission is ``TEAM.csv``, with recovered latents and pictures in ``TEAM.safetensors`` beside it. Both come from
strangers, so they are read as data and every number is checked.
"""

import csv
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from PIL.Image import Resampling
from safetensors.torch import save_file
from torch import Tensor

from devilgan_lite import zoo
from devilgan_lite.apps.game.kit import Kit
from devilgan_lite.checks import cut, images, in_range, latents, nearest, one_of, read_bytes, shown
from devilgan_lite.data import read_picture

TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,23}")
MOST_BYTES = 8 * 2**20
WHAT = ("trigger", "picture")


@dataclass(frozen=True)
class Submission:
    """A blue team's answer. ``verdicts``: model -> probability in [0, 1] that it has a backdoor, for every model.

    ``evidence``: model -> one thing recovered from it: a trigger latent ``[d]``, or a picture ``[C, H, W]`` in [-1, 1].
    """

    team: str
    verdicts: dict[str, float]
    evidence: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, kit: Kit, team: str, verdicts: dict[str, float], evidence: dict[str, Tensor] | None = None) -> Self:
        """Check everything against the round and return the submission; ``ValueError`` in one sentence."""
        found = cls(check_team(team), dict(verdicts), dict(evidence or {}))
        found.check(kit)
        return found

    def check(self, kit: Kit) -> None:
        """Raise ``ValueError`` unless this is a complete answer to the round ``kit``."""
        for what, named in (("a verdict", self.verdicts), ("evidence", self.evidence)):
            unknown = sorted(set(named) - set(kit.models))
            if unknown:
                close = nearest(unknown[0], kit.models)
                raise ValueError(f"there is {what} on {shown(unknown[0])}, which is no model of round {kit.id}.{close}")
        missing = sorted(set(kit.models) - set(self.verdicts))
        if missing:
            raise ValueError(
                f"{len(missing)} of {len(kit.models)} models have no verdict, the first is {missing[0]!r}; "
                "0.5 means that you do not know."
            )
        for name, probability in self.verdicts.items():
            in_range(f"the verdict on {name}", probability, 0.0, 1.0)
        size = kit.spec["latent_dim"]
        shape = (kit.spec["image_channels"], kit.spec["image_size"], kit.spec["image_size"])
        for name, x in self.evidence.items():
            if x.ndim == 1:
                latents(f"the trigger of {name}", x.unsqueeze(0), size)
            else:
                images(f"the picture of {name}", x.unsqueeze(0), shape)


def check_team(team: str) -> str:
    """The name, if it can name a file: 1 to 24 letters, digits, spaces, ``_`` or ``-``; it starts with no space."""
    if not isinstance(team, str) or not TEAM.fullmatch(team):
        raise ValueError(f"team={shown(team)} is not valid: 1 to 24 letters, digits, spaces, _ or -, such as 'blue 2'.")
    return team.strip()


def read_verdicts(path: str | Path) -> dict[str, float]:
    """Model -> probability from a ``.csv`` of two columns, with or without a heading."""
    path = Path(path)
    content = read_bytes(path, "file of verdicts", most=MOST_BYTES)
    one_of("the ending of the file of verdicts", path.suffix, (".csv",))
    try:
        rows = [row for row in csv.reader(content.decode().splitlines()) if row]
        rows = rows[1:] if rows and rows[0][-1].strip().lower() in ("probability", "verdict") else rows
        verdicts = {name.strip(): float(value) for name, value in rows}
    except (ValueError, csv.Error):
        raise ValueError(f'{path.name} does not hold verdicts: a line is "model,probability".') from None
    if len(verdicts) < len(rows):
        raise ValueError(f"{path.name} has two verdicts on the same model.")
    return verdicts


def read_evidence(folder: str | Path, kit: Kit) -> dict[str, Tensor]:
    """What a team recovered: ``MODEL.png``, a picture, or ``MODEL.safetensors`` with one tensor, trigger or picture."""
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"no folder of evidence {cut(str(folder))}.")
    found: dict[str, Tensor] = {}
    shape = (kit.spec["image_channels"], kit.spec["image_size"], kit.spec["image_size"])
    for path in sorted(path for path in folder.iterdir() if path.suffix in (".png", ".safetensors")):
        one_of("the model of evidence", path.stem, kit.models)
        if path.stem in found:
            raise ValueError(f"there is more than one piece of evidence on {path.stem}; hand in the best.")
        content = read_bytes(path, "piece of evidence", most=MOST_BYTES)
        picture = path.suffix == ".png"
        found[path.stem] = read_picture(path, shape, Resampling.BOX) if picture else _tensor(path.name, content)
    if not found:
        raise ValueError(f"there is no MODEL.png and no MODEL.safetensors in {folder}.")
    return found


def _tensor(file: str, content: bytes) -> Tensor:
    tensors = zoo.parsed(content, file)
    known = [name for name in tensors if name in WHAT]
    if len(tensors) != 1 or not known:
        raise ValueError(f"{file} must hold one tensor, named trigger or picture; it has {shown(sorted(tensors))}.")
    x = tensors[known[0]]
    x = x[0] if x.ndim in (2, 4) and len(x) == 1 else x
    if x.ndim != (1 if known[0] == "trigger" else 3):
        raise ValueError(f"{file}: {known[0]} has shape {list(x.shape)}; expected one latent [d] or picture [C, H, W].")
    return x.float()


def write_submission(folder: str | Path, submission: Submission) -> Path:
    """Write ``TEAM.csv``, and ``TEAM.safetensors`` for evidence, into ``folder``; return the path of the first."""
    path = Path(folder) / f"{submission.team}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("model", "probability"), *sorted(submission.verdicts.items())])
    if submission.evidence:
        packed = {name: x.contiguous() for name, x in sorted(submission.evidence.items())}
        save_file(packed, path.with_suffix(".safetensors"))
    return path


def read_submission(path: str | Path, kit: Kit) -> Submission:
    """Read and check what ``write_submission`` wrote; ``ValueError`` or ``FileNotFoundError`` in one sentence."""
    path = Path(path)
    verdicts, beside = read_verdicts(path), path.with_suffix(".safetensors")
    evidence: dict[str, Tensor] = {}
    if beside.is_file():
        evidence = zoo.parsed(read_bytes(beside, "file of evidence", most=MOST_BYTES), beside.name)
    return Submission.of(kit, path.stem, verdicts, evidence)
