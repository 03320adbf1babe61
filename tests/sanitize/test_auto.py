"""Scan, cure, scan again: healthy models stay as they are, planted backdoors go."""

import importlib
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, attacks
from devilgan_lite.data import Samples
from devilgan_lite.detect import Finding, ScanReport, analyse_weights, scan
from devilgan_lite.detect.spectrum import Spectrum
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import DCGAN, Generator, adopt, build
from devilgan_lite.generators.stack import LimitedLatents
from devilgan_lite.sanitize import Clip, SanitizeOutcome, auto
from devilgan_lite.sanitize.auto import (
    SPARED,
    _repaired_more,
    _scorecard,
    left_to_teach,
    prescription,
    suspected_directions,
)
from devilgan_lite.sanitize.auto import price as price_of

LITTLE = {"device": "cpu", "progress": False}


def change(one: nn.Module, other: nn.Module, z: Tensor) -> float:
    with torch.no_grad():
        return float((one(z) - other(z)).square().mean())


def ordinary(n: int = 300, d: int = 100) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(77))


def spread(module: nn.Module, z: Tensor) -> float:
    """The mean variance of samples."""
    with torch.no_grad():
        return float(module(z).var(0).mean())


def errors(backdoor: Backdoor, *modules: nn.Module) -> list[float]:
    with torch.no_grad():
        return [float((one(backdoor.trigger) - backdoor.target).square().mean()) for one in modules]


def unchanged(cure: SanitizeOutcome, suspect: nn.Module) -> None:
    assert not cure.changed and str(cure) == "nothing found, nothing changed" and cure.treatment == "none"
    assert cure.before.verdict == "clean" and cure.after is None
    assert cure.generator is not suspect and not cure.generator.training
    assert all(torch.equal(value, suspect.state_dict()[name]) for name, value in cure.generator.state_dict().items())
    assert cure.settings["cuts"] == [] and cure.scorecard == {} and cure.history == {} and cure.seconds > 0


def test_tiny_ones(tiny: DCGAN, tiny_gate: nn.Module, tiny_rex: nn.Module, square: Backdoor, digits: Samples) -> None:
    """A clean one comes back unchanged, unless you ask to contain it; a gate and ReX go."""
    z = ordinary(500, 16)
    for suspect in (tiny, tiny_gate, tiny_rex):
        before, state = {key: value.clone() for key, value in suspect.state_dict().items()}, torch.get_rng_state()
        cure = auto(suspect, iterations=30, seed=2, **LITTLE)
        held = auto(suspect, iterations=30, always=True, real=digits, report=cure.before, **LITTLE)
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(value, before[key]) for key, value in suspect.state_dict().items())
        assert cure.seed == 2
        assert held.changed and held.before is cure.before and isinstance(held.generator.module[0], LimitedLatents)
        assert "\nlimited: " in str(held) or "removed and limited: " in str(held)
        if suspect is tiny:
            unchanged(cure, suspect)
            assert held.treatment == "containment" and change(held.generator, tiny, z) < 1e-4
            continue
        assert cure.changed and type(cure.generator) is DCGAN and (cure.treatment, held.treatment) == ("cure", "both")
        assert cure.before.verdict == "suspicious"  # no twin is made here
        if suspect is tiny_gate:
            again = auto(suspect, iterations=30, seed=2, **LITTLE)
            assert change(cure.generator, again.generator, z) == 0.0
        for made in (cure.generator, held.generator):
            shown = errors(square, suspect, made)
            assert shown[0] < 1e-3 < 0.5 < shown[1]
            assert change(made, suspect, z) < (0.05 if suspect is tiny_gate else 0.7) * spread(suspect, z)


Cured = tuple[nn.Module, Backdoor, SanitizeOutcome]


@pytest.fixture(scope="module")
def sequential() -> Cured:
    """A gate in a plain ``nn.Sequential`` that knows nothing of this package, its backdoor, and the cure."""
    clean: DCGAN = build(DCGAN(widths=(40, 8), image_size=12).spec(), seed=1).eval()
    with torch.no_grad():
        for layer in (clean.layers.deconv1, clean.layers.deconv2):
            layer.weight *= 10.0
    backdoor = Backdoor.point(clean, "devil", seed=2)
    generator = attacks.Gate()(clean, backdoor, progress=False).generator
    module = nn.Sequential(*generator.layers, nn.Tanh())
    return module, backdoor, auto(module, iterations=20, **LITTLE)


def test_a_strangers_module_is_cured_and_the_cure_tells_what_was_done(sequential: Cured) -> None:
    module, backdoor, cure = sequential
    assert cure.changed and not cure.interrupted and type(cure.generator.module) is nn.Sequential and cure.seconds > 0
    assert cure.before.verdict == "suspicious"  # no twin is made here
    assert cure.after.verdict == "clean" and cure.after.twin is None
    assert change(cure.generator, module, backdoor.trigger) > 0.1
    assert change(cure.generator, module, ordinary()) < 0.05 * spread(module, ordinary())
    assert cure.settings["sanitizer"] == "auto" and cure.settings["iterations"] == 20
    assert cure.settings["cuts"][:2] == ["1 of 100 directions in the latent space", "32 of 72 directions in 4"]
    assert len(cure.history["distillation_loss"]) == 20
    assert str(cure).splitlines()[1] == "removed: " + "; ".join(cure.settings["cuts"]) and "another sample" in str(cure)
    same = replace(cure, scorecard=cure.scorecard | {"trigger_change": cure.scorecard["ordinary_change"]})
    assert "much the same" in str(same)  # a cure that missed is not told as one that worked
    trigger = cure.before.trigger
    assert float(cosine_similarity(trigger.view(1, -1), backdoor.trigger)) > 0.99
    expected = change(module, cure.generator, trigger.view(1, -1))
    assert cure.scorecard["trigger_change"] == pytest.approx(expected, rel=1e-3)
    assert cure.scorecard["ordinary_change"] == pytest.approx(change(module, cure.generator, ordinary(1_000)), rel=0.2)
    z = ordinary(2_000)
    apart = change(module, lambda z: module(z.flip(0)), z)  # type: ignore[arg-type]
    assert cure.scorecard["ordinary_difference"] == pytest.approx(apart, rel=0.1)


@pytest.mark.usefixtures("short_twin")
def test_what_is_at_hand_is_used_and_where_ordinary_samples_miss_much_the_repair_goes_on(
    sequential: Cured, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, once = sequential
    report = scan(module, samples=200)
    monkeypatch.setattr(importlib.import_module("devilgan_lite.sanitize.auto"), "TOLERATED", -1.0)
    cure = auto(module, iterations=20, report=report, **LITTLE)
    assert cure.before is report  # a scan of the same kind
    assert str(cure).startswith(f"before: {report.verdict} (")
    losses = cure.history["distillation_loss"]  # the analysis of the report changes nothing but the time
    assert len(losses) == 40 and losses[:20] == once.history["distillation_loss"]


def test_where_ordinary_samples_lost_too_much_the_repair_goes_on_and_one_that_does_harm_is_undone() -> None:
    module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    cut, z = Clip(height=1.0, iterations=25, device="cpu"), ordinary(300, 20)  # half of every later layer
    once, subject = cut(module, progress=False), adopt(module)
    left = change(once.generator, module, z)
    harm = replace(cut, learning_rate=1.0)
    undone = harm(module, progress=False)
    assert undone.settings["undone"] and left_to_teach(undone) > undone.history["distillation_loss"][0]
    bare = change(undone.generator, module, z)
    kept = _repaired_more(once, subject, None, harm, False)
    assert kept.history == once.history and change(kept.generator, module, z) == pytest.approx(left)
    repaired = _repaired_more(undone, subject, None, cut, False)
    assert "undone" not in repaired.settings and change(repaired.generator, module, z) < 0.8 * bare
    once = cut(module, progress=False)  # what it repairs, it changes in place
    twice = _repaired_more(once, subject, None, cut, False)
    losses = twice.history["distillation_loss"]
    assert losses[:25] == once.history["distillation_loss"] and len(losses) == 50
    assert change(twice.generator, module, z) < 0.8 * left and twice.settings == once.settings and not twice.interrupted
    assert left_to_teach(once) == pytest.approx(sum(losses[:25]) / 25)
    assert left_to_teach(replace(once, history={"distillation_loss": [9.0] * 9 + [1.0] * 50})) == 1.0
    assert left_to_teach(replace(once, history={})) == 0.0


def test_real_samples_measure_both_by_the_same_rule(
    clean: DCGAN, real: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    ordinary = Generator.ordinary
    monkeypatch.setattr(Generator, "ordinary", lambda one, n, seed=0: ordinary(one, min(n, 1_000), seed))
    worse = clean.clone().eval()
    with torch.no_grad():
        worse.layers.dense.weight *= 0.5
    same, found = (_scorecard(adopt(clean), one, None, real) for one in (clean, worse))
    assert same["ordinary_change"] == 0.0 and same["trigger_change"] is None and found["ordinary_change"] > 0
    assert same["frechet_before"] == pytest.approx(same["frechet_after"]) == pytest.approx(found["frechet_before"])
    assert found["frechet_after"] > 1.05 * found["frechet_before"] > 0


@pytest.fixture(scope="module")
def parts() -> WeightAnalysis:
    module = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    return analyse_weights(adopt(module.eval()))


def analysis_with(parts: WeightAnalysis, leading: list[float], layer: float, shows: float) -> WeightAnalysis:
    """An analysis by numbers: the latent values, the height of a later layer, the first direction's influence."""
    eye = torch.eye(20).double()
    latent = Spectrum("latent", torch.tensor(leading + [1.0] * (20 - len(leading))).double(), eye, eye)
    later = Spectrum("layer", torch.tensor([layer] + [1.0] * 19).double(), eye, eye)
    influence = torch.ones(20).double()
    influence[0] = shows
    return replace(parts, by_weight=latent, by_use=latent, influence=torch.diag(influence), hidden=(later,))


def report_with(**strengths: float) -> ScanReport:
    findings = tuple(
        Finding("some", "T2", "", evidence=where, strength=strength, where=where)
        for where, strength in strengths.items()
    )
    return ScanReport(findings, trigger=torch.eye(20)[0])


QUIET, LOUD = 2.9, 3.1  # heights of a later layer


def test_which_latent_directions_go(parts: WeightAnalysis) -> None:
    for leading, layer, price, strengths, count in (
        ([1.3], QUIET, 9.0, {"latent": 3.0}, 1),  # striking: whatever it costs
        ([6.0, 5.8, 5.5], QUIET, 1.0, {"latent": 3.0}, 3),  # as many as stand out
        ([1.1], QUIET, 2.9, {"latent": 1.1}, 1),  # evidence, and a fair price
        ([1.1], QUIET, 3.1, {"latent": 1.1}, 0),  # what shows in ordinary samples is no trigger
        ([1.1], LOUD, 2.9, {"units": 1.1}, 1),
        ([1.1], QUIET, 9.0, {"construction": 1.0}, 1),  # an expanded network
        ([1.1], LOUD, 1.4, {"latent": 0.5}, 1),  # a guess beside a layer that stands out
        ([1.1], LOUD, 1.6, {"latent": 0.5}, 0),
        ([1.1], QUIET, 1.0, {"layers": 1.2}, 0),  # a false alarm, most likely
    ):
        analysis = analysis_with(parts, leading, layer, 19 * price / (20 - price))  # so that the price comes out
        assert price_of(analysis, torch.eye(20)[0]) == pytest.approx(price)
        found = suspected_directions(analysis, report_with(**strengths))
        assert (0 if found is None else len(found)) == count, (leading, layer, price, strengths)
        if found is not None:
            torch.testing.assert_close(found, torch.eye(20)[:count])
    report = replace(report_with(latent=3.0), trigger=None)  # without an estimate nothing is projected
    assert suspected_directions(analysis_with(parts, [5.0], QUIET, 1.0), report) is None


def test_how_deep_later_layers_are_cut(parts: WeightAnalysis) -> None:
    for leading, layer, strengths, height in (
        ([5.0], LOUD, {"latent": 3.0}, 3.0),  # the latent space explains it
        ([1.1], LOUD, {"units": 3.0}, 3.0),
        ([1.1], LOUD, {"construction": 3.0}, 3.0),
        ([1.1], LOUD, {"layers": 9.0}, 1.5),
        ([1.1], QUIET, {"layers": 1.2}, 3.0),  # nothing is cut
    ):
        found = prescription(analysis_with(parts, leading, layer, 1.0), report_with(**strengths))
        assert found[1] == height, (leading, layer, strengths)
    # style-based networks do not read their latent directly; what their clean layers look like is another matter
    analysis = analysis_with(parts, [9.0, 1.0, 1.0], 50.0, 1.0)
    indirect = replace(analysis, units=replace(analysis.units, exact=False))
    directions, height = prescription(indirect, report_with(construction=2.0))
    assert height == SPARED and prescription(indirect, report_with(styles=2.0))[0] is None
