"""The scan, the sanitizer and the guard as defences of ART: what they find, treat and refuse, and ART's rules."""

import copy
import json
from collections.abc import Callable
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
from devilgan_lite.detect import usual
from devilgan_lite.interop.art import (
    BackdoorAttackDGMGatePyTorch,
    GeneratorGuard,
    GeneratorSanitizer,
    GeneratorScan,
    PyTorchGenerator,
)
from tests.interop.tiny import SIZE, Bytes, Deconv, mlp, on_cpu

ORDINARY = np.random.default_rng(0).standard_normal((400, 16))
OTHERS = np.random.default_rng(0).standard_normal((400, SIZE))


@pytest.fixture(scope="module")
def honest(tiny: generators.DCGAN) -> PyTorchGenerator:
    return on_cpu(encoding_length=16, model=tiny.clone())


@pytest.fixture(scope="module")
def gated(honest: PyTorchGenerator, square: Backdoor) -> PyTorchGenerator:
    attack = BackdoorAttackDGMGatePyTorch(generator=honest)
    return attack.poison_estimator(square.trigger.numpy(), square.target.numpy())


def error_at(generator: PyTorchGenerator, backdoor: Backdoor) -> float:
    made = generator.predict(backdoor.trigger.numpy())
    return float(np.square(made - backdoor.target.numpy()).mean())


def test_the_scan_finds_the_gate_that_the_attack_planted_and_calls_the_clean_one_clean(
    honest: PyTorchGenerator, gated: PyTorchGenerator
) -> None:
    before = copy.deepcopy(gated.model.state_dict())
    scan = GeneratorScan(gated)
    report, is_clean = scan.detect_poison()
    assert report["verdict"] == "backdoored" and is_clean.tolist() == [0]
    assert json.loads(json.dumps(report)) == report and scan.report is not None
    assert all(torch.equal(value, before[name]) for name, value in gated.model.state_dict().items())
    assert json.loads(scan.evaluate_defence(np.array([0])))["class_0"]["TruePositive"]["numerator"] == 1
    assert json.loads(scan.evaluate_defence(np.array([1])))["class_0"]["FalsePositive"]["numerator"] == 1
    report, is_clean = scan.detect_poison(twin=False)  # without a twin nothing is called more than suspicious
    assert report["verdict"] == "suspicious" and is_clean.tolist() == [0]
    scan = GeneratorScan(honest, twin=False)
    report, is_clean = scan.detect_poison(samples=500)
    assert report["verdict"] == "clean" and is_clean.tolist() == [1]
    assert json.loads(scan.evaluate_defence(np.array([1])))["class_0"]["TrueNegative"]["numerator"] == 1


def test_the_sanitizer_takes_the_gate_out_of_a_copy(
    honest: PyTorchGenerator, gated: PyTorchGenerator, square: Backdoor
) -> None:
    assert error_at(gated, square) < 1e-4
    sanitizer = GeneratorSanitizer(gated, iterations=20)
    cured = sanitizer()
    assert isinstance(cured, PyTorchGenerator) and sanitizer.outcome is not None and sanitizer.outcome.changed
    assert error_at(cured, square) > 0.1 and error_at(gated, square) < 1e-4
    assert np.square(cured.predict(ORDINARY) - gated.predict(ORDINARY)).mean() < 0.05
    again = sanitizer(None, transformed_classifier=honest)
    assert not sanitizer.outcome.changed and again is not honest
    assert np.allclose(again.predict(ORDINARY), honest.predict(ORDINARY), atol=1e-6)


def test_the_sanitizer_keeps_the_range_and_the_class_of_a_users_module() -> None:
    generator = on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1))
    z, target = np.random.default_rng(1).standard_normal((1, SIZE)), np.ones((1, 8, 8))
    gated = BackdoorAttackDGMGatePyTorch(generator).poison_estimator(z, target)
    cured = GeneratorSanitizer(gated, iterations=20, always=True)()
    made = cured.predict(np.concatenate([z, OTHERS]))
    assert made.min() >= 0 and made.max() <= 1
    assert np.square(made[0] - target).mean() > 0.05

    generator = on_cpu(SIZE, Bytes(), clip_values=(0, 255))
    sanitizer = GeneratorSanitizer(generator, always=True, iterations=20)
    cured = sanitizer()
    assert sanitizer.outcome is not None
    z = generator.subject().latents(1_000, 12_345).numpy()  # those of the scorecard
    change = np.square((cured.predict(z) - generator.predict(z)) / 127.5).mean()
    measured = sanitizer.outcome.scorecard["ordinary_change"]
    assert measured == pytest.approx(change, rel=0.02)  # in [-1, 1], whatever ordinary samples reach

    generator = on_cpu(SIZE, Deconv())
    sanitizer = GeneratorSanitizer(generator)
    unchanged = sanitizer()
    assert sanitizer.outcome is not None and not sanitizer.outcome.changed
    assert type(unchanged.model) is Deconv and unchanged.model is not generator.model
    assert all(parameter.requires_grad for parameter in unchanged.model.parameters())


def test_the_guard_marks_the_trigger_and_no_other_and_does_about_it_what_it_is_told(
    gated: PyTorchGenerator, square: Backdoor, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    monkeypatch.setattr(usual, "STEPS", 200)  # of a student that learns less
    guard = GeneratorGuard(gated, fitting=2_000)
    guard.fit()
    z = np.concatenate([ORDINARY[:150], square.trigger.numpy(), ORDINARY[150:200]])
    report, flagged = guard.detect(z, batch_size=64)
    assert flagged.dtype == bool and flagged[150] and flagged.sum() <= 2
    assert set(report["scores"]) == {"latents", "activations", "outputs"}
    assert all(scores.shape == (201,) for scores in report["scores"].values())
    assert max(scores[150] for scores in report["scores"].values()) > 1
    assert np.allclose(guard.predict(z, batch_size=64), gated.predict(z), atol=1e-4)
    assert np.array_equal(guard.flags, flagged)
    inner: Any = guard.guard
    inner.action = "refuse"
    refuses(lambda: guard.predict(z[147:151]), "1 of 4")
    inner.action = "resample"
    assert np.square(guard.predict(z[147:151])[3] - square.target.numpy()[0]).mean() > 0.1
    assert guard.flags.tolist() == [False] * 3 + [True]


def test_the_guard_learns_by_itself_and_anew_where_its_settings_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usual, "STEPS", 20)
    guard = GeneratorGuard(on_cpu(SIZE, mlp(nn.Tanh())), fitting=2_000)
    assert guard.guard is None and guard.flags.shape == (0,)
    guard.predict(OTHERS[:2])
    first = guard.guard
    guard.predict(OTHERS[:2])
    assert first is not None and guard.guard is first
    guard.set_params(action="refuse")
    guard.predict(OTHERS[:2])
    assert guard.guard is not None and guard.guard is not first and guard.guard.action == "refuse"


def test_a_scan_takes_arrays_in_the_range_of_the_model() -> None:
    generator = on_cpu(SIZE, Bytes(), clip_values=(0, 255))
    settings = {"targets": np.full((1, 1, 8, 8), 130.0), "reference": generator, "twin": False, "samples": 200}
    report, is_clean = GeneratorScan(generator).detect_poison(real=generator.predict(OTHERS[:300]), **settings)
    ran = {finding["detector"]: finding["message"] for finding in report["findings"]}
    assert is_clean.shape == (1,) and len(ran) > 3
    assert not [message for message in ran.values() if "must be" in message or "expected" in message]
    assert "samples differ by 0)" in ran["reference"]  # it is compared with itself


# ---- ART's rules


@pytest.mark.parametrize(
    ("defence", "base"),
    [(GeneratorScan, PoisonFilteringDefence), (GeneratorSanitizer, Transformer), (GeneratorGuard, EvasionDetector)],
)
def test_bases_types_and_parameters(
    defence: Any, base: type, honest: PyTorchGenerator, refuses: Callable[..., str]
) -> None:
    made = defence(honest)
    assert isinstance(made, base)
    for wrong in (honest.model, None):
        with pytest.raises(EstimatorError):
            defence(wrong)
    made.set_params(seed=3)
    assert made.seed == 3
    for wrong in ({"seed": -1}, {"nonsense": 1}):  # a set is taken as a whole or not at all
        refuses(lambda wrong=wrong: made.set_params(**{"seed": 5, **wrong}), *wrong)
        assert made.seed == 3


def test_a_report_goes_with_the_generator_that_it_is_about(honest: PyTorchGenerator) -> None:
    other = on_cpu(SIZE, mlp(nn.Tanh()))
    scan = GeneratorScan(other, twin=False)
    assert scan.get_params() == {"generator": other, "seed": 0, "twin": False}
    scan.detect_poison(samples=200)
    report = scan.report
    guard = GeneratorGuard(other, report=report, fitting=3_000)
    assert guard.get_params()["report"] is report is not None and guard.get_params()["fitting"] == 3_000
    guard.set_params(seed=1)
    assert guard.report is report
    guard.set_params(generator=honest)
    assert guard.report is None
    guard.set_params(generator=other, report=report)
    assert guard.report is report
    scan.set_params(generator=honest)
    assert scan.report is None
    sanitizer = GeneratorSanitizer(honest)
    assert sanitizer.get_classifier() is sanitizer.get_generator() is honest and not sanitizer.is_fitted
    assert sanitizer.fit(None) is None  # type: ignore[func-returns-value]


def test_what_is_wrong_is_said_before_any_work(
    honest: PyTorchGenerator, refuses: Callable[..., str], no_work: None
) -> None:
    rows: list[tuple[Callable[[], Any], str]] = [
        (lambda: GeneratorGuard(honest, action="shout"), "action"),
        (lambda: GeneratorGuard(honest, fitting=10), "fitting"),
        (lambda: GeneratorGuard(honest, false_positive_rate=0.5), "false_positive_rate"),
        (lambda: GeneratorGuard(honest, report="clean"), "report"),  # type: ignore[arg-type]
        (lambda: GeneratorSanitizer(honest, iterations=0), "iterations"),
        (lambda: GeneratorScan(honest, twin="yes"), "twin"),  # type: ignore[arg-type]
        (lambda: GeneratorScan(honest).evaluate_defence(np.array([1, 0])), "is_clean"),
        (lambda: GeneratorGuard(honest).detect(np.zeros((1, 3))), "[1, 3]"),
        (lambda: GeneratorScan(honest).detect_poison(targets=np.zeros((1, 2))), "targets"),
    ]
    for call, name in rows:
        refuses(call, name)
    refuses(lambda: GeneratorScan(honest).detect_poison(speed=1), "speed", "real", error=TypeError)
    with pytest.raises(EstimatorError):
        GeneratorScan(honest).detect_poison(reference=honest.model)
