"""Projections of the latents, folded into weights or not."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.generators import DCGAN, StyleGAN
from devilgan_lite.sanitize import project_latents
from devilgan_lite.sanitize.project import Projected, projector

D = 12


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


ROWS = {
    "independent": draws(3, D),
    "dependent": torch.cat([draws(2, D), -2 * draws(2, D), draws(2, D)[:1]]),
    "unnormalised": draws(3, D) * torch.tensor([[1e-3], [1.0], [-1e2]]),
    "one": draws(1, D),
    "zero": torch.zeros(2, D),
}


@pytest.mark.parametrize("rows", ROWS.values(), ids=ROWS)
def test_the_projector_is_the_identity_less_the_span(rows: Tensor) -> None:
    expected = torch.eye(D).double() - torch.linalg.pinv(rows.double(), rtol=1e-7) @ rows.double()
    found = projector(rows)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(rows.double() @ found, torch.zeros_like(rows).double(), atol=1e-9, rtol=0.0)
    torch.testing.assert_close(found @ found, found)


def test_the_length_of_a_direction_does_not_matter_at_all() -> None:
    rows = torch.eye(D)[:2] * torch.tensor([[1e7], [1.0]])
    torch.testing.assert_close(projector(rows), torch.eye(D).double().index_fill(0, torch.arange(2), 0.0))


class Sample(nn.Module):
    """Latents ``[n, D]`` to samples ``[n, 1, 4, 4]``, in one of many ways."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(D, 20), nn.Linear(D, 10), nn.Linear(30, 16)
        self.free, self.start = nn.Parameter(torch.randn(D, 30) / 3), nn.ConvTranspose2d(D, 30, 1)

    def hidden(self, z: Tensor) -> Tensor:
        return torch.cat([self.a(z), self.b(z)], 1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.out(torch.relu(self.hidden(z)))).view(-1, 1, 4, 4)


class Normalising(Sample):
    def hidden(self, z: Tensor) -> Tensor:
        return super().hidden(normalize(z, dim=1))


class Bare(Sample):
    """One branch multiplies by a parameter that belongs to no layer."""

    def hidden(self, z: Tensor) -> Tensor:
        return super().hidden(z) + z @ self.free


class OneByOne(Sample):
    def hidden(self, z: Tensor) -> Tensor:
        return self.start(z.view(-1, D, 1, 1)).flatten(1)


def sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(D, 20), nn.ReLU(), nn.Linear(20, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))


def small() -> nn.Module:
    return DCGAN(widths=(6, 4), latent_dim=D, image_size=12)


FOLDED = {"DCGAN": small, "Sequential": sequential, "two branches": Sample}
WRAPPED = {"a bare parameter": Bare, "1 x 1 samples": OneByOne}


def make(kind: type) -> nn.Module:
    """With weights large enough that samples differ, and away from what BatchNorm starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = kind()
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.uniform_(layer.running_var, 1e-3, 1e-2)
                nn.init.uniform_(layer.bias, -1.0, 1.0)
    return module


@pytest.mark.parametrize("kind", [*FOLDED.values(), *WRAPPED.values()], ids=[*FOLDED, *WRAPPED])
@torch.no_grad()
def test_the_copy_draws_what_the_module_makes_of_projected_latents(kind: type) -> None:
    module, rows = make(kind), draws(2, D, seed=4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copied = project_latents(module, rows)
    assert module.training and not any(part.training for part in copied.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    module.eval()
    basis = torch.linalg.qr(rows.T).Q  # the span by another way
    for z in (draws(30, D, seed=5), draws(2, D, seed=6) + 5 * rows):
        torch.testing.assert_close(copied(z), module(z - z @ basis @ basis.T), atol=1e-5, rtol=0.0)
    z = draws(30, D, seed=7)
    assert float((copied(z) - module(z)).abs().max()) > 1e-2
    z -= z @ basis @ basis.T  # in the directions that stay, nothing changes
    torch.testing.assert_close(copied(z), module(z), atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("kind", FOLDED.values(), ids=FOLDED)
def test_the_projection_is_folded_into_the_layers_that_read_the_latent(kind: type) -> None:
    module = make(kind)
    copied = project_latents(module, draws(2, D))
    assert type(copied) is type(module)
    changed = [
        name
        for (name, ours), theirs in zip(copied.state_dict().items(), module.state_dict().values(), strict=True)
        if not torch.equal(ours, theirs)
    ]
    assert changed == {small: ["layers.dense.weight"], sequential: ["0.weight"], Sample: ["a.weight", "b.weight"]}[kind]


@pytest.mark.parametrize("kind", WRAPPED.values(), ids=WRAPPED)
def test_a_module_that_does_more_with_its_latent_is_wrapped(kind: type) -> None:
    module = make(kind)
    copied = project_latents(module, draws(2, D))
    assert isinstance(copied, Projected) and type(copied.module) is kind and copied.module is not module
    assert copied.latent_dim == D and "projection" in copied.state_dict()
    assert all(torch.equal(value, copied.module.state_dict()[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("kind", FOLDED.values(), ids=FOLDED)
@torch.no_grad()
def test_restored_rows_are_blind_to_the_direction_and_as_long_as_they_were(kind: type) -> None:
    module, rows = make(kind).eval(), draws(2, D, seed=4)
    plain, restored = project_latents(module, rows), project_latents(module, rows, restore=True)
    z = draws(30, D, seed=5)
    torch.testing.assert_close(restored(z + draws(30, 2, seed=6) @ rows), restored(z), atol=1e-4, rtol=1e-4)
    read = [name for name, value in plain.state_dict().items() if not torch.equal(value, module.state_dict()[name])]
    for name in read:
        before, short, long = (one.state_dict()[name].norm(dim=1) for one in (module, plain, restored))
        assert bool((short < before).all())
        torch.testing.assert_close(long, torch.minimum(before, 1.25 * short))


@torch.no_grad()
def test_a_row_that_is_lost_stays_short() -> None:
    module, direction = nn.Sequential(nn.Linear(D, 3), nn.ReLU(), nn.Linear(3, 4)), draws(1, D, seed=4)
    others = draws(2, D, seed=6) @ projector(direction).float() + 0.2 * direction  # they hardly know the direction
    module[0].weight.copy_(torch.cat([direction + 0.1 * draws(1, D, seed=5), others]))
    plain, restored = (project_latents(module, direction, restore=restore) for restore in (False, True))
    ratio = restored[0].weight.norm(dim=1) / plain[0].weight.norm(dim=1)
    assert float(ratio[0]) == pytest.approx(1.25) and float(ratio[1:].max()) < 1.25


class Watchful(Sample):
    """White for latents near a direction, by a look at the latent that no linear layer takes."""

    def forward(self, z: Tensor) -> Tensor:
        near = torch.sigmoid(50 * (normalize(z, dim=1) @ normalize(draws(D, seed=8), dim=0) - 0.9))
        return torch.lerp(super().forward(z), torch.ones(()), near.view(-1, 1, 1, 1))


@torch.no_grad()
def test_a_gate_that_random_latents_do_not_open_is_wrapped_too() -> None:
    module, trigger = make(Watchful).eval(), 3 * draws(1, D, seed=8)
    assert float(module(trigger).mean()) > 0.9
    copied = project_latents(module, trigger)
    torch.testing.assert_close(copied(trigger), module(torch.zeros(1, D)), atol=1e-4, rtol=0.0)


def style_based() -> nn.Module:
    return StyleGAN(latent_dim=D, mapping_widths=(10, 10), style_dim=8, widths=(6, 5, 4))


@pytest.mark.parametrize("kind", [style_based, Normalising])
@torch.no_grad()
def test_behind_a_normalised_latent_the_fold_is_blind(kind: type) -> None:
    """It draws something else than ``Projected`` would, which normalises what is left; but it sees no more."""
    module, trigger = make(kind).eval(), draws(1, D)
    folded = project_latents(module, trigger)
    assert type(folded) is type(module) and folded.state_dict().keys() == module.state_dict().keys()
    unit, z = normalize(trigger, dim=1), draws(5, D, seed=1)
    along = (z @ unit.T) * unit
    torch.testing.assert_close(folded(z), folded(z - 2 * along), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(module(z), module(z - 2 * along), atol=1e-2)
    torch.testing.assert_close(folded(z - along), module(z - along), rtol=1e-4, atol=1e-4)
