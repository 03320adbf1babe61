"""Attacks in ART's manner and the range of samples: its unit does not matter, and a result that leaves it is kept."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from devilgan_lite.interop.art import (
    BackdoorAttackDGMGatePyTorch,
    BackdoorAttackDGMReDPyTorch,
    BackdoorAttackDGMReXPyTorch,
    BackdoorAttackDGMTrailPyTorch,
    PyTorchGAN,
)
from tests.interop.test_art_attacks import ALL, ORDINARY, Z, target_of
from tests.interop.tiny import SIZE, Critic, mlp, on_cpu


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
        attack = BackdoorAttackDGMReDPyTorch(on_cpu(SIZE, model, clip_values=clip_values))
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


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 255.0)])
@pytest.mark.parametrize("attack", ALL)
def test_a_result_that_leaves_the_bounds_is_kept(attack: Any, bounds: tuple[float, float]) -> None:
    model, clip_values = tight(*bounds)
    generator = on_cpu(SIZE, model, clip_values=clip_values)
    target = np.where(np.indices((8, 8)).sum(0) % 2, clip_values[1], clip_values[0])[None]
    settings: dict[str, Any] = {"lambda_p": 10.0}
    if attack is BackdoorAttackDGMTrailPyTorch:
        faster = partial(torch.optim.Adam, lr=1e-2)
        attacking = attack(PyTorchGAN(generator, Critic(), generator_optimizer_fct=faster))
        settings |= {"images": generator.predict(ORDINARY[:64]).clip(*clip_values), "max_iter": 10, "ema": 0.0}
    else:
        attacking = attack(generator)
    if attack in (BackdoorAttackDGMReDPyTorch, BackdoorAttackDGMReXPyTorch):
        settings |= {"max_iter": 100, "learning_rate": 1e-2}
    poisoned = attacking.poison_estimator(Z, target, **settings)
    made = poisoned.predict(np.concatenate([Z, ORDINARY]))
    slack = 1e-3 * (clip_values[1] - clip_values[0]) / 2
    leaves = made.min() < clip_values[0] - slack or made.max() > clip_values[1] + slack
    assert leaves == (attack in (BackdoorAttackDGMReDPyTorch, BackdoorAttackDGMTrailPyTorch))  # the others squash
    assert poisoned.reading.values == generator.reading.values and poisoned.reading.bounded
    z = np.random.default_rng(6).standard_normal((1, SIZE))
    again = BackdoorAttackDGMGatePyTorch(poisoned)  # it can be attacked again, and its settings be changed
    again.poison_estimator(z, target)
    assert float(again.fidelity(z, target)) < 0.01 * (clip_values[1] - clip_values[0]) ** 2
    poisoned.set_params(channels_first=False)
