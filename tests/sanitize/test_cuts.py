"""Projections of the latents and cuts of the spaces that later layers read: what is forgotten, and nothing else."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite import Backdoor, attacks
from devilgan_lite.detect import analyse_weights
from devilgan_lite.detect.spectrum import Spectrum, generalised_eigen
from devilgan_lite.generators import DCGAN, StyleGAN, adopt, build
from devilgan_lite.generators.stack import ProjectedLatents
from devilgan_lite.sanitize import project_latents
from devilgan_lite.sanitize.project import apply_cuts, cut_spectra, projector, standing_out

D, C = (
    12,
    8,
)  # of a latent; channels that a layer reads and makes: as many, so that mixed up axes do not show as an error


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def planted(count: int, name: str = "layer", seed: int = 0) -> Spectrum:
    """A spectrum with ``count`` directions of much energy for their influence, in no special position."""
    root, mix = draws(C, C + 4, seed=seed).double(), draws(C, C + 4, seed=seed + 1).double()
    strong = draws(C, count, seed=seed + 2).double()
    return generalised_eigen(root @ root.T + 1e4 * strong @ strong.T, mix @ mix.T, 0.1, name)


LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(C, C), ()),
    "convolution 1d": (lambda: nn.Conv1d(C, C, 3), (7,)),
    "convolution": (lambda: nn.Conv2d(C, C, 3, padding=1), (5, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(C, C, 3), (7,)),
    "transposed": (lambda: nn.ConvTranspose2d(C, C, 4, stride=2, padding=1), (5, 5)),
}


@pytest.mark.parametrize(("kind", "places"), LAYERS.values(), ids=LAYERS)
@torch.no_grad()
def test_a_layer_forgets_what_was_cut_and_nothing_else(kind: Any, places: tuple[int, ...]) -> None:
    for count in (1, 3):
        module, spectrum = nn.ModuleDict({"layer": kind().double()}), planted(count)
        layer = module["layer"]
        before = layer(torch.zeros(1, C, *places).double())  # the bias
        x = draws(6, C, *places, seed=9).double()
        duals = spectrum.directions[:, :count]
        silent = x - torch.einsum("ij,nj...->ni...", duals @ torch.linalg.pinv(duals), x)  # <dual, silent> = 0
        expected = layer(silent)
        amounts = draws(6, count, *places, seed=10).double()
        cut = torch.einsum("ij,nj...->ni...", spectrum.vectors[:, :count], amounts)
        assert float((layer(cut) - before).abs().max()) > 1e-3
        (made,) = cuts = cut_spectra(module, (spectrum,), 50.0)
        assert (made.space, made.directions, made.of) == ("layer", count, C)
        torch.testing.assert_close(layer(cut), before.expand_as(layer(cut)), atol=1e-9, rtol=0.0)  # W V = 0
        torch.testing.assert_close(layer(silent), expected)
        kept = layer.weight.clone()
        apply_cuts(module, cuts)
        torch.testing.assert_close(layer.weight, kept)  # cut twice is cut once
        layer.weight += 0.1 * draws(*kept.shape, seed=3)
        apply_cuts(module, cuts)  # what grows back can be cut again
        torch.testing.assert_close(layer(cut), before.expand_as(layer(cut)), atol=1e-9, rtol=0.0)


@torch.no_grad()
def test_the_rest_of_the_spectrum_and_what_is_no_ordinary_layer_stay() -> None:
    layer = nn.Linear(C, 30).double()
    strong = normalize(draws(C, seed=1).double(), dim=0)
    layer.weight += 20 * torch.outer(normalize(draws(30, seed=2).double(), dim=0), strong)
    mix = draws(C, C + 4, seed=3).double()
    before = generalised_eigen(layer.weight.T @ layer.weight, mix @ mix.T, 0.1, "0")
    (cut,) = cut_spectra(nn.Sequential(layer), (before,), 50.0)
    after = generalised_eigen(layer.weight.T @ layer.weight, mix @ mix.T, 0.1, "0")
    assert cut.directions == 1 and str(cut) == f"1 of {C} directions in 0"
    torch.testing.assert_close(after.values[:-1], before.values[1:])
    assert abs(float(after.values[-1])) < 1e-9 * float(before.values[0])
    module = nn.ModuleDict({"norm": nn.BatchNorm1d(C), "pairs": nn.Bilinear(C, C, C), "layer": nn.Linear(C, C)})
    state = {name: value.clone() for name, value in module.state_dict().items()}
    strange = tuple(planted(1, name) for name in ("norm", "pairs", "operation 2", ""))
    assert cut_spectra(module, strange, 3.0) == []
    assert cut_spectra(module, (planted(1),), 1e9) == []  # nothing stands out so far
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_how_many_directions_stand_out() -> None:
    for values, height, count in (
        ([9.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0], 3.0, 2),
        ([3.0, 1.0, 1.0], 3.0, 0),  # as much as three times is not more
        ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 3.0, 1),  # zeros have no say in the median
        ([9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0], 3.0, 3),
        ([16.0, 8.0, 7.0, 0.1, 0.1, 0.1], 3.0, 3),
        ([0.0, 0.0, 0.0], 3.0, 0),
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 0.1, 3),  # at most half of all
    ):
        eye = torch.eye(len(values)).double()
        assert standing_out(Spectrum("", torch.tensor(values).double(), eye, eye), height) == count, values


@torch.no_grad()
def test_silent_channels_are_cut_out_of_a_later_layer_and_nothing_of_a_clean_one() -> None:
    """32 channels of this gate wake near one latent only."""
    clean: DCGAN = build(DCGAN(widths=(40, 8), image_size=12).spec(), seed=1).eval()
    for layer in (clean.layers.deconv1, clean.layers.deconv2):
        layer.weight *= 10.0
    backdoor = Backdoor.point(clean, "devil", seed=2)
    suspect = attacks.Gate()(clean, backdoor, progress=False).generator
    assert suspect.widths == (72, 16) and float((suspect(backdoor.trigger) - backdoor.target).square().mean()) < 1e-3
    cured = suspect.clone()
    (cut,) = cut_spectra(cured, analyse_weights(adopt(suspect)).hidden, 3.0)
    assert str(cut) == "32 of 72 directions in layers.deconv1"
    old, new = (one.layers.deconv1.weight[40:].abs().sum() for one in (suspect, cured))
    assert float(new) < 0.02 * float(old)
    assert float((cured(backdoor.trigger) - clean(backdoor.trigger)).square().mean()) < 1e-3
    z = draws(200, 100, seed=3)
    assert float((cured(z) - clean(z)).square().mean()) < 1e-3 * float(clean(z).var())
    assert cut_spectra(clean.clone(), analyse_weights(adopt(clean)).hidden, 3.0) == []


def test_the_projector_is_the_identity_less_the_span_whatever_the_lengths() -> None:
    for rows in (
        draws(3, D),
        torch.cat([draws(2, D), -2 * draws(2, D), draws(2, D)[:1]]),  # dependent
        draws(3, D) * torch.tensor([[1e-3], [1.0], [-1e2]]),
        draws(1, D),
        torch.zeros(2, D),
    ):
        expected = torch.eye(D).double() - torch.linalg.pinv(rows.double(), rtol=1e-7) @ rows.double()
        found = projector(rows)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(rows.double() @ found, torch.zeros_like(rows).double(), atol=1e-9, rtol=0.0)
        torch.testing.assert_close(found @ found, found)
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


class Watchful(Sample):
    """White for latents near a direction, by a look at the latent that no linear layer takes."""

    def forward(self, z: Tensor) -> Tensor:
        near = torch.sigmoid(50 * (normalize(z, dim=1) @ normalize(draws(D, seed=8), dim=0) - 0.9))
        return torch.lerp(super().forward(z), torch.ones(()), near.view(-1, 1, 1, 1))


def sequential() -> nn.Module:
    return nn.Sequential(nn.Linear(D, 20), nn.ReLU(), nn.Linear(20, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))


def small() -> nn.Module:
    return DCGAN(widths=(6, 4), latent_dim=D, image_size=12)


def style_based() -> nn.Module:
    return StyleGAN(latent_dim=D, mapping_widths=(10, 10), style_dim=8, widths=(6, 5, 4))


FOLDED: dict[Any, list[str]] = {  # which weights take the projection; other modules are wrapped
    small: ["layers.dense.weight"], sequential: ["0.weight"], Sample: ["a.weight", "b.weight"], Bare: [], OneByOne: [],
}  # fmt: skip


def make(kind: Any) -> nn.Module:
    """With weights large enough that samples differ, and away from what BatchNorm starts with."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module: nn.Module = kind()
        for layer in module.modules():
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
                nn.init.uniform_(layer.running_var, 1e-3, 1e-2)
                nn.init.uniform_(layer.bias, -1.0, 1.0)
    return module


@pytest.mark.parametrize("kind", FOLDED)
@torch.no_grad()
def test_the_copy_draws_what_the_module_makes_of_projected_latents(kind: Any) -> None:
    module, rows = make(kind), draws(2, D, seed=4)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    copied = project_latents(module, rows)
    assert module.training and not any(part.training for part in copied.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    if FOLDED[kind]:
        assert type(copied) is type(module)
        assert [name for name, value in copied.state_dict().items() if not torch.equal(value, before[name])] == FOLDED[
            kind
        ]
    else:
        blindfold, inner = copied
        assert isinstance(blindfold, ProjectedLatents) and type(inner) is kind and inner is not module
        assert blindfold.latent_dim == D
        assert all(torch.equal(value, before[name]) for name, value in inner.state_dict().items())
    module.eval()
    basis = torch.linalg.qr(rows.T).Q  # the span by another way
    for z in (draws(30, D, seed=5), draws(2, D, seed=6) + 5 * rows):
        torch.testing.assert_close(copied(z), module(z - z @ basis @ basis.T), atol=1e-5, rtol=0.0)
    z = draws(30, D, seed=7)
    assert float((copied(z) - module(z)).abs().max()) > 1e-2
    z -= z @ basis @ basis.T  # in the directions that stay, nothing changes
    torch.testing.assert_close(copied(z), module(z), atol=1e-5, rtol=0.0)
    if not FOLDED[kind]:
        return
    z, restored = draws(30, D, seed=5), project_latents(module, rows, restore=True)  # as blind, as long as they were
    torch.testing.assert_close(restored(z + draws(30, 2, seed=6) @ rows), restored(z), atol=1e-4, rtol=1e-4)
    for name in FOLDED[kind]:
        old, short, long = (one.state_dict()[name].norm(dim=1) for one in (module, copied, restored))
        assert bool((short < old).all())
        torch.testing.assert_close(long, torch.minimum(old, 1.25 * short))


@torch.no_grad()
def test_a_row_that_is_lost_stays_short_and_a_gate_that_random_latents_do_not_open_is_wrapped() -> None:
    module, direction = nn.Sequential(nn.Linear(D, 3), nn.ReLU(), nn.Linear(3, 4)), draws(1, D, seed=4)
    others = draws(2, D, seed=6) @ projector(direction).float() + 0.2 * direction  # they hardly know the direction
    module[0].weight.copy_(torch.cat([direction + 0.1 * draws(1, D, seed=5), others]))
    plain, restored = (project_latents(module, direction, restore=restore) for restore in (False, True))
    ratio = restored[0].weight.norm(dim=1) / plain[0].weight.norm(dim=1)
    assert float(ratio[0]) == pytest.approx(1.25) and float(ratio[1:].max()) < 1.25
    watchful, trigger = make(Watchful).eval(), 3 * draws(1, D, seed=8)
    assert float(watchful(trigger).mean()) > 0.9
    copied = project_latents(watchful, trigger)
    torch.testing.assert_close(copied(trigger), watchful(torch.zeros(1, D)), atol=1e-4, rtol=0.0)


@pytest.mark.parametrize("kind", [style_based, Normalising])
@torch.no_grad()
def test_behind_a_normalised_latent_the_fold_is_blind(kind: Any) -> None:
    """It draws something else than ``Projected`` would, which normalises what is left; but it sees no more."""
    module, trigger = make(kind).eval(), draws(1, D)
    folded = project_latents(module, trigger)
    assert type(folded) is type(module) and folded.state_dict().keys() == module.state_dict().keys()
    unit, z = normalize(trigger, dim=1), draws(5, D, seed=1)
    along = (z @ unit.T) * unit
    torch.testing.assert_close(folded(z), folded(z - 2 * along), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(module(z), module(z - 2 * along), atol=1e-2)
    torch.testing.assert_close(folded(z - along), module(z - along), rtol=1e-4, atol=1e-4)
