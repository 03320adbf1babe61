"""Containment: ordinary samples stay, a trigger draws an ordinary one, and the module that comes back stands alone."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite import zoo
from devilgan_lite.detect import Subject, subject_of
from devilgan_lite.generators import PointGenerator
from devilgan_lite.sanitize import Clamp, Limit, auto
from devilgan_lite.sanitize.limit import ClampedLayer, LimitedLatents, result_ranges

GATE, RED = "dcgan-fashion-gate", "dcgan-fashion-red"


@lru_cache
def limited(name: str) -> tuple[Subject, LimitedLatents]:
    suspect = zoo.load(name)
    module = Limit()(suspect, progress=False).generator
    assert isinstance(module, LimitedLatents)
    return subject_of(suspect), module


def change(one: nn.Module, other: nn.Module, z: Tensor) -> float:
    with torch.no_grad():
        return float((one(z) - other(z)).square().mean())


@pytest.mark.parametrize("name", [GATE, RED])
def test_a_trigger_no_longer_reaches_its_target(name: str) -> None:
    subject, module = limited(name)
    backdoor = zoo.load_backdoor(name)
    for suspect in (module, Clamp(samples=1_000)(subject.module, progress=False).generator):
        with torch.no_grad():
            assert float((suspect(backdoor.trigger) - backdoor.target).square().mean()) > 0.4
        assert change(suspect, subject.module, subject.latents(500)) < 2e-3


def test_ordinary_latents_stay_and_others_keep_their_length() -> None:
    subject, module = limited(GATE)
    z = torch.cat([subject.latents(2_000, 3), 3 * subject.latents(10, 4), zoo.load_backdoor(GATE).trigger])
    moved = module.limited(z)
    assert torch.allclose(moved.norm(dim=1), z.norm(dim=1), rtol=1e-4)
    assert float((moved[:2_000] - z[:2_000]).abs().amax(1).gt(1e-4).double().mean()) == pytest.approx(0.01, abs=0.01)
    inside = moved @ module.cone.T
    assert bool((inside.norm(dim=1) <= 1.01 * module.ratio * (moved - inside @ module.cone).norm(dim=1)).all())
    assert torch.allclose(module.limited(moved), moved, atol=1e-3)  # what is within the limits stays


@pytest.mark.slow
@pytest.mark.parametrize("width", [1.0, 3.0])
def test_a_suspected_direction_is_bounded(width: float) -> None:
    subject, _ = limited(GATE)
    direction = torch.randn(1, 100, generator=torch.Generator().manual_seed(8))
    module = Limit(width=width, beyond=1e-4)(subject.module, directions=direction, progress=False).generator
    assert isinstance(module, LimitedLatents)
    z = subject.latents(1_000, 5) + 6 * normalize(direction, dim=1)
    along = module.limited(z) @ normalize(direction, dim=1)[0]
    assert float(along.max()) < 1.5 * width  # the length that was taken is given back


def test_what_every_layer_makes_stays_within_its_range() -> None:
    subject, _ = limited(RED)
    z, trigger = subject.latents(1_000, 0), zoo.load_backdoor(RED).trigger
    module = Clamp(samples=1_000)(subject.module, progress=False).generator
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, ClampedLayer)}
    assert len(layers) == 2  # all but the last
    usual, there = result_ranges(subject.module, z), result_ranges(subject.module, trigger)
    made: dict[str, Tensor] = {}
    for name, layer in layers.items():
        layer.register_forward_hook(lambda layer, inputs, result, name=name: made.update({name: result}))
    with torch.no_grad():
        module(trigger)
    for name, result in made.items():
        low, high = usual[name]
        assert bool((result >= low).all() and (result <= high).all())
        assert bool((there[name][1] > high).any())  # so the clamp had something to do
        assert torch.equal(layers[name].weight, subject.module.get_submodule(name).weight)


def test_the_module_is_exported_and_saved_like_any_other() -> None:
    _, module = limited(GATE)
    clamped = Clamp(samples=500)(module, progress=False).generator.requires_grad_(False)
    z = torch.randn(4, 100, generator=torch.Generator().manual_seed(1))
    exported = torch.export.export(clamped, (z,)).module()
    assert torch.allclose(exported(z), clamped(z), atol=1e-5)
    other = Clamp(samples=500)(limited(GATE)[1], progress=False).generator
    other.load_state_dict(clamped.state_dict())
    assert torch.equal(other(z), clamped(z))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 0.1}, "width=0.1"),
        ({"dimensions": 0}, "dimensions=0"),
        ({"beyond": 0.6}, "beyond=0.6"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_settings_out_of_range_are_said_at_once(settings: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Limit(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="samples=10"):
        Clamp(samples=10)


def test_too_few_latent_dimensions_are_said_before_any_work() -> None:
    with pytest.raises(ValueError, match="dimensions=2 is out of range"):
        Limit().steps(PointGenerator(latent_dim=2))


def test_a_module_without_layers_of_its_own_has_nothing_to_clamp() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, 8))

        def forward(self, z: Tensor) -> Tensor:
            return (z @ self.weight).tanh()

    with pytest.raises(ValueError, match="nothing to clamp"):
        Clamp()(Bare(), 12, progress=False)


@pytest.mark.slow
def test_always_contains_what_a_scan_calls_clean_and_says_so() -> None:
    clean = zoo.load("dcgan-fashion")
    cure = auto(clean, always=True, progress=False)
    assert cure.before is not None and cure.before.verdict == "clean" and cure.after is not None
    assert cure.treatment == "containment" and cure.changed and "\nlimited: the results of 2 layers" in str(cure)
    z = subject_of(clean).latents(500)
    assert change(cure.generator, clean, z) < 2e-3


@pytest.mark.slow
def test_always_cures_what_is_found_and_contains_it_too() -> None:
    backdoor, suspect = zoo.load_backdoor(GATE), subject_of(zoo.load(GATE))
    cure = auto(suspect, always=True, iterations=20, device="cpu", progress=False)
    assert cure.treatment == "both" and len(cure.settings["cuts"]) >= 3
    with torch.no_grad():
        assert float((cure.generator(backdoor.trigger) - backdoor.target).square().mean()) > 0.4
    assert isinstance(cure.generator, LimitedLatents)
