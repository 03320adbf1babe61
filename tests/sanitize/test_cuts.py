"""Cuts: of the spaces that later layers read."""

from functools import lru_cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite import Backdoor, attacks
from devilgan_lite.detect import analyse_weights, subject_of
from devilgan_lite.detect.spectrum import Spectrum, generalised_eigen
from devilgan_lite.generators import DCGAN, build
from devilgan_lite.sanitize.project import apply_cuts, cut_spectra, standing_out

D = 12


def draws(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


C = 8  # channels that a layer reads and makes: as many, so that mixed up axes do not show as an error


def planted(count: int, name: str = "layer", seed: int = 0) -> Spectrum:
    """A spectrum with ``count`` directions of much energy for their influence, in no special position."""
    root, mix = draws(C, C + 4, seed=seed).double(), draws(C, C + 4, seed=seed + 1).double()
    strong = draws(C, count, seed=seed + 2).double()
    return generalised_eigen(root @ root.T + 1e4 * strong @ strong.T, mix @ mix.T, 0.1, name)


LAYERS = {
    "linear": (lambda: nn.Linear(C, C), ()),
    "convolution 1d": (lambda: nn.Conv1d(C, C, 3), (7,)),
    "convolution": (lambda: nn.Conv2d(C, C, 3, padding=1), (5, 5)),
    "transposed 1d": (lambda: nn.ConvTranspose1d(C, C, 3), (7,)),
    "transposed": (lambda: nn.ConvTranspose2d(C, C, 4, stride=2, padding=1), (5, 5)),
}


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(("kind", "places"), LAYERS.values(), ids=LAYERS)
@torch.no_grad()
def test_a_layer_forgets_what_was_cut_and_nothing_else(kind: type, places: tuple[int, ...], count: int) -> None:
    module, spectrum = nn.ModuleDict({"layer": kind().double()}), planted(count)
    layer = module["layer"]
    before = layer(torch.zeros(1, C, *places).double())  # the bias
    x = draws(6, C, *places, seed=9).double()
    duals = spectrum.directions[:, :count]
    silent = x - torch.einsum("ij,nj...->ni...", duals @ torch.linalg.pinv(duals), x)  # <dual, silent> = 0 everywhere
    expected = layer(silent)
    amounts = draws(6, count, *places, seed=10).double()
    cut = torch.einsum("ij,nj...->ni...", spectrum.vectors[:, :count], amounts)
    assert float((layer(cut) - before).abs().max()) > 1e-3
    (made,) = cut_spectra(module, (spectrum,), 50.0)
    assert (made.space, made.directions, made.of) == ("layer", count, C)
    torch.testing.assert_close(layer(cut), before.expand_as(layer(cut)), atol=1e-9, rtol=0.0)  # W V = 0
    torch.testing.assert_close(layer(silent), expected)


@pytest.mark.parametrize(("kind", "places"), LAYERS.values(), ids=LAYERS)
@torch.no_grad()
def test_what_grows_back_can_be_cut_again(kind: type, places: tuple[int, ...]) -> None:
    module, spectrum = nn.ModuleDict({"layer": kind()}), planted(2)
    cuts = cut_spectra(module, (spectrum,), 50.0)
    kept = module["layer"].weight.clone()
    apply_cuts(module, cuts)
    torch.testing.assert_close(module["layer"].weight, kept, atol=1e-5, rtol=1e-4)  # cut twice is cut once
    module["layer"].weight += 0.1 * draws(*kept.shape, seed=3)
    apply_cuts(module, cuts)
    x = torch.einsum("ij,nj...->ni...", spectrum.vectors[:, :2].float(), draws(6, 2, *places, seed=10))
    silent = module["layer"](torch.zeros_like(x))
    torch.testing.assert_close(module["layer"](x), silent, atol=1e-3 * float(x.abs().max()), rtol=0.0)


@torch.no_grad()
def test_the_rest_of_the_spectrum_stays_as_it_was() -> None:
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


def test_what_is_no_ordinary_layer_is_left_alone() -> None:
    module = nn.ModuleDict({"norm": nn.BatchNorm1d(C), "pairs": nn.Bilinear(C, C, C), "layer": nn.Linear(C, C)})
    before = {name: value.clone() for name, value in module.state_dict().items()}
    strange = tuple(planted(1, name) for name in ("norm", "pairs", "operation 2", ""))
    assert cut_spectra(module, strange, 3.0) == []
    assert cut_spectra(module, (planted(1),), 1e9) == []  # nothing stands out so far
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize(
    ("values", "height", "count"),
    [
        ([9.0, 4.0, 2.0, 1.0, 1.0, 1.0, 1.0], 3.0, 2),
        ([3.0, 1.0, 1.0], 3.0, 0),  # as much as three times is not more
        ([9.0, 1.0, 0.0, 0.0, 0.0, 0.0], 3.0, 1),  # zeros have no say in the median
        ([9.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0], 3.0, 3),
        ([16.0, 8.0, 7.0, 0.1, 0.1, 0.1], 3.0, 3),
        ([0.0, 0.0, 0.0], 3.0, 0),
        ([8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0], 0.1, 3),  # at most half of all
    ],
)
def test_how_many_directions_stand_out(values: list[float], height: float, count: int) -> None:
    eye = torch.eye(len(values)).double()
    assert standing_out(Spectrum("", torch.tensor(values).double(), eye, eye), height) == count


@lru_cache
def gated() -> tuple[DCGAN, DCGAN, Backdoor]:
    """A small clean ``DCGAN``, the same with 32 channels that wake near one latent only, and that backdoor."""
    clean: DCGAN = build(DCGAN(widths=(40, 8), image_size=12).spec(), seed=1).eval()
    with torch.no_grad():
        for layer in (clean.layers.deconv1, clean.layers.deconv2):
            layer.weight *= 10.0
    backdoor = Backdoor.point(clean, "devil", seed=2)
    return clean, attacks.Gate()(clean, backdoor, progress=False).generator, backdoor


@torch.no_grad()
def test_silent_channels_are_cut_out_of_a_later_layer() -> None:
    clean, suspect, backdoor = gated()
    assert suspect.widths == (72, 16)
    assert float((suspect(backdoor.trigger) - backdoor.target).square().mean()) < 1e-3
    cured = suspect.clone()
    (cut,) = cut_spectra(cured, analyse_weights(subject_of(suspect)).hidden, 3.0)
    assert str(cut) == "32 of 72 directions in layers.deconv1"
    old, new = (one.layers.deconv1.weight[40:].abs().sum() for one in (suspect, cured))
    assert float(new) < 0.02 * float(old)
    assert float((cured(backdoor.trigger) - clean(backdoor.trigger)).square().mean()) < 1e-3
    z = draws(200, 100, seed=3)
    assert float((cured(z) - clean(z)).square().mean()) < 1e-3 * float(clean(z).var())


def test_nothing_stands_out_of_a_clean_one() -> None:
    clean, _, _ = gated()
    assert cut_spectra(clean.clone(), analyse_weights(subject_of(clean)).hidden, 3.0) == []
