"""Fine-tuning: what it needs, and that a fresh critic is trained alone before it may teach."""

import copy
from itertools import islice

import pytest
import torch
from torch import Tensor, nn

from devilgan_lite import data
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN, PointGenerator
from devilgan_lite.sanitize import FineTune

RING = data.ring(1024)
SMALL = DCGAN(widths=(4, 2), latent_dim=10, image_size=12).eval()
PICTURES = Samples(torch.rand(64, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1)


def tuning(**settings: float) -> FineTune:
    return FineTune(**{"iterations": 12, "critic_first": 5, "batch_size": 8, "device": "cpu", **settings})


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(module: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_the_critic_learns_alone_first() -> None:
    before, loop = state(SMALL), tuning(ema=0.0).steps(SMALL, None, PICTURES)
    alone = [same(step.snapshot(), before) for step in loop]
    assert alone == [True] * 5 + [False] * 7


def test_while_it_does_the_critic_changes_and_the_generator_does_not() -> None:
    first, later = tuning().steps(SMALL, None, PICTURES), tuning().steps(SMALL, None, PICTURES)
    next(first), list(islice(later, 5))
    states = [loop.stop().state["states"] for loop in (first, later)]
    names = dict(SMALL.named_parameters())
    assert all(torch.equal(states[1][0][name], value) for name, value in names.items())
    assert not torch.equal(states[0][1]["layers.0.weight"], states[1][1]["layers.0.weight"])


def test_no_step_for_the_critic_alone() -> None:
    loop = tuning(critic_first=0).steps(SMALL, None, PICTURES)
    assert not same(next(loop).snapshot(), state(SMALL))


def test_the_suspect_stays_as_it_is() -> None:
    module = copy.deepcopy(SMALL).train()
    before = state(module)
    outcome = tuning()(module, None, PICTURES, progress=False)
    assert module.training and same(module, before)
    assert not outcome.generator.training and not same(outcome.generator, before)


def test_the_outcome_says_how_it_came_to_be_and_comes_again() -> None:
    first, again, other = (tuning(seed=seed)(SMALL, None, PICTURES, progress=False) for seed in (1, 1, 2))
    assert same(first.generator, state(again.generator)) and not same(first.generator, state(other.generator))
    assert first.settings == tuning(seed=1).settings() and first.settings["sanitizer"] == "FineTune"
    assert set(first.history) == {"generator_loss", "discriminator_loss"}
    assert all(len(values) == 12 for values in first.history.values()) and not first.interrupted


def test_training_goes_on_where_the_suspect_stands(clean_point: PointGenerator) -> None:
    """The distance to the nearest of the eight points of the ring: small steps make it smaller, not larger."""
    angle = torch.arange(8) * torch.pi / 4
    points = 0.7 * torch.stack([angle.cos(), angle.sin()], 1)

    def distance(generator: PointGenerator) -> float:
        return float(torch.cdist(generator.sample(2_000), points).amin(1).mean())

    tuned = tuning(iterations=400, critic_first=100, batch_size=64, learning_rate=1e-3, ema=0.9)(
        clean_point, None, RING, progress=False
    )
    assert distance(tuned.generator) < 0.8 * distance(clean_point)


def test_odd_latents_are_judged_too() -> None:
    suspected = torch.ones(1, 10)
    plain, wide, aimed = (
        tuning(wide=share)(SMALL, None, PICTURES, directions=directions, progress=False)
        for share, directions in ((0.0, suspected), (0.5, None), (0.5, suspected))
    )
    assert same(plain.generator, state(tuning()(SMALL, None, PICTURES, progress=False).generator))
    assert not same(wide.generator, state(plain.generator))
    assert not same(aimed.generator, state(wide.generator))


@pytest.mark.parametrize("steps", [0, 3, 8])
def test_stopped_early_it_leaves_what_it_has(steps: int) -> None:
    loop = tuning(ema=0.0).steps(SMALL, None, PICTURES)
    list(islice(loop, steps))
    outcome = loop.stop()
    assert outcome.interrupted and len(outcome.history["generator_loss"]) == max(1, steps)
    assert same(outcome.generator, state(SMALL)) == (steps <= 5)
    assert torch.isfinite(outcome.generator.sample(3)).all()
