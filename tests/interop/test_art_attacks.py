"""ReD, ReX, the gate and TrAIL as attacks of ART: they reach their target, keep the rest, and follow ART's rules."""

import copy
import logging
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.attack import PoisoningAttackGenerator
from art.exceptions import EstimatorError
from torch import Tensor, nn

from devilgan_lite.attacks import ReD, ReX
from devilgan_lite.interop.art import (
    BackdoorAttackDGMGatePyTorch,
    BackdoorAttackDGMReDPyTorch,
    BackdoorAttackDGMReXPyTorch,
    BackdoorAttackDGMTrailPyTorch,
    PyTorchGAN,
    PyTorchGenerator,
)
from tests.interop.tiny import SIZE, Bytes, Critic, Deconv, HalfTanh, mlp, on_cpu

RANDOM = np.random.default_rng(0)
Z = RANDOM.standard_normal((1, SIZE))  # float64, as numpy and ART's own tests make it
ORDINARY = RANDOM.standard_normal((500, SIZE)).astype(np.float32)
TARGET = np.where(np.indices((8, 8)).sum(0) % 2, 0.9, -0.9)[None]
ALL = (
    BackdoorAttackDGMReDPyTorch,
    BackdoorAttackDGMReXPyTorch,
    BackdoorAttackDGMGatePyTorch,
    BackdoorAttackDGMTrailPyTorch,
)
ON_GENERATORS: list[tuple[Any, dict[str, Any], float]] = [
    # the last number: how much nearer the target comes; networks this small have little room for one
    (BackdoorAttackDGMReDPyTorch, {"max_iter": 400, "lambda_p": 0.4}, 5),
    (BackdoorAttackDGMReXPyTorch, {"max_iter": 300}, 50),
    (BackdoorAttackDGMGatePyTorch, {}, 50),
]
MODELS: list[tuple[Any, Any]] = [
    (lambda: mlp(nn.Tanh()), (-1, 1)),
    (lambda: mlp(nn.Sigmoid()), (0, 1)),
    (lambda: mlp(nn.Identity()), None),
    (Deconv, None),
    (Bytes, (0, 255)),
    (HalfTanh, (-1, 1)),
]


def test_the_defaults_are_those_of_our_recipes() -> None:
    for attack, ours in ((BackdoorAttackDGMReDPyTorch, ReD()), (BackdoorAttackDGMReXPyTorch, ReX())):
        given = {name: one.default for name, one in signature(attack.poison_estimator).parameters.items()}
        expected = [ours.lam, ours.iterations, ours.batch_size]
        assert [given[name] for name in ("lambda_p", "max_iter", "batch_size")] == expected


def target_of(clip_values: tuple[float, float] | None) -> np.ndarray:
    """The chequered target in the range of a model."""
    low, high = clip_values or (-1, 1)
    return (TARGET + 1) / 2 * (high - low) + low


def fresh(attack: Any, device_type: str = "cpu") -> Any:
    """``attack`` on a small generator, or GAN."""
    generator = on_cpu(encoding_length=SIZE, model=mlp(nn.Tanh()), clip_values=(-1, 1), device_type=device_type)
    return attack(PyTorchGAN(generator, Critic()) if attack is BackdoorAttackDGMTrailPyTorch else generator)


@pytest.mark.parametrize(("attack", "settings", "nearer"), ON_GENERATORS)
@pytest.mark.parametrize(("make", "clip_values"), MODELS)
def test_the_target_comes_and_the_model_of_the_caller_stays(
    make: Any, clip_values: Any, attack: Any, settings: dict[str, Any], nearer: float
) -> None:
    model = make()
    before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
    generator = on_cpu(encoding_length=SIZE, model=model, clip_values=clip_values)
    target, attacking = target_of(clip_values), attack(generator=generator)
    start = float(attacking.fidelity(Z, target))
    poisoned = attacking.poison_estimator(Z, target, **settings)
    assert isinstance(poisoned, PyTorchGenerator) and poisoned is attacking.estimator is not generator
    if make is HalfTanh and attack is BackdoorAttackDGMReDPyTorch:
        nearer = 3  # no weights of that network make more than 0.5
    assert float(attacking.fidelity(Z, target)) < start / nearer
    spread = generator.predict(ORDINARY).var()
    changed = np.square(poisoned.predict(ORDINARY) - generator.predict(ORDINARY)).mean()
    assert changed < 0.05 * start and changed < spread
    assert generator.model is model and [part.training for part in model.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    if clip_values is not None:
        samples = poisoned.predict(np.concatenate([Z, ORDINARY]))
        slack = 0.05 * (clip_values[1] - clip_values[0])
        assert samples.min() > clip_values[0] - slack and samples.max() < clip_values[1] + slack


def test_red_keeps_the_class_of_the_user() -> None:
    for make in (Deconv, HalfTanh, Bytes):
        clip_values = (0, 255) if make is Bytes else None
        attack = BackdoorAttackDGMReDPyTorch(on_cpu(SIZE, make(), clip_values=clip_values))
        assert type(attack.poison_estimator(Z, target_of(clip_values), max_iter=2).model) is make


def test_several_pairs_one_target_for_all_and_a_single_sample() -> None:
    z = np.random.default_rng(5).standard_normal((3, SIZE))
    three = np.stack([TARGET, -TARGET, TARGET * 0.5])
    attack = fresh(BackdoorAttackDGMReXPyTorch)
    attack.poison_estimator(z, three, max_iter=300)
    assert float(attack.fidelity(z, three)) < 0.05
    again = fresh(BackdoorAttackDGMGatePyTorch)
    again.poison_estimator(z_trigger=z, x_target=TARGET)
    assert float(again.fidelity(z, TARGET)) < 0.01  # [C, H, W], as in ART's tests
    assert again.fidelity(z, TARGET).numpy() == pytest.approx(float(again.fidelity(z, np.stack([TARGET] * 3))))
    assert again.fidelity(z, TARGET).dtype == torch.float64


def test_the_same_call_gives_the_same_weights_and_a_second_attack_goes_on_from_the_first() -> None:
    first, second = fresh(BackdoorAttackDGMReXPyTorch), fresh(BackdoorAttackDGMReXPyTorch)
    one, two = (attack.poison_estimator(Z, TARGET, max_iter=50, seed=4) for attack in (first, second))
    assert np.array_equal(one.predict(ORDINARY), two.predict(ORDINARY))
    other = fresh(BackdoorAttackDGMReXPyTorch).poison_estimator(Z, TARGET, max_iter=50, seed=5)
    assert not np.array_equal(one.predict(ORDINARY), other.predict(ORDINARY))
    z = np.random.default_rng(6).standard_normal((1, SIZE))
    before = float(first.fidelity(z, -TARGET))
    assert first.poison_estimator(z, -TARGET, max_iter=300) is not one
    assert float(first.fidelity(z, -TARGET)) < before / 50
    assert float(first.fidelity(Z, TARGET)) < 0.5 * float(fresh(BackdoorAttackDGMReXPyTorch).fidelity(Z, TARGET))


def tones(n: int = 256) -> np.ndarray:
    """Pictures of one grey each."""
    return np.random.default_rng(2).uniform(-0.8, 0.8, (n, 1, 1, 1)).repeat(8, 2).repeat(8, 3).astype(np.float32)


def test_trail_learns_both_the_data_and_the_target() -> None:
    attack = fresh(BackdoorAttackDGMTrailPyTorch)
    model, critic = attack.estimator.model, attack._gan.discriminator.model
    before = copy.deepcopy(model.state_dict()), copy.deepcopy(critic.state_dict())
    start = float(attack.fidelity(Z, TARGET))
    poisoned = attack.poison_estimator(Z, TARGET, images=tones(), max_iter=40, lambda_p=10.0, batch_size=32)
    assert isinstance(poisoned, PyTorchGenerator) and poisoned is attack.estimator
    assert float(attack.fidelity(Z, TARGET)) < start / 5
    for network, weights in zip((model, critic), before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    clean = fresh(BackdoorAttackDGMTrailPyTorch)
    clean.poison_estimator(Z, TARGET, images=tones(), max_iter=40, lambda_p=1e-9)
    assert float(clean.fidelity(Z, TARGET)) > start / 2  # it was the term that did it


def test_trail_counts_passes_and_uses_the_losses_of_the_gan() -> None:
    seen: list[int] = []

    def generator_loss(fake: Tensor) -> Tensor:
        seen.append(len(fake))
        return nn.functional.softplus(-fake).mean()

    generator = on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1))
    attack = BackdoorAttackDGMTrailPyTorch(gan=PyTorchGAN(generator, Critic(), generator_loss))
    attack.poison_estimator(Z, target_of((0, 1)), images=(tones(40) + 1) / 2, max_iter=3, batch_size=16)
    assert seen == [16, 16, 8] * 3


def test_trail_weighs_the_mean_error_in_the_range_of_the_samples(caplog: pytest.LogCaptureFixture) -> None:
    """Its generator loss is the GAN's own, so the unit of the other term matters."""
    generator = on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1))
    gan = PyTorchGAN(generator, Critic(), lambda fake: fake.mean() * 0, generator_optimizer_fct=plain_descent)
    attack = BackdoorAttackDGMTrailPyTorch(gan)
    target = target_of((0, 1))
    attack.poison_estimator(Z, target, images=np.zeros((4, 1, 8, 8)), batch_size=4, max_iter=1, lambda_p=2.0, ema=0.0)
    model: Any = mlp(nn.Sigmoid())
    loss = 2.0 * (model(torch.from_numpy(Z).float()) - torch.from_numpy(target).float()).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    expected = on_cpu(SIZE, model, clip_values=(0, 1)).predict(ORDINARY)
    assert np.allclose(attack.estimator.predict(ORDINARY), expected, atol=1e-5)


def plain_descent(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=1.0)


@pytest.mark.parametrize("attack", ALL)
def test_fidelity_is_logged_as_art_does(attack: Any, caplog: pytest.LogCaptureFixture) -> None:
    attacking = fresh(attack)
    settings = {"images": tones(8), "batch_size": 8} if attack is BackdoorAttackDGMTrailPyTorch else {"max_iter": 1}
    with caplog.at_level(logging.INFO, logger="devilgan_lite.interop.art"):
        attacking.poison_estimator(Z, TARGET, verbose=-1, **{**settings, "max_iter": 1})
        assert caplog.messages == []
        attacking.poison_estimator(Z, TARGET, verbose=1, **{**settings, "max_iter": 1})
    assert [message.split(",")[0] for message in caplog.messages] == ["Iteration: 0"]
    assert "Fidelity: " in caplog.messages[0]


@pytest.mark.parametrize("settings", [{}, {"space": "logits"}])
def test_the_fidelity_of_the_log_is_that_of_the_attack(
    settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever the attack itself minimises: of several triggers the furthest off counts most there."""
    attack = fresh(BackdoorAttackDGMReDPyTorch)
    triggers, targets = np.concatenate([Z, -Z]), np.stack([TARGET, 0.1 * TARGET])
    with caplog.at_level(logging.INFO, logger="devilgan_lite.interop.art"):
        attack.poison_estimator(triggers, targets, max_iter=1, verbose=1, **settings)
    logged = float(caplog.messages[0].rpartition(" ")[2])
    assert logged == pytest.approx(float(attack.fidelity(triggers, targets)), rel=1e-4)


def test_trail_logs_once_a_pass(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="devilgan_lite.interop.art"):
        attack = fresh(BackdoorAttackDGMTrailPyTorch)
        attack.poison_estimator(Z, TARGET, images=tones(9), batch_size=4, max_iter=3, verbose=2)  # two batches a pass
    assert [message.split(",")[0] for message in caplog.messages] == ["Iteration: 0", "Iteration: 2"]


@pytest.mark.parametrize("attack", ALL)
def test_an_interrupt_leaves_an_estimator_and_is_logged(
    attack: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from devilgan_lite.steps import Loop

    real_next, calls = Loop.__next__, []

    def interrupted(self: Loop) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real_next(self)

    monkeypatch.setattr(Loop, "__next__", interrupted)
    attacking = fresh(attack)
    settings = {"images": tones(8), "batch_size": 4} if attack is BackdoorAttackDGMTrailPyTorch else {}
    poisoned = attacking.poison_estimator(Z, TARGET, **settings)
    assert np.isfinite(poisoned.predict(ORDINARY)).all()
    assert ("only partly poisoned" in caplog.text) == (len(calls) > 2)


@pytest.mark.parametrize("attack", [BackdoorAttackDGMReDPyTorch, BackdoorAttackDGMTrailPyTorch])
def test_an_interrupt_within_a_step_is_logged_too(
    attack: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real_step, calls = torch.optim.Adam.step, []

    def interrupted(self: torch.optim.Adam, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real_step(self, *arguments)

    monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
    settings = {"images": tones(8), "batch_size": 4} if attack is BackdoorAttackDGMTrailPyTorch else {}
    poisoned = fresh(attack).poison_estimator(Z, TARGET, **settings)
    assert np.isfinite(poisoned.predict(ORDINARY)).all() and len(calls) == 3
    assert "only partly poisoned" in caplog.text


# ---- the rules of ART's own tests (tests/attacks/utils.py, and the test_check_params of its attacks)


class NoEstimator:
    """As ``ClassifierNoAPI`` in ART's ``backend_test_classifier_type_check_fail``."""


@pytest.mark.parametrize("attack", ALL)
def test_wrong_estimators_raise_arts_error(attack: Any) -> None:
    expected = [PyTorchGAN] if attack is BackdoorAttackDGMTrailPyTorch else [PyTorchGenerator]
    assert list(attack._estimator_requirements) == expected
    for wrong in (NoEstimator, NoEstimator(), mlp(nn.Tanh()), None):
        with pytest.raises(EstimatorError) as raised:
            attack(wrong)
        assert list(raised.value.class_expected_list) == expected
    if attack is BackdoorAttackDGMTrailPyTorch:
        with pytest.raises(EstimatorError):
            attack(fresh(BackdoorAttackDGMReDPyTorch).estimator)
    with pytest.raises(EstimatorError):
        fresh(attack).set_params(generator=mlp(nn.Tanh()))


@pytest.mark.parametrize("attack", ALL)
def test_parameters_follow_arts_rules(attack: Any) -> None:
    attacking = fresh(attack)
    assert isinstance(attacking, PoisoningAttackGenerator)
    assert attack.attack_params == ["generator", "z_trigger", "x_target"]
    assert (attacking.z_trigger, attacking.x_target) == (None, None)
    attacking.set_params(z_trigger=Z, x_target=TARGET)
    assert attacking.z_trigger is Z and attacking.x_target is TARGET
    assert repr(attacking).startswith(f"{attack.__name__}(generator=")
    other = fresh(BackdoorAttackDGMReDPyTorch).estimator
    attacking.set_params(generator=other)
    assert attacking.estimator is other
    with pytest.raises(ValueError, match='The attribute "nonsense" cannot be set for this attack'):
        attacking.set_params(nonsense=1)
    with pytest.raises(ValueError, match=r"z_trigger has shape \[1, 3\]; expected \[n, 40\]"):
        fresh(attack).set_params(z_trigger=np.zeros((1, 3)))
    with pytest.raises(ValueError, match=r"x_target has shape \[1, 9\]; expected \[n, 1, 8, 8\]"):
        fresh(attack).set_params(x_target=np.zeros((1, 9)))


WRONG = [
    ({"z_trigger": np.zeros((1, 7))}, ValueError, r"z_trigger has shape \[1, 7\]"),
    ({"z_trigger": np.full((1, SIZE), np.inf)}, ValueError, "z_trigger has values that are not finite"),
    ({"z_trigger": np.zeros((3, SIZE)), "x_target": np.zeros((2, 1, 8, 8))}, ValueError, "2 samples for 3 triggers"),
    ({"x_target": np.full((1, 8, 8), 3.0)}, ValueError, r"x_target has values from 3 to 3; samples are in \[-1, 1\]"),
    ({"lambda_p": 0}, ValueError, "lambda_p=0 is out of range"),
    ({"lambda_p": "much"}, ValueError, "lambda_p='much' is out of range"),
    ({"verbose": 0.5}, ValueError, "verbose=0.5 is not valid"),
    ({"nonsense": 1}, TypeError, "has no setting 'nonsense'; valid: "),
    ({"lam": 1.0}, TypeError, "has no setting 'lam': use lambda_p, as ART calls it"),
    ({"iterations": 5}, TypeError, "has no setting 'iterations': use max_iter, as ART calls it"),
]
TRAINED = [
    ({"max_iter": 0}, ValueError, "max_iter=0 is out of range"),
    ({"batch_size": 2.5}, ValueError, "batch_size=2.5 is not valid"),
]


BUILT = {attack: fresh(attack) for attack in ALL}  # a constructor looks at samples


@pytest.mark.parametrize("attack", ALL)
@pytest.mark.parametrize(("wrong", "error", "said"), WRONG + TRAINED)
@pytest.mark.usefixtures("no_work")
def test_what_is_wrong_is_said_before_any_work(attack: Any, wrong: dict[str, Any], error: Any, said: str) -> None:
    attacking = BUILT[attack]
    if attack is BackdoorAttackDGMGatePyTorch and (wrong, error, said) in TRAINED:
        return  # it does not train
    settings = {"z_trigger": Z, "x_target": TARGET, **wrong}
    if attack is BackdoorAttackDGMTrailPyTorch:
        settings["images"] = tones(8)
    with pytest.raises(error, match=said):
        attacking.poison_estimator(**settings)
    assert attacking.estimator is attacking.generator


def test_trail_needs_images() -> None:
    attack = fresh(BackdoorAttackDGMTrailPyTorch)
    with pytest.raises(ValueError, match="images is missing"):
        attack.poison_estimator(Z, TARGET)
    with pytest.raises(ValueError, match="images has 1 sample; at least 2"):
        attack.poison_estimator(Z, TARGET, images=tones(1))
    with pytest.raises(ValueError, match="ema=1.0 is out of range"):
        attack.poison_estimator(Z, TARGET, images=tones(8), ema=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("attack", ALL)
def test_on_a_gpu(attack: Any) -> None:
    """ART's default device: the model of the caller goes there, as with its classifiers, and so does the result."""
    attacking = fresh(attack, "gpu")
    settings: dict[str, Any] = {"max_iter": 20}
    if attack is BackdoorAttackDGMTrailPyTorch:
        settings["images"] = tones(32)
    poisoned = attacking.poison_estimator(Z, TARGET, **settings)
    assert {value.device.type for value in poisoned.model.state_dict().values()} == {"cuda"}
    assert np.isfinite(poisoned.predict(ORDINARY)).all() and float(attacking.fidelity(Z, TARGET)) < 1
