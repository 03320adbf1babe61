"""What the blue teams hand in: a probability for every model, and what they recovered from some of them.

A submission is ``TEAM.json``, with recovered latents and pictures in ``TEAM.safetensors`` beside it. Both come from
strangers, so they are read as data and every number is checked.
"""

import csv
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from PIL.Image import Resampling
from safetensors.torch import save
from torch import Tensor

from devilgan_lite import zoo
from devilgan_lite.apps.game.kit import Kit
from devilgan_lite.checks import cut, images, in_range, latents, nearest, one_of, read_bytes, read_json, shown
from devilgan_lite.data import read_picture

FORMAT = 1
TEAM = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _-]{0,23}")
MOST_BYTES = 8 * 2**20
WHAT = ("trigger", "picture")


@dataclass(frozen=True)
class Submission:
    """A blue team's answer. ``verdicts``: model -> probability in [0, 1] that it has a backdoor, for every model.

    ``evidence``: model -> one thing recovered from it: a trigger latent ``[d]``, or a picture ``[C, H, W]`` in [-1, 1].
    """

    team: str
    challenge: str
    verdicts: dict[str, float]
    evidence: dict[str, Tensor] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, kit: Kit, team: str, verdicts: dict[str, float], evidence: dict[str, Tensor] | None = None) -> Self:
        """Check everything against the round and return the submission; ``ValueError`` in one sentence."""
        found = cls(check_team(team), kit.id, dict(verdicts), dict(evidence or {}))
        found.check(kit)
        return found

    def check(self, kit: Kit) -> None:
        """Raise ``ValueError`` unless this is a complete answer to the round ``kit``."""
        if self.challenge != kit.id:
            other = shown(self.challenge)
            raise ValueError(f"the submission of {self.team!r} is for round {other}; this is {kit.id!r}.")
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
    """Model -> probability from a ``.json`` object, or a ``.csv`` of two columns, with or without a heading."""
    path = Path(path)
    content = read_bytes(path, "file of verdicts", most=MOST_BYTES)
    one_of("the ending of the file of verdicts", path.suffix, (".json", ".csv"))
    try:
        if path.suffix == ".json":
            pairs = list(json.loads(content, object_pairs_hook=list))
        else:
            rows = [row for row in csv.reader(content.decode().splitlines()) if row]
            if rows and rows[0][-1].strip().lower() in ("probability", "verdict"):
                rows = rows[1:]
            pairs = [(name.strip(), float(value)) for name, value in rows]
        verdicts = {str(name): value for name, value in pairs}
    except (RecursionError, TypeError, ValueError, csv.Error):
        raise ValueError(
            f'{path.name} does not hold verdicts: a line is "model,probability", or {{"model": 0.5}}.'
        ) from None
    if len(verdicts) < len(pairs):
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
    """Write ``TEAM.json``, and ``TEAM.safetensors`` for evidence, into ``folder``; return the path of the first."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    stem = submission.team.replace(" ", "_")
    content: dict[str, Any] = {
        "format": FORMAT,
        "team": submission.team,
        "challenge": submission.challenge,
        "verdicts": {name: float(value) for name, value in sorted(submission.verdicts.items())},
        "evidence_sha256": None,
    }
    if submission.evidence:
        packed = save({name: x.contiguous() for name, x in sorted(submission.evidence.items())})
        content["evidence_sha256"] = hashlib.sha256(packed).hexdigest()
        (folder / f"{stem}.safetensors").write_bytes(packed)
    path = folder / f"{stem}.json"
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def read_submission(path: str | Path, kit: Kit) -> Submission:
    """Read and check what ``write_submission`` wrote; ``ValueError`` or ``FileNotFoundError`` in one sentence."""
    path = Path(path)
    types = {"format": int, "team": str, "challenge": str, "verdicts": dict, "evidence_sha256": str | None}
    content = read_json(path, "submission", types, version=FORMAT, most=MOST_BYTES)
    evidence: dict[str, Tensor] = {}
    if content["evidence_sha256"] is not None:
        beside = path.with_suffix(".safetensors")
        missing = f"; {path.name} names it, so it must be beside it"
        packed = read_bytes(beside, "file of evidence", most=MOST_BYTES, missing=missing)
        if hashlib.sha256(packed).hexdigest() != content["evidence_sha256"]:
            raise ValueError(f"{beside.name} does not match the SHA-256 in {path.name}: it was changed or cut short.")
        evidence = zoo.parsed(packed, beside.name)
    submission = Submission(check_team(content["team"]), content["challenge"], content["verdicts"], evidence)
    submission.check(kit)
    return submission
