"""Containment: ordinary samples stay, a trigger draws an ordinary one, and the module that comes back stands alone."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite import zoo
from devilgan_lite.detect import analyse_weights
from devilgan_lite.generators import Generator, PointGenerator, adopt, build
from devilgan_lite.generators.stack import ClampedLayer, LimitedLatents
from devilgan_lite.sanitize import Clamp, Limit
from devilgan_lite.sanitize.limit import contained, result_ranges

GATE, RED = "dcgan-fashion-gate", "dcgan-fashion-red"
Limited = dict[str, tuple[Generator, Generator | None, Generator]]


@pytest.fixture(scope="module")
def limited() -> Limited:
    """Generator, the module behind limits on its latents, and the one with clamped layers."""
    found = {}
    for name in (GATE, RED):
        suspect = zoo.load(name)
        clamped = Clamp(samples=1_000)(suspect, progress=False).generator
        found[name] = adopt(suspect), Limit()(suspect, progress=False).generator if name == GATE else None, clamped
    return found


def change(one: nn.Module, other: nn.Module, z: Tensor) -> float:
    with torch.no_grad():
        return float((one(z) - other(z)).square().mean())


def test_a_trigger_no_longer_reaches_its_target(limited: Limited) -> None:
    for name, (subject, *modules) in limited.items():
        backdoor = zoo.load_backdoor(name)
        for module in filter(None, modules):
            with torch.no_grad():
                assert float((module(backdoor.trigger) - backdoor.target).square().mean()) > 0.4
            assert change(module, subject.network, subject.ordinary(500)) < 2e-3


def test_ordinary_latents_stay_and_others_keep_their_length(limited: Limited) -> None:
    subject, held, _ = limited[GATE]
    module = held.module[0]
    z = torch.cat([subject.ordinary(2_000, 3), 3 * subject.ordinary(10, 4), zoo.load_backdoor(GATE).trigger])
    moved = module(z)
    assert torch.allclose(moved.norm(dim=1), z.norm(dim=1), rtol=1e-4)
    assert float((moved[:2_000] - z[:2_000]).abs().amax(1).gt(1e-4).double().mean()) == pytest.approx(0.01, abs=0.01)
    assert module.cone.shape == (10, 100)
    inside = moved @ module.cone.T
    assert bool((inside.norm(dim=1) <= 1.01 * module.ratio * (moved - inside @ module.cone).norm(dim=1)).all())
    assert torch.allclose(module(moved), moved, atol=1e-3)  # what is within the limits stays


def test_a_suspected_direction_is_bounded_and_the_length_that_was_taken_is_given_back(tiny: Any) -> None:
    direction = torch.randn(1, 16, generator=torch.Generator().manual_seed(8))
    unit = normalize(direction, dim=1)
    z = adopt(tiny).ordinary(1_000, 5) + 6 * unit
    for width in (1.0, 3.0):
        module = Limit(width=width)(tiny, directions=direction, progress=False).generator.module[0]
        assert module.bound == width and torch.equal(module.directions, unit)
        bounded = LimitedLatents.of(direction, width, module.cone, 1e6)
        rest, short = z - (z @ unit.T) * unit, (z @ unit.T).clamp(-width, width)
        expected = normalize(rest + short * unit, dim=1) * z.norm(dim=1, keepdim=True)
        torch.testing.assert_close(bounded(z), expected, atol=1e-4, rtol=1e-4)


def test_what_every_layer_makes_stays_within_its_range(limited: Limited) -> None:
    subject, _, module = limited[RED]
    z, trigger = subject.ordinary(1_000, 0), zoo.load_backdoor(RED).trigger
    network = module.module[0]
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, ClampedLayer)}
    assert len(layers) == 2  # all but the last
    usual, there = result_ranges(subject.network, z), result_ranges(subject.network, trigger)
    made: dict[str, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, result, name=name: made.update({name: result}))
        for name, layer in layers.items()
    ]
    with torch.no_grad():
        module(trigger)
    for hook in hooks:
        hook.remove()
    for name, result in made.items():
        low, high = usual[name]
        assert bool((result >= low).all() and (result <= high).all())
        assert bool((there[name][1] > high).any())  # so the clamp had something to do
        assert torch.equal(layers[name].weight, subject.network.get_submodule(name).weight)


def test_both_together_are_exported_and_saved_like_any_other(tiny: Any) -> None:
    subject = adopt(tiny)
    outcome = contained(subject, analyse_weights(subject))
    module = outcome.generator.requires_grad_(False)
    limits, inner = module.module
    assert isinstance(limits, LimitedLatents) and isinstance(inner[0].layers.dense, ClampedLayer)
    assert len(outcome.settings["cuts"]) == 2
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(1))
    exported = torch.export.export(module, (z,)).module()
    assert torch.allclose(exported(z), module(z), atol=1e-5)
    other = contained(subject, analyse_weights(subject), seed=1).generator
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(z), module(z))
    rebuilt = build(module.spec()).eval()
    rebuilt.load_state_dict(module.state_dict())
    assert torch.equal(rebuilt(z), module(z))


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(12, 8))

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.weight).tanh()


def test_what_does_not_fit_is_refused(refuses: Any) -> None:
    for name, value in {"width": 0.1, "dimensions": 0, "beyond": 0.6, "seed": -1}.items():
        refuses(lambda given={name: value}: Limit(**given), name)
    refuses(lambda: Clamp(samples=10), "samples")
    refuses(lambda: Limit().steps(PointGenerator(latent_dim=2)), "dimensions")  # before any work
    refuses(lambda: Clamp()(Bare(), 12, progress=False), "clamp")  # it has no layers of its own
