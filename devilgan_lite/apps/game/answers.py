"""The answers of a round, and the commitment to them that the players hold before they begin.

Everything in a round is drawn from its seed, which nobody but the instructor knows. ``challenge.json`` of the players
has the SHA-256 of the answers, which hold a salt of 256 bits from the seed: no guess can be tried against it, and no
other answers have the same one. An instructor who has lost the file makes it again from the seed, without training.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.apps.game.kit import MANIFEST, Kit
from devilgan_lite.apps.game.models import Made, backdoor_of
from devilgan_lite.apps.game.roster import Entrant, draw
from devilgan_lite.checks import read_json, shown

FILE = "answers.json"
MOST_BYTES = 16 * 2**20
Answers = dict[str, Any]


def answers_of(seed: int, sha256: Mapping[str, str], entrants: Sequence[Entrant], red: Sequence[Made]) -> Answers:
    """What each model is, with trigger and target; ``sha256`` are the digests of the files, ``red`` the last entrants.

    The same seed, files and entries give the same answers, byte for byte.
    """
    drawn = entrants[: len(entrants) - len(red)]
    planted = [*map(backdoor_of, drawn), *(made.backdoor for made in red)]
    teams = [*("" for _ in drawn), *(made.team for made in red)]
    models = {
        entrant.name: {
            "sha256": sha256[entrant.name],
            "backdoored": backdoor is not None,
            "kind": entrant.kind,
            "target_name": "" if backdoor is None else backdoor.name,
            "team": team,
            "trigger": None if backdoor is None else _packed(backdoor.trigger),
            "target": None if backdoor is None else _packed(backdoor.target),
        }
        for entrant, backdoor, team in zip(entrants, planted, teams, strict=True)
    }
    return {"seed": seed, "salt": hashlib.sha256(f"{seed} salt".encode()).hexdigest(), "models": models}


def commitment(answers: Answers) -> str:
    """The SHA-256 of the answers as JSON with sorted names and no spaces."""
    return hashlib.sha256(json.dumps(answers, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def read_answers(path: str | Path, kit: Kit) -> Answers:
    """The answers in a file, checked against the commitment of ``kit``; ``ValueError`` in one sentence."""
    missing = "; challenge new writes it into instructor/, and challenge score --seed makes it again"
    types = {"seed": int, "salt": str, "models": dict}
    answers = read_json(Path(path), "file of answers", types, most=MOST_BYTES, missing=missing)
    return _checked(answers, kit, Path(path).name)


def remade_answers(seed: int, kit: Kit, red: Sequence[Made] = ()) -> Answers:
    """The answers of ``kit`` again, from its secret seed and the entries that joined it; a second, no training."""
    if len(red) != kit.entered:
        raise ValueError(f"red has {len(red)} entries; {kit.entered} red teams' models are in round {kit.id}.")
    entrants = draw(len(kit.models) - kit.entered, seed, steps=1, kinds=kit.kinds.split(","), more=kit.entered)
    if {entrant.name for entrant in entrants} != kit.models.keys():
        raise ValueError(f"seed={seed} is not the seed of round {kit.id}: other names come of it.")
    return _checked(answers_of(seed, kit.models, entrants, red), kit, f"what seed {seed} gives")


def _checked(answers: Answers, kit: Kit, named: str) -> Answers:
    if commitment(answers) != kit.commitment:
        raise ValueError(
            f"{shown(named)} is not what {MANIFEST} of round {kit.id} commits to: one of them was changed."
        )
    if {name: answer["sha256"] for name, answer in answers["models"].items()} != kit.models:
        raise ValueError(f"the list of models in {MANIFEST} is not that of the answers: the kit was changed.")
    return answers


def _packed(x: Tensor) -> dict[str, Any]:
    return {"shape": list(x.shape), "float32": base64.b64encode(x.detach().cpu().float().numpy().tobytes()).decode()}


def unpacked(packed: dict[str, Any]) -> Tensor:
    """The tensor that the answers hold as ``packed``."""
    flat = np.frombuffer(base64.b64decode(packed["float32"]), dtype=np.float32)
    return torch.from_numpy(flat.copy()).reshape(packed["shape"])
