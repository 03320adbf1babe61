"""Old names work for one version, say what they are called now, and point to the line that uses them."""

import math
import sys
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest

from devilgan_lite import attacks, data, generators, steps, train_gan
from devilgan_lite.attacks.adaptive import Disguise, NarrowReX
from devilgan_lite.checks import Settings
from devilgan_lite.deprecation import dropped, renamed, renamed_attribute, renamed_members


@renamed(sleepers="aligned_units", filling="noise_scale")
@dataclass(frozen=True, kw_only=True)
class Toy(Settings):
    lam: float = 1.0
    aligned_units: int = 4
    noise_scale: float = 0.0

    sleepers = renamed_attribute("sleepers", "aligned_units")


@dataclass(frozen=True, kw_only=True)
class Derived(Toy):
    """Has a constructor of its own, and no decorator."""

    m: int = 0


@renamed(law="prior")
def draw(n: int, *, prior: str = "gaussian") -> tuple[int, str]:
    return n, prior


@dropped("level", "nobody asks")
def look(n: int) -> int:
    return n


def test_old_names_work_and_say_the_new_one(refuses: Callable[..., str]) -> None:
    member = renamed_members("math", {"circle": "pi", "most": "sys:maxsize"})
    plain: Any = type("Plain", (Toy,), {})  # with the constructor of Toy
    cases: list[tuple[Callable[[], Any], Any, str]] = [
        (lambda: Toy(sleepers=2, lam=0.5), Toy(aligned_units=2, lam=0.5), "Toy(sleepers=...) is called aligned_units"),
        (lambda: plain(sleepers=3).aligned_units, 3, "(sleepers=...) is called aligned_units"),
        (lambda: Toy(aligned_units=7).sleepers, 7, "Toy.sleepers is called aligned_units"),
        (lambda: draw(1, law="uniform"), (1, "uniform"), "draw(law=...) is called prior"),
        (lambda: look(1, level=0.5), 1, "look(level=...) means nothing now: nobody asks"),
        (lambda: member("circle"), math.pi, "math.circle is called math.pi"),
        (lambda: member("most"), sys.maxsize, "math.most is called sys.maxsize"),
        (lambda: replace(Toy(aligned_units=2), lam=3.0), Toy(lam=3.0, aligned_units=2), ""),
    ]
    for call, expected, words in cases:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            assert call() == expected
        assert [words in str(one.message) for one in found] == [True] * bool(words)
        assert all(one.category is DeprecationWarning and one.filename == __file__ for one in found)
    with pytest.raises(AttributeError, match="circl"):
        member("circl")
    with pytest.raises(FrozenInstanceError):
        Toy().lam = 1.0  # type: ignore[misc]
    with pytest.warns(DeprecationWarning):
        assert Toy(sleepers=2, filling=0.1) == Toy(aligned_units=2, noise_scale=0.1)  # two old names at once
    for wrong, names in (
        (lambda: Toy(sleepers=1, aligned_units=2), ("sleepers", "aligned_units")),
        (lambda: Toy(sleeper=1), ("'sleeper'", "lam, aligned_units, noise_scale")),
        (lambda: Toy(3), ("Toy", "lam=")),
        (lambda: Derived(sleepers=1), ("'sleepers'", "noise_scale, m")),
    ):
        refuses(wrong, *names, error=TypeError)


def test_the_names_of_version_0_1_still_work() -> None:
    """One of each kind."""
    olds: list[tuple[Callable[[], Any], Any]] = [
        (lambda: attacks.ReD(sleepers=2).aligned_units, 2),  # type: ignore[call-arg]
        (lambda: Disguise(filling=0.5).noise_scale, 0.5),  # type: ignore[call-arg]
        (lambda: NarrowReX(steps_clean=3).clean_iterations, 3),  # type: ignore[call-arg]
        (lambda: generators.DCGAN(latent="uniform").prior.name, "uniform"),  # type: ignore[call-arg]
        (lambda: generators.ARCHITECTURES["DCGAN"], generators.DCGAN),
        (lambda: generators.recipe_of(generators.DCGAN()), generators.Recipe()),
        (lambda: steps.Turn, steps.TrainableSide),
    ]
    for old, expected in olds:
        with pytest.warns(DeprecationWarning, match="is called|now"):
            assert old() == expected
    point, ring = generators.PointGenerator(), data.ring(64)
    with pytest.warns(DeprecationWarning, match="iterations"):
        outcome = train_gan(point, ring, steps=2, batch_size=8, device="cpu", progress=False)
    assert outcome.settings["iterations"] == 2
