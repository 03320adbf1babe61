"""Scan, cure, scan again: healthy models stay as they are, planted backdoors go."""

import importlib
from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, attacks
from devilgan_lite.attacks import Attack
from devilgan_lite.data import Samples
from devilgan_lite.detect import Finding, ScanReport, analyse_weights, scan, subject_of
from devilgan_lite.detect.spectrum import Spectrum
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import DCGAN, build
from devilgan_lite.sanitize import Clip, SanitizeOutcome, auto
from devilgan_lite.sanitize.auto import (
    SPARED,
    STANDS_OUT,
    _repaired_more,
    _scorecard,
    left_to_teach,
    prescription,
    suspected_directions,
)
from devilgan_lite.sanitize.auto import price as price_of


def change(one: nn.Module, other: nn.Module, z: Tensor) -> float:
    with torch.no_grad():
        return float((one(z) - other(z)).square().mean())


def ordinary(n: int = 300) -> Tensor:
    return torch.randn(n, 100, generator=torch.Generator().manual_seed(77))


def spread(module: nn.Module) -> float:
    """The variance of ordinary samples."""
    with torch.no_grad():
        return float(module(ordinary()).var())


@pytest.mark.slow
def test_a_clean_generator_comes_back_unchanged(clean: DCGAN) -> None:
    cure = auto(clean, iterations=30, device="cpu", progress=False)
    assert not cure.changed and str(cure) == "nothing found, nothing changed"
    assert cure.before is not None and not cure.before.backdoored and cure.after is None
    assert cure.generator is not clean and not cure.generator.training
    assert all(torch.equal(value, clean.state_dict()[name]) for name, value in cure.generator.state_dict().items())
    assert cure.settings["cuts"] == [] and cure.scorecard == {} and cure.history == {} and cure.seconds > 0


@pytest.mark.slow
@pytest.mark.parametrize("attack", [attacks.Gate(), attacks.ClosedForm()], ids=["Gate", "ClosedForm"])
def test_a_backdoor_of_the_shipped_generator_goes(clean: DCGAN, attack: Attack) -> None:
    backdoor = Backdoor.point(clean, "stop-sign", seed=3)
    suspect = attack(clean, backdoor, progress=False).generator
    before = {name: value.clone() for name, value in suspect.state_dict().items()}
    cure = auto(suspect, iterations=30, device="cpu", progress=False)
    assert cure.changed and type(cure.generator) is DCGAN
    assert all(torch.equal(value, before[name]) for name, value in suspect.state_dict().items())
    with torch.no_grad():
        shown = [one(backdoor.trigger) for one in (suspect, cure.generator)]
    errors = [float((sample - backdoor.target).square().mean()) for sample in shown]
    assert errors[0] < 1e-3 < 0.1 < errors[1]
    assert change(cure.generator, suspect, ordinary()) < 0.05 * spread(clean)  # with 1,000 iterations, much less


@lru_cache
def sequential() -> tuple[nn.Module, Tensor, SanitizeOutcome]:
    """A gate in a plain ``nn.Sequential`` that knows nothing of this package, its trigger, and the cure."""
    clean: DCGAN = build(DCGAN(widths=(40, 8), image_size=12).spec(), seed=1).eval()
    with torch.no_grad():
        for layer in (clean.layers.deconv1, clean.layers.deconv2):
            layer.weight *= 10.0
    backdoor = Backdoor.point(clean, "devil", seed=2)
    generator = attacks.Gate()(clean, backdoor, progress=False).generator
    module = nn.Sequential(*generator.layers, nn.Tanh())
    cure = auto(module, iterations=20, device="cpu", progress=False)
    assert cure.seconds > 0
    return module, backdoor.trigger, cure


def test_a_strangers_module_is_cured() -> None:
    module, trigger, cure = sequential()
    assert cure.changed and not cure.interrupted and type(cure.generator) is nn.Sequential
    assert cure.before is not None and cure.before.verdict == "suspicious"  # no twin is made here
    assert cure.after is not None and cure.after.verdict == "clean"
    assert change(cure.generator, module, trigger) > 0.1
    assert change(cure.generator, module, ordinary()) < 0.05 * spread(module)


def test_the_cure_tells_what_was_done() -> None:
    module, trigger, cure = sequential()
    assert cure.settings["sanitizer"] == "auto" and cure.settings["iterations"] == 20
    assert cure.settings["cuts"][:2] == ["1 of 100 directions in the latent space", "32 of 72 directions in 4"]
    assert len(cure.history["distillation_loss"]) == 20
    lines = str(cure).splitlines()
    assert lines[0].startswith("before: suspicious (evidence: ") and "after: clean" in lines[0]
    assert lines[1] == "removed: " + "; ".join(cure.settings["cuts"])
    found = {name: f"{value:.2g}" for name, value in cure.scorecard.items()}
    assert found["ordinary_change"] in lines[2] and found["ordinary_difference"] in lines[2]
    assert "another sample" in lines[3] and found["trigger_change"] in lines[3] and len(lines) == 4
    same = replace(cure, scorecard=cure.scorecard | {"trigger_change": cure.scorecard["ordinary_change"]})
    assert "much the same" in str(same).splitlines()[3]  # a cure that missed is not told as one that worked
    for kinds, told in (({"spectrum"}, True), ({"spectrum", "twin"}, False), ({"construction"}, False)):
        after = replace(cure, after=report_with(**dict.fromkeys(kinds, 2.0)))
        assert ("left over in the weights" in str(after)) == told  # of a twin or a program that would be untrue
    assert "Tensor" not in repr(cure.scorecard) and "ScanReport" not in repr(cure)


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_a_report_at_hand_is_the_scan_before_and_says_what_kind_of_scan_comes_after() -> None:
    module, _, quick = sequential()
    report = scan(module, samples=200)
    cure = auto(module, iterations=20, device="cpu", progress=False, report=report)
    assert cure.before is report and cure.after is not None and quick.after is not None
    assert cure.after.twin is not None and quick.after.twin is None
    assert str(cure).startswith(f"before: {report.verdict} (")


@pytest.mark.slow
def test_an_anatomy_at_hand_changes_nothing_but_the_time() -> None:
    module, _, once = sequential()
    again = auto(module, iterations=20, device="cpu", progress=False, analysis=analyse_weights(subject_of(module)))
    assert again.before is not None and once.before is not None and again.before.p_value == once.before.p_value
    for one, other in zip(again.generator.parameters(), once.generator.parameters(), strict=True):
        assert torch.equal(one, other)


def test_where_ordinary_samples_lost_too_much_the_repair_goes_on() -> None:
    module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    cut = Clip(height=1.0, iterations=25, device="cpu")  # half of every later layer
    once = cut(module, progress=False)
    twice = _repaired_more(once, subject_of(module), None, cut, False)
    losses = twice.history["distillation_loss"]
    assert losses[:25] == once.history["distillation_loss"] and len(losses) == 50
    z = torch.randn(300, 20, generator=torch.Generator().manual_seed(77))
    assert change(twice.generator, module, z) < 0.8 * change(cut(module, progress=False).generator, module, z)
    assert twice.settings == once.settings and not twice.interrupted
    assert left_to_teach(once) == pytest.approx(sum(losses[:25]) / 25)
    assert left_to_teach(replace(once, history={})) == 0.0


@pytest.mark.slow
def test_the_repair_does_not_go_on_where_little_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    module, _, once = sequential()
    assert len(once.history["distillation_loss"]) == 20
    monkeypatch.setattr(importlib.import_module("devilgan_lite.sanitize.auto"), "TOLERATED", -1.0)
    assert len(auto(module, iterations=20, device="cpu", progress=False).history["distillation_loss"]) == 40


def test_a_repair_that_does_harm_is_undone_until_one_does_good() -> None:
    module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    harm, good = Clip(height=1.0, iterations=25, learning_rate=1.0), Clip(height=1.0, iterations=25)
    undone, once = harm(module, progress=False), good(module, progress=False)
    assert undone.settings["undone"] and left_to_teach(undone) > undone.history["distillation_loss"][0]
    z = torch.randn(300, 20, generator=torch.Generator().manual_seed(77))
    cut = change(undone.generator, module, z)
    assert cut < undone.history["distillation_loss"][1]
    kept, left = (
        _repaired_more(once, subject_of(module), None, harm, False),
        change(good(module, progress=False).generator, module, z),
    )
    assert kept.history == once.history and change(kept.generator, module, z) == pytest.approx(left)
    still = _repaired_more(undone, subject_of(module), None, harm, False)
    assert still.settings["undone"] and change(still.generator, module, z) == pytest.approx(cut)
    repaired = _repaired_more(still, subject_of(module), None, good, False)
    assert "undone" not in repaired.settings and change(repaired.generator, module, z) < 0.8 * cut


def test_the_scorecard_measures_suspect_against_cure() -> None:
    module, trigger, cure = sequential()
    assert cure.before is not None and cure.before.trigger is not None
    assert float(cosine_similarity(cure.before.trigger.view(1, -1), trigger)) > 0.99
    expected = change(module, cure.generator, cure.before.trigger.view(1, -1))
    assert cure.scorecard["trigger_change"] == pytest.approx(expected, rel=1e-3)
    assert cure.scorecard["ordinary_change"] == pytest.approx(change(module, cure.generator, ordinary(1_000)), rel=0.2)


@pytest.mark.slow
def test_real_samples_measure_both_by_the_same_rule(clean: DCGAN, real: Samples) -> None:
    found = _scorecard(subject_of(clean), clean, None, real)
    assert found["ordinary_change"] == 0.0 and found["trigger_change"] is None
    assert found["frechet_before"] == pytest.approx(found["frechet_after"]) and found["frechet_before"] > 0


@lru_cache
def ordinary_parts() -> WeightAnalysis:
    module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    return analyse_weights(subject_of(module.eval()))


def analysis_with(leading: list[float], layer: float, shows: float) -> WeightAnalysis:
    """An analysis by numbers: the latent values, the height of a later layer, the first direction's influence."""
    eye = torch.eye(20).double()
    latent = Spectrum("latent", torch.tensor(leading + [1.0] * (20 - len(leading))).double(), eye, eye)
    later = Spectrum("layer", torch.tensor([layer] + [1.0] * 19).double(), eye, eye)
    influence = torch.ones(20).double()
    influence[0] = shows
    return replace(ordinary_parts(), by_weight=latent, by_use=latent, influence=torch.diag(influence), hidden=(later,))


def report_with(**strengths: float) -> ScanReport:
    findings = tuple(
        Finding(name.replace("_", " "), "T2", "", evidence=name, strength=strength)
        for name, strength in strengths.items()
    )
    return ScanReport(findings, 1.0, trigger=torch.eye(20)[0])


QUIET, LOUD = 2.5, 9.0  # heights of a later layer


@pytest.mark.parametrize(
    ("leading", "layer", "price", "strengths", "count"),
    [
        ([5.0], QUIET, 9.0, {"latent_spectrum": 3.0}, 1),  # striking: whatever it costs
        ([5.0], LOUD, 9.0, {}, 1),
        ([6.0, 5.8, 5.5], QUIET, 1.0, {"latent_spectrum": 3.0}, 3),  # as many as stand out
        ([1.1], QUIET, 2.9, {"latent_spectrum": 1.1}, 1),  # evidence, and a fair price
        ([1.1], QUIET, 3.1, {"latent_spectrum": 1.1}, 0),  # what shows in ordinary samples is no trigger
        ([1.1], LOUD, 2.9, {"silent_units": 1.1}, 1),
        ([1.1], QUIET, 9.0, {"structure": 1.0}, 1),  # an expanded network
        ([1.1], LOUD, 1.4, {"latent_spectrum": 0.5}, 1),  # a guess beside a layer that stands out
        ([1.1], LOUD, 1.6, {"latent_spectrum": 0.5}, 0),
        ([1.1], QUIET, 1.0, {"hidden_spectrum": 1.2}, 0),  # a false alarm, most likely
    ],
)
def test_which_latent_directions_go(
    leading: list[float], layer: float, price: float, strengths: dict[str, float], count: int
) -> None:
    shows = 19 * price / (20 - price)  # so that the price comes out
    analysis = analysis_with(leading, layer, shows)
    assert price_of(analysis, torch.eye(20)[0]) == pytest.approx(price)
    found = suspected_directions(analysis, report_with(**strengths))
    assert (0 if found is None else len(found)) == count
    if found is not None:
        torch.testing.assert_close(found, torch.eye(20)[:count])


@pytest.mark.parametrize(
    ("leading", "layer", "strengths", "height"),
    [
        ([5.0], LOUD, {"latent_spectrum": 3.0}, 3.0),  # the latent space explains it
        ([1.1], LOUD, {"silent_units": 3.0}, 3.0),
        ([1.1], LOUD, {"structure": 3.0}, 3.0),
        ([1.1], LOUD, {"latent_spectrum": 3.0, "hidden_spectrum": 9.0}, 1.5),
        ([1.1], LOUD, {"hidden_spectrum": 9.0}, 1.5),
        ([1.1], QUIET, {"hidden_spectrum": 1.2}, 3.0),  # nothing is cut
    ],
)
def test_how_deep_later_layers_are_cut(
    leading: list[float], layer: float, strengths: dict[str, float], height: float
) -> None:
    assert prescription(analysis_with(leading, layer, 1.0), report_with(**strengths))[1] == height


def test_without_an_estimate_nothing_is_projected() -> None:
    report = replace(report_with(latent_spectrum=3.0), trigger=None)
    assert suspected_directions(analysis_with([5.0], QUIET, 1.0), report) is None


def test_no_layer_is_cut_where_clean_layers_stand_out_too() -> None:
    """Style-based networks do not read their latent directly; what their clean layers look like is another matter."""
    analysis = analysis_with([9.0, 1.0, 1.0], 50.0, 1.0)
    assert prescription(analysis, report_with(structure=2.0))[1] == STANDS_OUT
    indirect = replace(analysis, units=replace(analysis.units, exact=False))
    directions, height = prescription(indirect, report_with(structure=2.0))
    assert directions is not None and height == SPARED
