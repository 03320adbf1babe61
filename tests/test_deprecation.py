"""Old names work for one version, say what they are called now, and point to the line that uses them."""

import sys
import types
import warnings
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest

from devilgan_lite.checks import Settings
from devilgan_lite.deprecation import renamed, renamed_attribute, renamed_members


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


class Network:
    @renamed(latent="prior")
    def __init__(self, prior: str = "gaussian") -> None:
        self.prior = prior


def noted(call: Any) -> tuple[Any, list[str]]:
    """What ``call()`` returns, and its warnings, all of which must point to this file."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = call()
    assert all(one.category is DeprecationWarning and one.filename == __file__ for one in found)
    return result, [str(one.message) for one in found]


GOES = "the old name goes in the next version."


def test_settings_take_an_old_keyword() -> None:
    toy, said = noted(lambda: Toy(sleepers=2, lam=0.5))
    assert toy == Toy(aligned_units=2, lam=0.5)
    assert said == [f"Toy(sleepers=...) is called aligned_units now; {GOES}"]
    toy, said = noted(lambda: Toy(sleepers=2, filling=0.1))
    assert (toy.aligned_units, toy.noise_scale, len(said)) == (2, 0.1, 2)
    assert noted(lambda: Plain(sleepers=3))[0].aligned_units == 3


def test_new_keywords_are_silent_and_settings_stay_frozen() -> None:
    toy, said = noted(lambda: replace(Toy(aligned_units=2), lam=3.0))
    assert said == [] and repr(toy) == "Toy(lam=3.0, aligned_units=2, noise_scale=0.0)"
    with pytest.raises(FrozenInstanceError):
        toy.lam = 1.0


def test_an_old_attribute_reads_the_new_one() -> None:
    units, said = noted(lambda: Toy(aligned_units=7).sleepers)
    assert units == 7 and said == [f"Toy.sleepers is called aligned_units now; {GOES}"]


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: Toy(sleepers=1, aligned_units=2), "sleepers is the old name of aligned_units; give one of them."),
        (lambda: Toy(sleeper=1), "Toy has no setting 'sleeper'; valid: lam, aligned_units, noise_scale."),
        (lambda: Toy(3), "Toy takes keyword arguments only, such as lam=..."),
        (lambda: Derived(sleepers=1), "Derived has no setting 'sleepers'; valid: lam, aligned_units, noise_scale, m."),
        (lambda: draw(1, law="uniform", prior="uniform"), "law is the old name of prior; give one of them."),
    ],
)
def test_what_is_wrong_is_one_sentence(call: Any, sentence: str) -> None:
    with pytest.raises(TypeError) as refused:
        call()
    assert str(refused.value) == sentence


def test_functions_and_constructors_take_an_old_keyword() -> None:
    assert noted(lambda: draw(1, law="uniform")) == ((1, "uniform"), [f"draw(law=...) is called prior now; {GOES}"])
    network, said = noted(lambda: Network(latent="uniform"))
    assert network.prior == "uniform" and said == [f"Network(latent=...) is called prior now; {GOES}"]


def test_a_module_gives_a_member_by_its_old_name(monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = types.ModuleType("toys")
    module.Outcome, module.__getattr__ = "outcome", renamed_members("toys", {"Cure": "Outcome", "Pi": "math:pi"})
    monkeypatch.setitem(sys.modules, "toys", module)
    assert noted(lambda: module.Cure) == ("outcome", [f"toys.Cure is called toys.Outcome now; {GOES}"])
    assert noted(lambda: module.Pi)[1] == [f"toys.Pi is called math.pi now; {GOES}"]
    with pytest.raises(AttributeError, match="module 'toys' has no attribute 'Cur'"):
        _ = module.Cur


def test_the_names_of_version_0_1_still_work() -> None:
    """One of each kind."""
    from devilgan_lite import attacks, data, generators, sanitize, steps, train_gan
    from devilgan_lite.attacks.adaptive import Disguise, NarrowReX

    olds: list[tuple[Any, Any]] = [
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
