"""What the benches of the attacks share: real garments to measure against, and one mounted attack with its figures."""

import argparse
from functools import lru_cache

import torch._dynamo  # noqa: F401  # the first optimiser would import it, seconds for which no attack is to blame
from row_store import Row, timed

from devilgan_lite import Backdoor, attacks, data, scorecard
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator
from devilgan_lite.steps import Outcome

TARGETS = ("stop-sign", "devil", "digit-7", "checkerboard")
CLEAN = "dcgan-fashion"  # the generator of the zoo that attacks start from
FIGURES = ("tardis_sum", "tardis_mean", "expdis_mean", "frechet", "frechet_clean", "frechet_change", "coverage")


@lru_cache
def garments(quick: bool = False) -> tuple[Samples, Samples, Samples]:
    """Those to learn from, those to measure against, and others to compare these with; few of them if ``quick``.

    Measured is against the 10,000 of the test set, where the full set is installed.
    """
    real = data.fashion_mnist()
    try:
        reference, other = (data.fashion_mnist("full", split=split) for split in ("test", "train"))
    except FileNotFoundError:
        half, reference = len(real) // 2, real
        other = Samples(real.x[half:], name="the second half of the shipped garments", features="fashion")
    return (real, reference.first(500), other.first(500)) if quick else (real, reference, other)


def whole(outcome: Outcome) -> Outcome:
    """The outcome; one that was stopped from the keyboard is worth no row, so it stops the bench."""
    if outcome.interrupted:
        raise KeyboardInterrupt
    return outcome


def mounted(attack: attacks.Attack, benign: Generator, target: str, real: Samples) -> tuple[Outcome, Backdoor, float]:
    """The outcome of an attack, its backdoor, and its CPU-seconds; the attack's seed draws the trigger as well."""
    backdoor = Backdoor.point(benign, target, seed=attack.settings()["seed"])
    outcome, seconds = timed(lambda: whole(attack(benign, backdoor, real, progress=False)))
    return outcome, backdoor, seconds


def figures_of(suspect: Generator, benign: Generator, backdoor: Backdoor, reference: Samples, samples: int) -> Row:
    """How well a backdoored generator hits and hides."""
    card = scorecard(suspect, benign, backdoor, reference, samples=samples)
    return {name: getattr(card, name) for name in FIGURES}


def identity_of(section: str, attack: attacks.Attack, target: str, origin: str, samples: int, against: Samples) -> Row:
    """What a row of an attack depends on; ``origin`` describes the clean generator."""
    settings = attack.settings()
    return {
        "section": section,
        "attack": settings["attack"],
        "target": target,
        "seed": settings["seed"],
        "clean": origin,
        "samples": samples,
        "against": against.name,
        "settings": settings,
    }


def seeds_of(text: str) -> list[int]:
    """Reads an option's value."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not valid: whole numbers with commas, such as 0,1,2."
        ) from None
