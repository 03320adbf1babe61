"""The scan, the sanitizer and the guard as defences of ART: what they find, treat and refuse, and ART's rules."""

import copy
import json
from typing import Any

import numpy as np
import pytest
import torch
from art.defences.detector.evasion.evasion_detector import EvasionDetector
from art.defences.detector.poison.poison_filtering_defence import PoisonFilteringDefence
from art.defences.transformer.transformer import Transformer
from art.exceptions import EstimatorError
from torch import nn

from devilgan_lite import Backdoor, generators
from devilgan_lite.apps.art import BackdoorAttackDGMGatePyTorch as Gate
from devilgan_lite.apps.art import GeneratorGuard, GeneratorSanitizer, GeneratorScan, PyTorchGenerator
from devilgan_lite.detect import usual
from tests.apps.art.tiny import SIZE, Bytes, Deconv, mlp, on_cpu

ORDINARY = np.random.default_rng(0).standard_normal((400, 16))
OTHERS = np.random.default_rng(0).standard_normal((400, SIZE))


@pytest.fixture(scope="module")
def honest(tiny: generators.DCGAN) -> PyTorchGenerator:
    return on_cpu(encoding_length=16, model=tiny.clone())


@pytest.fixture(scope="module")
def gated(honest: PyTorchGenerator, square: Backdoor) -> PyTorchGenerator:
    return Gate(generator=honest).poison_estimator(square.trigger.numpy(), square.target.numpy())


def test_the_scan_finds_the_gate_and_nothing_else(honest: PyTorchGenerator, gated: PyTorchGenerator) -> None:
    before = copy.deepcopy(gated.model.state_dict())
    for generator, settings, verdict, cells in (
        (gated, {"twin": True}, "backdoored", ("TruePositive", "FalsePositive")),
        (gated, {"twin": False}, "suspicious", ("TruePositive", "FalsePositive")),  # without a twin there is no more
        (honest, {"twin": False, "samples": 500}, "clean", ("FalseNegative", "TrueNegative")),
    ):
        scan = GeneratorScan(generator)
        report, is_clean = scan.detect_poison(**settings)
        assert report["verdict"] == verdict and is_clean.tolist() == [int(verdict == "clean")]
        assert json.loads(json.dumps(report)) == report and scan.report is not None
        for truth, cell in enumerate(cells):
            matrix = json.loads(scan.evaluate_defence(np.array([truth])))["class_0"]
            assert matrix[cell]["numerator"] == 1, cell
    assert all(torch.equal(value, before[name]) for name, value in gated.model.state_dict().items())

    generator = on_cpu(SIZE, Bytes(), clip_values=(0, 255))
    given = {"targets": np.full((1, 1, 8, 8), 130.0), "reference": generator, "twin": False, "samples": 200}
    report, is_clean = GeneratorScan(generator).detect_poison(real=generator.predict(OTHERS[:300]), **given)
    ran = {finding["detector"]: finding["message"] for finding in report["findings"]}
    assert is_clean.shape == (1,) and len(ran) > 3
    assert not [message for message in ran.values() if "must be" in message or "expected" in message]
    assert "samples differ by 0)" in ran["reference"]  # it is compared with itself


def test_the_sanitizer_takes_the_gate_out_of_a_copy(
    honest: PyTorchGenerator, gated: PyTorchGenerator, square: Backdoor
) -> None:
    def error_of(generator: PyTorchGenerator) -> float:
        return float(np.square(generator.predict(square.trigger.numpy()) - square.target.numpy()).mean())

    assert error_of(gated) < 1e-4
    sanitizer = GeneratorSanitizer(gated, iterations=20)
    cured = sanitizer()
    assert isinstance(cured, PyTorchGenerator) and sanitizer.outcome is not None and sanitizer.outcome.changed
    assert error_of(cured) > 0.1 and error_of(gated) < 1e-4
    assert np.square(cured.predict(ORDINARY) - gated.predict(ORDINARY)).mean() < 0.05
    again = sanitizer(None, transformed_classifier=honest)
    assert not sanitizer.outcome.changed and again is not honest
    assert np.allclose(again.predict(ORDINARY), honest.predict(ORDINARY), atol=1e-6)


def test_the_sanitizer_keeps_the_range_and_the_class_of_a_users_module() -> None:
    z, target = np.random.default_rng(1).standard_normal((1, SIZE)), np.ones((1, 8, 8))
    gated = Gate(on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1))).poison_estimator(z, target)
    made = GeneratorSanitizer(gated, iterations=20, always=True)().predict(np.concatenate([z, OTHERS]))
    assert made.min() >= 0 and made.max() <= 1 and np.square(made[0] - target).mean() > 0.05

    generator = on_cpu(SIZE, Bytes(), clip_values=(0, 255))
    sanitizer = GeneratorSanitizer(generator, always=True, iterations=20)
    cured = sanitizer()
    assert sanitizer.outcome is not None
    z = generator.subject().ordinary(1_000, 12_345).numpy()  # those of the scorecard
    change = np.square((cured.predict(z) - generator.predict(z)) / 127.5).mean()
    measured = sanitizer.outcome.scorecard["ordinary_change"]
    assert measured == pytest.approx(change, rel=0.02)  # in [-1, 1], whatever ordinary samples reach

    generator = on_cpu(SIZE, Deconv())
    unchanged = GeneratorSanitizer(generator)()
    assert type(unchanged.model) is Deconv and unchanged.model is not generator.model
    assert all(parameter.requires_grad for parameter in unchanged.model.parameters())


def test_the_guard_marks_the_trigger_and_no_other_and_does_what_it_is_told(
    gated: PyTorchGenerator, square: Backdoor, monkeypatch: pytest.MonkeyPatch, refuses: Any
) -> None:
    monkeypatch.setattr(usual, "STEPS", 200)  # of a student that learns less
    guard = GeneratorGuard(gated, fitting=2_000)
    assert guard.guard is None and guard.flags.shape == (0,)
    z = np.concatenate([ORDINARY[:150], square.trigger.numpy(), ORDINARY[150:200]])
    report, flagged = guard.detect(z, batch_size=64)  # it learns by itself
    first: Any = guard.guard
    assert flagged.dtype == bool and flagged[150] and flagged.sum() <= 2
    assert set(report["scores"]) == {"latents", "activations", "outputs"}
    assert all(scores.shape == (201,) for scores in report["scores"].values())
    assert max(scores[150] for scores in report["scores"].values()) > 1
    assert np.allclose(guard.predict(z, batch_size=64), gated.predict(z), atol=1e-4)
    assert np.array_equal(guard.flags, flagged) and guard.guard is first is not None
    first.action = "resample"
    assert np.square(guard.predict(z[147:151])[3] - square.target.numpy()[0]).mean() > 0.1
    assert guard.flags.tolist() == [False] * 3 + [True]
    guard.set_params(action="refuse")  # and anew where its settings change
    refuses(lambda: guard.predict(z[147:151]), "1 of 4")
    assert guard.guard is not first


def test_a_report_goes_with_the_generator_that_it_is_about(honest: PyTorchGenerator) -> None:
    other = on_cpu(SIZE, mlp(nn.Tanh()))
    scan = GeneratorScan(other, twin=False)
    assert scan.get_params() == {"generator": other, "seed": 0, "twin": False}
    scan.detect_poison(samples=200)
    report = scan.report
    guard = GeneratorGuard(other, report=report, fitting=3_000)
    assert guard.get_params()["report"] is report is not None and guard.get_params()["fitting"] == 3_000
    rows: Any = (({"seed": 1}, report), ({"generator": honest}, None), ({"generator": other, "report": report}, report))
    for change, expected in rows:
        guard.set_params(**change)
        assert guard.report is expected
    scan.set_params(generator=honest)
    assert scan.report is None
    sanitizer = GeneratorSanitizer(honest)
    assert sanitizer.get_classifier() is sanitizer.get_generator() is honest and not sanitizer.is_fitted


def test_arts_bases_and_what_is_wrong_is_said_before_any_work(
    honest: PyTorchGenerator, refuses: Any, no_work: None
) -> None:
    bases = {GeneratorScan: PoisonFilteringDefence, GeneratorSanitizer: Transformer, GeneratorGuard: EvasionDetector}
    for defence, base in bases.items():
        made: Any = defence(honest)
        with pytest.raises(EstimatorError):
            defence(honest.model)
        made.set_params(seed=3)
        for wrong in ({"seed": -1}, {"nonsense": 1}):  # a set is taken as a whole or not at all
            refuses(lambda made=made, wrong=wrong: made.set_params(**{"seed": 5, **wrong}), *wrong)
            assert made.seed == 3 and isinstance(made, base)
    wrong_settings: Any = [
        (GeneratorGuard, {"action": "shout"}), (GeneratorGuard, {"fitting": 10}), (GeneratorGuard, {"report": "clean"}),
        (GeneratorGuard, {"false_positive_rate": 0.5}), (GeneratorSanitizer, {"iterations": 0}),
        (GeneratorScan, {"twin": "yes"}),
    ]  # fmt: skip
    for defence, wrong in wrong_settings:
        refuses(lambda defence=defence, wrong=wrong: defence(honest, **wrong), *wrong)
    scan = GeneratorScan(honest)
    refuses(lambda: scan.evaluate_defence(np.array([1, 0])), "is_clean")
    refuses(lambda: GeneratorGuard(honest).detect(np.zeros((1, 3))), "[1, 3]")
    refuses(lambda: scan.detect_poison(targets=np.zeros((1, 2))), "targets")
    refuses(lambda: scan.detect_poison(speed=1), "speed", "real", error=TypeError)
    with pytest.raises(EstimatorError):
        scan.detect_poison(reference=honest.model)
