"""Old names work for one version, say what they are called now, and point to the line that uses them."""

import sys
import types
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest

from devilgan_lite import attacks, data, generators, sanitize, steps, train_gan
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


class Plain(Toy):
    """Has the constructor of ``Toy``."""


@renamed(law="prior")
def draw(n: int, *, prior: str = "gaussian") -> tuple[int, str]:
    return n, prior


@dropped("level", "nobody asks")
def look(n: int) -> int:
    return n


class Network:
    @renamed(latent="prior")
    def __init__(self, prior: str = "gaussian") -> None:
        self.prior = prior


def noted(call: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What ``call()`` returns, and its warnings, all of which must point to this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = call()
    assert all(one.category is DeprecationWarning and one.filename == __file__ for one in found)
    return result, [str(one.message) for one in found]


def test_old_keywords_and_attributes_work_and_say_the_new_name(refuses: Callable[..., str]) -> None:
    cases: list[tuple[Callable[[], Any], Any, tuple[str, ...]]] = [
        (lambda: Toy(sleepers=2, lam=0.5), Toy(aligned_units=2, lam=0.5), ("Toy(sleepers=...)", "aligned_units")),
        (lambda: Plain(sleepers=3).aligned_units, 3, ("sleepers", "aligned_units")),
        (lambda: Toy(aligned_units=7).sleepers, 7, ("Toy.sleepers", "aligned_units")),
        (lambda: draw(1, law="uniform"), (1, "uniform"), ("draw(law=...)", "prior")),
        (lambda: look(1, level=0.5), 1, ("look(level=...)", "nobody asks")),
        (lambda: Network(latent="uniform").prior, "uniform", ("Network(latent=...)", "prior")),
    ]
    for call, expected, names in cases:
        found, (said,) = noted(call)
        assert found == expected and all(name in said for name in names), said
    toy, said = noted(lambda: Toy(sleepers=2, filling=0.1))
    assert (toy.aligned_units, toy.noise_scale, len(said)) == (2, 0.1, 2)
    toy, said = noted(lambda: replace(Toy(aligned_units=2), lam=3.0))
    assert said == [] and repr(toy) == "Toy(lam=3.0, aligned_units=2, noise_scale=0.0)"
    with pytest.raises(FrozenInstanceError):
        toy.lam = 1.0
    for wrong, names in (
        (lambda: Toy(sleepers=1, aligned_units=2), ("sleepers", "aligned_units")),
        (lambda: Toy(sleeper=1), ("'sleeper'", "lam, aligned_units, noise_scale")),
        (lambda: Toy(3), ("Toy", "lam=")),
        (lambda: Derived(sleepers=1), ("'sleepers'", "noise_scale, m")),
        (lambda: draw(1, law="uniform", prior="uniform"), ("law", "prior")),
    ):
        refuses(wrong, *names, error=TypeError)


def test_a_module_gives_a_member_by_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("toys")
    module.Outcome, module.__getattr__ = "outcome", renamed_members("toys", {"Cure": "Outcome", "Pi": "math:pi"})
    monkeypatch.setitem(sys.modules, "toys", module)
    for call, expected, old, new in (
        (lambda: module.Cure, "outcome", "toys.Cure", "toys.Outcome"),
        (lambda: round(module.Pi, 2), 3.14, "toys.Pi", "math.pi"),
    ):
        found, (said,) = noted(call)
        assert found == expected and old in said and new in said
    with pytest.raises(AttributeError, match="Cur"):
        _ = module.Cur


def test_the_names_of_version_0_1_still_work() -> None:
    """One of each kind."""
    olds: list[tuple[Callable[[], Any], Any]] = [
        (lambda: attacks.ReD(sleepers=2).aligned_units, 2),  # type: ignore[call-arg]
        (lambda: Disguise(filling=0.5).noise_scale, 0.5),  # type: ignore[call-arg]
        (lambda: NarrowReX(steps_clean=3).clean_iterations, 3),  # type: ignore[call-arg]
        (lambda: generators.DCGAN(latent="uniform").prior.name, "uniform"),  # type: ignore[call-arg]
        (lambda: generators.ARCHITECTURES["DCGAN"], generators.DCGAN),
        (lambda: generators.recipe_of(generators.DCGAN()), generators.Recipe()),
        (lambda: sanitize.Cure, sanitize.SanitizeOutcome),
        (lambda: steps.Turn, steps.TrainableSide),
    ]
    for old, expected in olds:
        with pytest.warns(DeprecationWarning, match="is called|now"):
            assert old() == expected
    point, ring = generators.PointGenerator(), data.ring(64)
    with pytest.warns(DeprecationWarning, match="iterations"):
        outcome = train_gan(point, ring, steps=2, batch_size=8, device="cpu", progress=False)
    assert outcome.settings["iterations"] == 2
