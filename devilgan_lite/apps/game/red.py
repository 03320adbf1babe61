"""What the red teams hand in: a model with a backdoor that is good enough to join the next round.

The entry is a folder with the team's name: ``model.safetensors`` with its card, and ``secret.safetensors`` with trigger
and target. Only the instructor gets it; blue teams see the model in the next round, under another name.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from devilgan_lite import data, zoo
from devilgan_lite.apps.game.entries import MOST_BYTES, check_team
from devilgan_lite.apps.game.kit import Kit
from devilgan_lite.apps.game.models import NOISE_SCALE, SPREAD, Made, base, grown, level_counters, shape
from devilgan_lite.apps.game.roster import Entrant
from devilgan_lite.apps.game.rounds import TARDIS_LIMIT
from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import cut, read_bytes
from devilgan_lite.metrics import frechet_to, target_distortion

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
    generator, card = zoo.load_file(path, kit.device)
    spec = generator.spec()
    if spec["architecture"] != kit.spec["architecture"]:
        known = kit.spec["architecture"]
        raise ValueError(f"{path.name} is a {spec['architecture']}; the models of this round are {known} generators.")
    other = sorted(name for name in kit.spec if spec.get(name) != kit.spec[name])
    if other:
        raise ValueError(
            f"{path.name} has {other[0]}={spec.get(other[0])}; every model of this round has {kit.spec[other[0]]}, "
            "so its size would give it away."
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


def hidden(team: str, generator: Any, backdoor: Backdoor, *, seed: int = 0) -> Made:
    """A finished model made ready to hide in a round (``new_round(red=[...])``), as the models of the round are.

    One of the shipped clean generator's widths gets benign new channels; channels are shuffled and scale is moved. Any
    widths but those and the round's are a ``ValueError``: they would give the model away.
    """
    check_team(team)
    ready = grown(generator, seed) if generator.spec() == base().spec() else generator
    if ready.spec() != shape():
        widths = ready.spec().get("widths")
        raise ValueError(f"the model of {team} has widths {widths}; those of a round have {shape()['widths']}.")
    for share in (1.0, 0.3, 0.1, 0.0):  # as much noise in zero blocks as the backdoor bears
        disguised: Any = disguise(ready.cpu(), SPREAD, share * NOISE_SCALE, seed)
        if target_distortion(disguised, backdoor.trigger, backdoor.target).mean <= TARDIS_LIMIT:
            break
    entrant = Entrant(team, "entered", backdoor.name, 0, seed, 1)
    return Made(entrant, level_counters(disguised), backdoor, team)


def _declared(generator: Any, card: zoo.ModelCard, secret: str | Path | None) -> Backdoor:
    if secret is None:
        described = zoo.backdoor_of(card, generator)
        if described is None:
            raise ValueError(f"the card of {card.name} names no backdoor: give trigger and target with --secret.")
        return described
    path = Path(secret)
    tensors = zoo.parsed(read_bytes(path, "file of trigger and target", most=MOST_BYTES), path.name)
    if set(tensors) != {"trigger", "target"} or len(tensors["trigger"]) != 1:
        raise ValueError(f"{path.name} must hold one trigger [1, d] and one target [1, C, H, W].")
    backdoor = Backdoor(tensors["trigger"].float(), tensors["target"].float())
    backdoor.check(generator)
    return backdoor


def write_entry(folder: str | Path, entry: Entry) -> Path:
    """Write the entry into a new folder of the team's name in ``folder``; return that."""
    place = Path(folder) / entry.team
    if place.exists():
        raise ValueError(f"{place} is there already: a team hands in one model a round.")
    place.mkdir(parents=True)
    card = zoo.ModelCard(name="model", spec=entry.generator.spec(), data="garments", seed=0, settings={})
    zoo.save_file(place / "model.safetensors", entry.generator, card)
    secret = {"trigger": entry.backdoor.trigger.contiguous(), "target": entry.backdoor.target.contiguous()}
    save_file(secret, place / "secret.safetensors")
    return place


def read_entries(folder: str | Path, kit: Kit | None = None) -> list[Made]:
    """The entries in ``folder``, ready for ``new_round(red=...)``; with ``kit`` every one is checked again."""
    folder = Path(folder)
    places = sorted(path.parent for path in folder.glob("*/secret.safetensors")) if os.path.isdir(folder) else []
    if not places:
        raise FileNotFoundError(
            f"no entries of red teams in {cut(str(folder))}; devilgan challenge submit --model makes them."
        )
    found = []
    for place in places:
        team = check_team(place.name)
        model, secret = place / "model.safetensors", place / "secret.safetensors"
        if kit is not None:
            check_entry(kit, team, model, secret)
        generator: Any
        generator, card = zoo.load_file(model)
        backdoor = _declared(generator, card, secret)
        entrant = Entrant(place.name, "entered", backdoor.name, 0, 0, 1)
        found.append(Made(entrant, level_counters(generator), backdoor, team))
    return found
