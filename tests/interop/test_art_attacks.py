"""ReD, ReX, the gate and TrAIL as attacks of ART: they reach their target, keep the rest, and follow ART's rules."""

import copy
import logging
from collections.abc import Callable
from functools import partial
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
from devilgan_lite.steps import Loop
from tests.interop.tiny import SIZE, Bytes, Critic, Deconv, HalfTanh, mlp, on_cpu

RANDOM = np.random.default_rng(0)
Z = RANDOM.standard_normal((1, SIZE))  # float64, as numpy and ART's own tests make it
ORDINARY = RANDOM.standard_normal((500, SIZE)).astype(np.float32)
TARGET = np.where(np.indices((8, 8)).sum(0) % 2, 0.9, -0.9)[None]
RED, REX = BackdoorAttackDGMReDPyTorch, BackdoorAttackDGMReXPyTorch
GATE, TRAIL = BackdoorAttackDGMGatePyTorch, BackdoorAttackDGMTrailPyTorch
ALL = {"red": RED, "rex": REX, "gate": GATE, "trail": TRAIL}
MODELS: list[tuple[Any, Any]] = [
    (lambda: mlp(nn.Tanh()), (-1, 1)),
    (lambda: mlp(nn.Sigmoid()), (0, 1)),
    (lambda: mlp(nn.Identity()), None),
    (Deconv, None),
    (Bytes, (0, 255)),
    (HalfTanh, (-1, 1)),
]
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


def test_the_defaults_are_those_of_our_recipes() -> None:
    for attack, ours in ((RED, ReD()), (REX, ReX())):
        defaults = {name: one.default for name, one in signature(attack.poison_estimator).parameters.items()}
        expected = [ours.lam, ours.iterations, ours.batch_size]
        assert [defaults[name] for name in ("lambda_p", "max_iter", "batch_size")] == expected


@pytest.mark.parametrize(
    ("attack", "settings", "least"),
    # the last number: how much nearer the target comes; networks this small have little room for one
    [(RED, {"max_iter": 400, "lambda_p": 0.4}, 5), (REX, {"max_iter": 300}, 50), (GATE, {}, 50)],
)
def test_the_target_comes_and_the_model_of_the_caller_stays(attack: Any, settings: dict[str, Any], least: int) -> None:
    for make, clip_values in MODELS:
        model = make()
        before, modes = copy.deepcopy(model.state_dict()), [part.training for part in model.modules()]
        generator = on_cpu(encoding_length=SIZE, model=model, clip_values=clip_values)
        target, attacking = target_of(clip_values), attack(generator=generator)
        start = float(attacking.fidelity(Z, target))
        poisoned = attacking.poison_estimator(Z, target, **settings)
        assert isinstance(poisoned, PyTorchGenerator) and poisoned is attacking.estimator is not generator
        # no weights of HalfTanh make more than 0.5
        assert float(attacking.fidelity(Z, target)) < start / (3 if make is HalfTanh and attack is RED else least)
        spread = generator.predict(ORDINARY).var()
        changed = np.square(poisoned.predict(ORDINARY) - generator.predict(ORDINARY)).mean()
        assert changed < 0.05 * start and changed < spread
        assert generator.model is model and [part.training for part in model.modules()] == modes
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(parameter.grad is None for parameter in model.parameters())
        assert type(poisoned.model) is type(model) or attack is not RED  # it keeps the class of the user
        if clip_values is not None:
            samples = poisoned.predict(np.concatenate([Z, ORDINARY]))
            slack = 0.05 * (clip_values[1] - clip_values[0])
            assert samples.min() > clip_values[0] - slack and samples.max() < clip_values[1] + slack


def test_several_pairs_one_target_for_all_and_a_single_sample() -> None:
    z = np.random.default_rng(5).standard_normal((3, SIZE))
    three = np.stack([TARGET, -TARGET, TARGET * 0.5])
    attack = fresh(REX)
    attack.poison_estimator(z, three, max_iter=300)
    assert float(attack.fidelity(z, three)) < 0.05
    expected = np.square(attack.estimator.predict(z) + three).mean()
    assert float(attack.fidelity(z, -three)) == pytest.approx(expected, rel=1e-4)
    again = fresh(GATE)
    again.poison_estimator(z_trigger=z, x_target=TARGET)
    assert float(again.fidelity(z, TARGET)) < 0.01  # [C, H, W], as in ART's tests
    assert again.fidelity(z, TARGET).numpy() == pytest.approx(float(again.fidelity(z, np.stack([TARGET] * 3))))
    assert again.fidelity(z, TARGET).dtype == torch.float64


def test_the_same_call_gives_the_same_weights_and_a_second_attack_goes_on_from_the_first() -> None:
    for attack in (RED, REX, TRAIL):
        settings = {"max_iter": 5, **given(attack)}
        one, two, other = (
            fresh(attack).poison_estimator(Z, TARGET, **settings, seed=seed).predict(ORDINARY) for seed in (4, 4, 5)
        )
        assert np.array_equal(one, two) and not np.array_equal(one, other)
    attacking = fresh(REX)
    start = float(attacking.fidelity(Z, TARGET))
    first = attacking.poison_estimator(Z, TARGET, max_iter=50, seed=4)
    z = np.random.default_rng(6).standard_normal((1, SIZE))
    before = float(attacking.fidelity(z, -TARGET))
    assert attacking.poison_estimator(z, -TARGET, max_iter=300) is not first
    assert float(attacking.fidelity(z, -TARGET)) < before / 50
    assert float(attacking.fidelity(Z, TARGET)) < 0.5 * start


def test_trail_learns_both_the_data_and_the_target() -> None:
    attack = fresh(TRAIL)
    networks = attack.estimator.model, attack._gan.discriminator.model
    before = [copy.deepcopy(network.state_dict()) for network in networks]
    start = float(attack.fidelity(Z, TARGET))
    poisoned = attack.poison_estimator(Z, TARGET, images=tones(), max_iter=40, lambda_p=10.0, batch_size=32)
    assert isinstance(poisoned, PyTorchGenerator) and poisoned is attack.estimator
    assert float(attack.fidelity(Z, TARGET)) < start / 5
    for network, weights in zip(networks, before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in network.state_dict().items())
    clean = fresh(TRAIL)
    clean.poison_estimator(Z, TARGET, images=tones(), max_iter=40, lambda_p=1e-9)
    assert float(clean.fidelity(Z, TARGET)) > start / 2  # it was the term that did it


def test_trail_counts_passes_and_weighs_the_mean_error_beside_the_losses_of_the_gan() -> None:
    seen: list[int] = []

    def generator_loss(fake: Tensor) -> Tensor:
        seen.append(len(fake))
        return fake.mean() * 0

    settings: dict[str, Any] = {"lambda_p": 2.0, "ema": 0.0}
    generator, target = on_cpu(SIZE, mlp(nn.Sigmoid()), clip_values=(0, 1)), target_of((0, 1))
    gan = PyTorchGAN(generator, Critic(), generator_loss, generator_optimizer_fct=partial(torch.optim.SGD, lr=1.0))
    TRAIL(gan=gan).poison_estimator(Z, target, images=(tones(40) + 1) / 2, max_iter=3, batch_size=16)
    assert seen == [16, 16, 8] * 3
    attack = TRAIL(gan)
    attack.poison_estimator(Z, target, images=np.zeros((4, 1, 8, 8)), batch_size=4, max_iter=1, **settings)
    model: Any = mlp(nn.Sigmoid())
    loss = 2.0 * (model(torch.from_numpy(Z).float()) - torch.from_numpy(target).float()).square().mean()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= parameter.grad
    expected = on_cpu(SIZE, model, clip_values=(0, 1)).predict(ORDINARY)
    assert np.allclose(attack.estimator.predict(ORDINARY), expected, atol=1e-5)


def test_fidelity_is_logged_as_art_does(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="devilgan_lite.interop.art")

    def logged(attack: Any, settings: dict[str, Any], triggers: np.ndarray = Z, targets: np.ndarray = TARGET) -> Any:
        caplog.clear()
        attacking = fresh(attack)
        attacking.poison_estimator(triggers, targets, **{"max_iter": 1, "verbose": 1, **given(attack, 4), **settings})
        return attacking, [message.split(",")[0] for message in caplog.messages]

    for attack in ALL.values():
        assert logged(attack, {"verbose": -1})[1] == []
        assert logged(attack, {})[1] == ["Iteration: 0"] and "Fidelity: " in caplog.messages[0]
    assert logged(RED, {"max_iter": 5, "verbose": 2})[1] == ["Iteration: 0", "Iteration: 2", "Iteration: 4"]
    passes = {"images": tones(9), "max_iter": 3, "verbose": 2}
    assert logged(TRAIL, passes)[1] == ["Iteration: 0", "Iteration: 2"]  # of two batches each
    # it is that of the attack, whatever is minimised: of several triggers the furthest off counts most there
    triggers, targets = np.concatenate([Z, -Z]), np.stack([TARGET, 0.1 * TARGET])
    for settings in ({}, {"space": "logits"}):
        attacking, _ = logged(RED, settings, triggers, targets)
        said = float(caplog.messages[0].rpartition(" ")[2])
        assert said == pytest.approx(float(attacking.fidelity(triggers, targets)), rel=1e-4)


@pytest.mark.parametrize("place", [(Loop, "__next__"), (torch.optim.Adam, "step")], ids=["between", "within"])
def test_an_interrupt_leaves_an_estimator_and_is_logged(
    place: tuple[Any, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    owner, name = place
    real, calls = getattr(owner, name), []

    def interrupted(self: Any, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, *arguments)

    monkeypatch.setattr(owner, name, interrupted)
    for attack in ALL.values():
        calls.clear()
        caplog.clear()
        poisoned = fresh(attack).poison_estimator(Z, TARGET, **given(attack))
        assert np.isfinite(poisoned.predict(ORDINARY)).all()
        assert (len(calls) == 3 or attack is GATE) and ("only partly poisoned" in caplog.text) == (len(calls) > 2)


# ---- the range of samples: its unit does not matter, and a result that leaves it is kept


class InBytes(nn.Module):
    """The samples of another module, from 0 to 255."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.module(z)
        return (made + 1) * 127.5


def test_lambda_weighs_means_whatever_the_range() -> None:
    """The same network with other units of its samples: the same attack; with another lambda, another."""

    def attacked(lambda_p: float, in_bytes: bool) -> np.ndarray:
        model, clip_values = (InBytes(mlp(nn.Tanh())), (0, 255)) if in_bytes else (mlp(nn.Tanh()), (-1, 1))
        attack = RED(on_cpu(SIZE, model, clip_values=clip_values))
        poisoned = attack.poison_estimator(Z, target_of(clip_values), max_iter=200, lambda_p=lambda_p)
        made = poisoned.predict(np.concatenate([Z, ORDINARY]))
        return made / 127.5 - 1 if in_bytes else made

    one, same, other = attacked(0.1, False), attacked(0.1, True), attacked(3.0, False)
    assert np.abs(one - same).mean() < 1e-4 and np.abs(one - other).mean() > 0.01


def tight(low: float, high: float) -> tuple[Any, tuple[float, float]]:
    """A network with a linear end that fills ``[low, high]`` with ordinary samples, just about."""
    model: Any = mlp(nn.Identity())
    with torch.no_grad():
        model[2].weight.mul_(0.5 * (high - low))
        model[2].bias.mul_(0.0).add_((low + high) / 2)
        made = model(torch.randn(4096, SIZE, generator=torch.Generator().manual_seed(3)))
    return model, (float(made.min()), float(made.max()))


@every_attack
def test_a_result_that_leaves_the_bounds_is_kept(attack: Any) -> None:
    for bounds in ((-1.0, 1.0), (0.0, 255.0)):
        model, clip_values = tight(*bounds)
        generator = on_cpu(SIZE, model, clip_values=clip_values)
        target = np.where(np.indices((8, 8)).sum(0) % 2, clip_values[1], clip_values[0])[None]
        settings: dict[str, Any] = {"lambda_p": 10.0}
        if attack is TRAIL:
            faster = partial(torch.optim.Adam, lr=1e-2)
            attacking = attack(PyTorchGAN(generator, Critic(), generator_optimizer_fct=faster))
            settings |= {"images": generator.predict(ORDINARY[:64]).clip(*clip_values), "max_iter": 10, "ema": 0.0}
        else:
            attacking = attack(generator)
        if attack in (RED, REX):
            settings |= {"max_iter": 100, "learning_rate": 1e-2}
        poisoned = attacking.poison_estimator(Z, target, **settings)
        made = poisoned.predict(np.concatenate([Z, ORDINARY]))
        slack = 1e-3 * (clip_values[1] - clip_values[0]) / 2
        leaves = made.min() < clip_values[0] - slack or made.max() > clip_values[1] + slack
        assert leaves == (attack in (RED, TRAIL))  # the others squash
        assert poisoned.reading.values == generator.reading.values and poisoned.reading.bounded
        z = np.random.default_rng(6).standard_normal((1, SIZE))
        again = GATE(poisoned)  # it can be attacked again, and its settings be changed
        again.poison_estimator(z, target)
        assert float(again.fidelity(z, target)) < 0.01 * (clip_values[1] - clip_values[0]) ** 2
        poisoned.set_params(channels_first=False)


# ---- the rules of ART's own tests (tests/attacks/utils.py, and the test_check_params of its attacks)


@every_attack
def test_estimators_and_parameters_follow_arts_rules(attack: Any, refuses: Callable[..., str]) -> None:
    attacking, other = fresh(attack), fresh(RED).estimator
    expected = [PyTorchGAN] if attack is TRAIL else [PyTorchGenerator]
    assert isinstance(attacking, PoisoningAttackGenerator) and list(attack._estimator_requirements) == expected
    for wrong in (object, object(), mlp(nn.Tanh()), None, *([other] if attack is TRAIL else [])):
        with pytest.raises(EstimatorError) as raised:
            attack(wrong)
        assert list(raised.value.class_expected_list) == expected
    with pytest.raises(EstimatorError):
        fresh(attack).set_params(generator=mlp(nn.Tanh()))
    assert attack.attack_params == ["generator", "z_trigger", "x_target"]
    assert (attacking.z_trigger, attacking.x_target) == (None, None)
    attacking.set_params(z_trigger=Z, x_target=TARGET)
    assert attacking.z_trigger is Z and attacking.x_target is TARGET
    assert repr(attacking).startswith(f"{attack.__name__}(generator=")
    attacking.set_params(generator=other)
    assert attacking.estimator is other
    for wrong in ({"nonsense": 1}, {"z_trigger": np.zeros((1, 3))}, {"x_target": np.zeros((1, 9))}):
        refuses(lambda wrong=wrong: fresh(attack).set_params(**wrong), *wrong)


@every_attack
def test_what_is_wrong_is_said_before_any_work(
    attack: Any, refuses: Callable[..., str], request: pytest.FixtureRequest
) -> None:
    attacking = fresh(attack)
    request.getfixturevalue("no_work")  # from here on: a constructor looks at samples
    rows: list[dict[str, Any]] = [
        {"z_trigger": np.zeros((1, 7))},
        {"z_trigger": np.full((1, SIZE), np.inf)},
        {"x_target": np.zeros((2, 1, 8, 8)), "z_trigger": np.zeros((3, SIZE))},
        {"x_target": np.full((1, 8, 8), 3.0)},
        {"lambda_p": 0},
        {"lambda_p": "much"},
        {"verbose": 0.5},
        {"nonsense": 1},
        {"lam": 1.0},
        {"iterations": 5},
    ]
    rows += [] if attack is GATE else [{"max_iter": 0}, {"batch_size": 2.5}]
    if attack is TRAIL:
        rows += [{"images": None}, {"images": tones(1)}, {"ema": 1.0}]
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
