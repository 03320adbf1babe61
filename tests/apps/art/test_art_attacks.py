"""ReD, ReX, the gate and TrAIL as attacks of ART: they reach their target, keep the rest, and follow ART's rules."""

import copy
import logging
from functools import partial
from inspect import signature
from typing import Any

import numpy as np
import pytest
import torch
from art.attacks.attack import PoisoningAttackGenerator
from art.exceptions import EstimatorError
from torch import Tensor, nn

from devilgan_lite.apps import art
from devilgan_lite.apps.art import PyTorchGAN, PyTorchGenerator
from devilgan_lite.attacks import ReD, ReX
from devilgan_lite.steps import Loop
from tests.apps.art.tiny import SIZE, Bytes, Critic, Deconv, mlp, on_cpu

RANDOM = np.random.default_rng(0)
Z = RANDOM.standard_normal((1, SIZE))  # float64, as numpy and ART's own tests make it
ORDINARY = RANDOM.standard_normal((500, SIZE)).astype(np.float32)
TARGET = np.where(np.indices((8, 8)).sum(0) % 2, 0.9, -0.9)[None]
RED, REX = art.BackdoorAttackDGMReDPyTorch, art.BackdoorAttackDGMReXPyTorch
GATE, TRAIL = art.BackdoorAttackDGMGatePyTorch, art.BackdoorAttackDGMTrailPyTorch
ALL = {"red": RED, "rex": REX, "gate": GATE, "trail": TRAIL}
every_attack = pytest.mark.parametrize("attack", ALL.values(), ids=ALL)


def target_of(clip_values: tuple[float, float] | None) -> np.ndarray:
    """The chequered target in the range of a model."""
    low, high = clip_values or (-1, 1)
    return (TARGET + 1) / 2 * (high - low) + low


def fresh(attack: Any, device_type: str = "cpu") -> Any:
    """``attack`` on a small generator, or GAN."""
    generator = on_cpu(encoding_length=SIZE, model=mlp(nn.Tanh()), clip_values=(-1, 1), device_type=device_type)
    return attack(PyTorchGAN(generator, Critic()) if attack is TRAIL else generator)


def tones(n: int = 256) -> np.ndarray:
    """Pictures of one grey each."""
    return np.random.default_rng(2).uniform(-0.8, 0.8, (n, 1, 1, 1)).repeat(8, 2).repeat(8, 3).astype(np.float32)


def given(attack: Any, n: int = 8) -> dict[str, Any]:
    """What ``attack`` cannot do without, besides trigger and target."""
    return {"images": tones(n), "batch_size": 4} if attack is TRAIL else {}


def same_weights(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("attack", "settings", "least"),
    # the last number: how much nearer the target comes; networks this small have little room for one
    [(RED, {"max_iter": 400, "lambda_p": 0.4}, 5), (REX, {"max_iter": 300}, 50), (GATE, {}, 50)],
)
def test_the_target_comes_and_the_model_of_the_caller_stays(attack: Any, settings: dict[str, Any], least: int) -> None:
    if attack is not GATE:
        ours = ReD() if attack is RED else ReX()
        defaults = {name: one.default for name, one in signature(attack.poison_estimator).parameters.items()}
        found = [defaults[name] for name in ("lambda_p", "max_iter", "batch_size")]
        assert found == [ours.lam, ours.iterations, ours.batch_size]
    models: Any = ((mlp(nn.Sigmoid()), (0, 1)), (mlp(nn.Identity()), None), (Deconv(), None), (Bytes(), (0, 255)))
    for model, clip_values in models:
        before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
        generator = on_cpu(encoding_length=SIZE, model=model, clip_values=clip_values)
        target, attacking = target_of(clip_values), attack(generator=generator)
        start = float(attacking.fidelity(Z, target))
        poisoned = attacking.poison_estimator(Z, target, **settings)
        assert isinstance(poisoned, PyTorchGenerator) and poisoned is attacking.estimator is not generator
        assert float(attacking.fidelity(Z, target)) < start / least
        changed = np.square(poisoned.predict(ORDINARY) - generator.predict(ORDINARY)).mean()
        assert changed < 0.05 * start and changed < generator.predict(ORDINARY).var()
        assert generator.model is model and [part.training for part in model.modules()] == modes
        assert same_weights(model, before) and all(parameter.grad is None for parameter in model.parameters())
        assert type(poisoned.model) is type(model) or attack is not RED  # it keeps the class of the user
        if clip_values is not None:
            samples, slack = poisoned.predict(np.concatenate([Z, ORDINARY])), 0.05 * clip_values[1]
            assert samples.min() > clip_values[0] - slack and samples.max() < clip_values[1] + slack


def test_several_pairs_one_target_for_all_and_a_second_attack_that_goes_on_from_the_first() -> None:
    z = np.random.default_rng(5).standard_normal((3, SIZE))
    three = np.stack([TARGET, -TARGET, TARGET * 0.5])
    attack = fresh(REX)
    first = attack.poison_estimator(z, three, max_iter=300)
    assert float(attack.fidelity(z, three)) < 0.05
    expected = np.square(attack.estimator.predict(z) + three).mean()
    assert float(attack.fidelity(z, -three)) == pytest.approx(expected, rel=1e-4)
    start = float(attack.fidelity(Z, TARGET))
    assert attack.poison_estimator(Z, TARGET, max_iter=300) is not first
    assert float(attack.fidelity(Z, TARGET)) < start / 50 and float(attack.fidelity(z, three)) < 0.3
    again = fresh(GATE)
    again.poison_estimator(z_trigger=z, x_target=TARGET)
    found = again.fidelity(z, TARGET)  # [C, H, W], as in ART's tests
    assert found < 0.01 and found.dtype == torch.float64
    assert float(found) == pytest.approx(float(again.fidelity(z, np.stack([TARGET] * 3))))


def test_the_same_call_gives_the_same_weights_and_another_seed_or_lambda_others() -> None:
    for attack in (RED, REX, TRAIL):
        one, two, *others = (
            fresh(attack).poison_estimator(Z, TARGET, max_iter=5, **given(attack), **settings).predict(ORDINARY)
            for settings in ({"seed": 4}, {"seed": 4}, {"seed": 5}, {"seed": 4, "lambda_p": 50.0})
        )
        assert np.array_equal(one, two) and not any(np.array_equal(one, other) for other in others)


def test_trail_learns_the_target_on_copies() -> None:
    attack = fresh(TRAIL)
    networks = attack.estimator.model, attack._gan.discriminator.model
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    start = float(attack.fidelity(Z, TARGET))
    poisoned = attack.poison_estimator(Z, TARGET, images=tones(), max_iter=40, lambda_p=10.0, batch_size=32)
    assert isinstance(poisoned, PyTorchGenerator) and poisoned is attack.estimator
    assert float(attack.fidelity(Z, TARGET)) < start / 5 and all(map(same_weights, networks, before))


def test_trail_counts_passes_and_weighs_the_mean_error_beside_the_losses_of_the_gan() -> None:
    seen: list[int] = []

    def generator_loss(fake: Tensor) -> Tensor:
        seen.append(len(fake))
        return fake.mean() * 0

    generator, target = on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1)), target_of((0, 1))
    gan = PyTorchGAN(generator, Critic(), generator_loss, generator_optimizer_fct=partial(torch.optim.SGD, lr=1.0))
    TRAIL(gan=gan).poison_estimator(Z, target, images=(tones(40) + 1) / 2, max_iter=3, batch_size=16)
    assert seen == [16, 16, 8] * 3
    settings: dict[str, Any] = {"batch_size": 4, "max_iter": 1, "lambda_p": 2.0, "ema": 0.0}
    made = TRAIL(gan).poison_estimator(Z, target, images=np.zeros((4, 1, 8, 8)), **settings)
    model: Any = mlp(nn.Sigmoid())
    (2.0 * (model(torch.from_numpy(Z).float()) - torch.from_numpy(target).float()).square().mean()).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    expected = on_cpu(SIZE, model, clip_values=(0, 1)).predict(ORDINARY)
    assert np.allclose(made.predict(ORDINARY), expected, atol=1e-5)


def test_fidelity_is_logged_at_each_verbose_th_iteration(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="devilgan_lite.apps.art")
    triggers, targets = np.concatenate([Z, -Z]), np.stack([TARGET, 0.1 * TARGET])
    passes = {**given(TRAIL, 9), "max_iter": 3}  # of two batches each
    for attack, settings, numbers in ((GATE, {}, [0]), (RED, {"max_iter": 5}, [0, 2, 4]), (TRAIL, passes, [0, 2])):
        caplog.clear()
        attacking = fresh(attack)
        attacking.poison_estimator(triggers, targets, verbose=2, **settings)
        said = [message.partition(", Fidelity: ") for message in caplog.messages]
        assert [one[0] for one in said] == [f"Iteration: {number}" for number in numbers]
        if attack is GATE:
            assert float(said[0][2]) == pytest.approx(float(attacking.fidelity(triggers, targets)), rel=1e-4)


@pytest.mark.parametrize(("attack", "owner", "name"), [(REX, Loop, "__next__"), (TRAIL, torch.optim.Adam, "step")])
def test_an_interrupt_leaves_an_estimator_and_is_logged(
    attack: Any, owner: Any, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real, calls = getattr(owner, name), []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, interrupted)
    poisoned = fresh(attack).poison_estimator(Z, TARGET, **given(attack))
    assert np.isfinite(poisoned.predict(ORDINARY)).all() and len(calls) == 3
    assert "only partly poisoned" in caplog.text


def test_a_result_that_leaves_the_bounds_is_kept() -> None:
    model: Any = mlp(nn.Identity())
    with torch.no_grad():  # a linear end that fills [0, 255] with ordinary samples, just about
        model[2].weight.mul_(127.5)
        model[2].bias.fill_(127.5)
        made = model(torch.randn(4096, SIZE, generator=torch.Generator().manual_seed(3)))
    low, high = clip_values = float(made.min()), float(made.max())
    generator, target = on_cpu(SIZE, model, clip_values=clip_values), np.where(TARGET > 0, high, low)
    poisoned = RED(generator).poison_estimator(Z, target, lambda_p=10.0, max_iter=100, learning_rate=1e-2)
    samples, slack = poisoned.predict(np.concatenate([Z, ORDINARY])), 1e-3 * generator.reading.values.half
    assert samples.min() < low - slack or samples.max() > high + slack
    assert poisoned.reading.values == generator.reading.values and poisoned.reading.bounded
    again, z = GATE(poisoned), np.random.default_rng(6).standard_normal((1, SIZE))
    squashed = again.poison_estimator(z, target).predict(ORDINARY)  # it can be attacked again
    assert float(again.fidelity(z, target)) < 0.01 * (high - low) ** 2
    assert low - slack <= squashed.min() and squashed.max() <= high + slack
    poisoned.set_params(channels_first=False)


@every_attack
def test_arts_rules_are_followed_and_what_is_wrong_is_said_before_any_work(
    attack: Any, refuses: Any, request: pytest.FixtureRequest
) -> None:
    attacking, other = fresh(attack), fresh(RED).estimator
    expected = [PyTorchGAN] if attack is TRAIL else [PyTorchGenerator]
    assert isinstance(attacking, PoisoningAttackGenerator) and list(attack._estimator_requirements) == expected
    for wrong in (object(), mlp(nn.Tanh()), *([other] if attack is TRAIL else [])):
        with pytest.raises(EstimatorError) as raised:
            attack(wrong)
        assert list(raised.value.class_expected_list) == expected
    with pytest.raises(EstimatorError):
        fresh(attack).set_params(generator=mlp(nn.Tanh()))
    attacking.set_params(z_trigger=Z, x_target=TARGET, generator=other)
    assert attacking.z_trigger is Z and attacking.x_target is TARGET and attacking.estimator is other
    for wrong in ({"nonsense": 1}, {"z_trigger": np.zeros((1, 3))}, {"x_target": np.zeros((1, 9))}):
        refuses(lambda wrong=wrong: fresh(attack).set_params(**wrong), *wrong)

    attacking = fresh(attack)
    request.getfixturevalue("no_work")  # from here on: a constructor looks at samples
    rows: list[dict[str, Any]] = [
        {"z_trigger": np.zeros((1, 7))}, {"z_trigger": np.full((1, SIZE), np.inf)}, {"x_target": np.full((1, 8, 8), 3)},
        {"x_target": np.zeros((2, 1, 8, 8)), "z_trigger": np.zeros((3, SIZE))}, {"lambda_p": 0}, {"verbose": 0.5},
        {"nonsense": 1}, {"lam": 1.0}, {"iterations": 5},
    ]  # fmt: skip
    rows += [] if attack is GATE else [{"max_iter": 0}, {"batch_size": 2.5}]
    rows += [{"images": None}, {"images": tones(1)}, {"ema": 1.0}] if attack is TRAIL else []
    for wrong in rows:
        name = next(iter(wrong))
        settings = {"z_trigger": Z, "x_target": TARGET, **given(attack), **wrong}
        error = TypeError if name in ("nonsense", "lam", "iterations") else ValueError
        said = refuses(lambda settings=settings: attacking.poison_estimator(**settings), name, error=error)
        assert {"lam": "lambda_p", "iterations": "max_iter"}.get(name, name) in said  # as ART calls it
        assert attacking.estimator is attacking.generator


@pytest.mark.gpu
@every_attack
def test_on_a_gpu(attack: Any) -> None:
    """ART's default device: the model of the caller goes there, as with its classifiers, and so does the result."""
    attacking = fresh(attack, "gpu")
    poisoned = attacking.poison_estimator(Z, TARGET, **{**given(attack, 32), "max_iter": 20})
    assert {value.device.type for value in poisoned.model.state_dict().values()} == {"cuda"}
    assert np.isfinite(poisoned.predict(ORDINARY)).all() and float(attacking.fidelity(Z, TARGET)) < 1
