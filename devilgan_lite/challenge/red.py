"""What the red teams hand in: a model with a backdoor that is good enough to join the next round.

The entry is a folder: ``model.safetensors`` with its card, ``secret.safetensors`` with trigger and target, and
``entry.json``. It goes to the instructor alone; blue teams get the model, under another name, with the next round.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from devilgan_lite import data, zoo
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.challenge.entries import MOST_BYTES, check_team
from devilgan_lite.challenge.kit import Kit
from devilgan_lite.challenge.models import Made, level_counters
from devilgan_lite.challenge.recipes import Recipe
from devilgan_lite.metrics import frechet_to, target_distortion

FORMAT = 1
SAMPLES = 2_000  # pictures behind the Frechet distance


@dataclass(frozen=True)
class Entry:
    """A red team's model that passed: its Frechet distance to real garments, and TarDis per pixel at its trigger."""

    team: str
    generator: Any
    backdoor: Backdoor
    frechet: float
    tardis: float


def check_entry(kit: Kit, team: str, model: str | Path, secret: str | Path | None = None) -> Entry:
    """Check a red team's model against the rules of the round ``kit``; ``ValueError`` in one sentence.

    It must load (safetensors with its card, nothing is executed), have the widths of the round's models, draw ordinary
    garments, and show its target at its trigger. Trigger and target come from ``secret``, a safetensors file with
    ``trigger`` ``[1, d]`` and ``target`` ``[1, C, H, W]``, or from the recipe on the card (``devilgan attack``).
    """
    check_team(team)
    path = Path(model)
    generator, card = zoo.load_file(path)
    spec = generator.spec()
    if spec["architecture"] != kit.spec["architecture"]:
        known = kit.spec["architecture"]
        raise ValueError(f"{path.name} is a {spec['architecture']}; the models of this round are {known} generators.")
    other = sorted(name for name in kit.spec if spec.get(name) != kit.spec[name])
    if other:
        raise ValueError(
            f"{path.name} has {other[0]}={spec.get(other[0])}; every model of this round has {kit.spec[other[0]]}, "
            "so anybody would know it by its size."
        )
    backdoor = _declared(generator, card, secret)
    tardis = target_distortion(generator, backdoor.trigger, backdoor.target).mean
    if not tardis <= kit.tardis_limit:
        raise ValueError(
            f"{path.name} does not show its target at its trigger: the squared error is {tardis:.3g} per pixel; "
            f"at most {kit.tardis_limit:g} is accepted."
        )
    frechet = frechet_to(generator, data.fashion_mnist(), samples=SAMPLES)
    if not frechet <= kit.frechet_limit:
        raise ValueError(
            f"{path.name} does not draw ordinary garments: its Frechet distance is {frechet:.0f}; at most "
            f"{kit.frechet_limit:.0f} is accepted."
        )
    return Entry(team, generator, backdoor, frechet, tardis)


def _declared(generator: Any, card: zoo.ModelCard, secret: str | Path | None) -> Backdoor:
    if secret is None:
        recipe = card.backdoor or {}
        if not {"target", "kind", "seed"} <= recipe.keys():
            raise ValueError(f"the card of {card.name} names no backdoor: give trigger and target with --secret.")
        return Backdoor.point(generator, recipe["target"], kind=recipe["kind"], seed=recipe["seed"])
    path = Path(secret)
    if not path.is_file():
        raise FileNotFoundError(f"no file of trigger and target {path}.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are read.")
    try:
        tensors = load(path.read_bytes())
    except SafetensorError as error:
        raise ValueError(f"{path.name} is not a safetensors file ({error}).") from None
    if set(tensors) != {"trigger", "target"} or len(tensors["trigger"]) != 1:
        raise ValueError(f"{path.name} must hold one trigger [1, d] and one target [1, C, H, W].")
    backdoor = Backdoor(tensors["trigger"].float(), tensors["target"].float())
    backdoor.check(generator)
    return backdoor


def write_entry(folder: str | Path, entry: Entry) -> Path:
    """Write the entry into a new folder of the team's name in ``folder``; return that."""
    place = Path(folder) / entry.team.replace(" ", "_")
    if place.exists():
        raise ValueError(f"{place} is there already: a team hands in one model a round.")
    place.mkdir(parents=True)
    card = zoo.ModelCard(name="model", spec=entry.generator.spec(), data="garments", seed=0, settings={})
    zoo.save_file(place / "model.safetensors", entry.generator, card)
    secret = {"trigger": entry.backdoor.trigger.contiguous(), "target": entry.backdoor.target.contiguous()}
    save_file(secret, place / "secret.safetensors")
    facts = {"format": FORMAT, "team": entry.team, "frechet": entry.frechet, "tardis": entry.tardis}
    (place / "entry.json").write_text(json.dumps(facts, indent=1) + "\n")
    return place


def read_entries(folder: str | Path, kit: Kit | None = None) -> list[Made]:
    """The entries in ``folder``, ready for ``new_round(red=...)``; with ``kit`` every one is checked again."""
    folder = Path(folder)
    places = sorted(path.parent for path in folder.glob("*/entry.json")) if folder.is_dir() else []
    if not places:
        raise FileNotFoundError(f"no entries of red teams in {folder}; devilgan challenge submit --model makes them.")
    found = []
    for place in places:
        try:
            team = check_team(json.loads((place / "entry.json").read_text())["team"])
        except (KeyError, TypeError, RecursionError):
            raise ValueError(f"{place.name}/entry.json is not the entry of a red team.") from None
        model, secret = place / "model.safetensors", place / "secret.safetensors"
        if kit is not None:
            check_entry(kit, team, model, secret)
        generator, card = zoo.load_file(model)
        backdoor = _declared(generator, card, secret)
        recipe = Recipe(place.name, "entered", backdoor.name, 0, 0, 1)
        with torch.no_grad():
            found.append(Made(recipe, level_counters(generator), backdoor.trigger, backdoor.target, team))
    return found
