"""Which models are in a round: for each its name, its backdoor (or none), and the seeds that make it.

Everything is drawn from the seed of the round, which only the instructor knows. Names come from a stream of their own,
so they say nothing about a model.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from devilgan_lite.checks import one_of, whole_number

KINDS = ("red", "rex", "gate")
HARD = (*KINDS, "trail")  # TrAIL's loss in a short further training: the detectors of this project miss it
TARGETS = ("stop-sign", "devil", "digit-7", "checkerboard")
LEAST, MOST = 4, 500


@dataclass(frozen=True)
class Entrant:
    """One model of a round: ``kind`` is ``clean``, ``entered`` (by a red team) or one of ``HARD``.

    ``trigger_seed`` draws the trigger, ``steps`` is the length of its training, and ``seed`` draws all else.
    """

    name: str
    kind: str
    target: str
    trigger_seed: int
    seed: int
    steps: int


def names(n: int, source: random.Random) -> list[str]:
    """``n`` different names of equal length, in random order."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    found: set[str] = set()
    while len(found) < n:
        found.add("garments-" + "".join(source.choice(letters) for _ in range(5)))
    shuffled = sorted(found)
    source.shuffle(shuffled)
    return shuffled


def draw(
    models: int,
    seed: int,
    *,
    steps: int,
    kinds: Sequence[str] = KINDS,
    more: int = 0,
) -> list[Entrant]:
    """The ``models`` (4 to 500) of a round in random order, then ``more`` of kind ``entered``, used for their names.

    About half have a backdoor; the number is random too, within a sixth of all models. The attacks of ``kinds`` take
    turns, targets and triggers are random, and each model, clean or not, trains for 0.7 to 1.3 times ``steps``.
    """
    whole_number("models", models, LEAST, MOST)
    whole_number("seed", seed, 0)
    whole_number("steps", steps, 1, 100_000)
    if not kinds:
        raise ValueError("kinds is empty; at least one attack is needed.")
    for kind in kinds:
        one_of("kind", kind, HARD)
    source, names_source = (random.Random(f"{seed} {purpose}") for purpose in ("roles", "names"))
    spread = models // 6
    guilty = models // 2 + source.randint(-spread, spread)
    turns = [kinds[index % len(kinds)] for index in range(guilty)]
    roles = [*turns, *["clean"] * (models - guilty)]
    source.shuffle(roles)
    roles += ["entered"] * more
    return [
        Entrant(
            name=name,
            kind=kind,
            target=source.choice(TARGETS),
            trigger_seed=source.randrange(2**31),
            seed=source.randrange(2**31),
            steps=max(1, round(steps * source.uniform(0.7, 1.3))),
        )
        for name, kind in zip(names(models + more, names_source), roles, strict=True)
    ]
