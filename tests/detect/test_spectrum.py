"""The spectrum and its ingredients, of the latent and of later layers, against independent ways to compute the same."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu, normalize

from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.detect import analyse_weights, spectrum
from devilgan_lite.detect.spectrum import (
    Spectrum,
    Units,
    _energy,
    channel_scale,
    generalised_eigen,
    hidden_spectra,
    influence_at,
    latent_influence,
    latent_units,
    path_gains,
)
from devilgan_lite.generators import DCGAN, Adopted, Generator, adopt, build
from devilgan_lite.prior import PRIORS
from devilgan_lite.trace import Layer, Work, work_of


class Net(nn.Module):
    """``parts`` by name, and ``draw(net, z)`` for a forward pass."""

    def __init__(self, draw: Callable[[Any, Tensor], Tensor], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        self.draw = draw
        for name, part in parts.items():
            setattr(self, name, part)

    def forward(self, z: Tensor) -> Tensor:
        return self.draw(self, z)


def lively(seed: int = 1, **settings: object) -> DCGAN:
    """A small ``DCGAN`` whose BatchNorm statistics are not the trivial ones."""
    shape = {"widths": (8, 4), "latent_dim": 20, "image_size": 12, **settings}
    network: DCGAN = build(DCGAN(**shape).spec(), seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))):
            ranges = ((0.5, 2.0), (-1.0, 1.0), (-0.1, 0.1), (0.001, 0.01))
            for value, (low, high) in zip(
                (norm.weight, norm.bias, norm.running_mean, norm.running_var), ranges, strict=True
            ):
                value.copy_(torch.rand(value.shape, generator=random) * (high - low) + low)
    return network


def symmetric(d: int, seed: int) -> Tensor:
    root = torch.randn(d, d + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


def units_of(module: nn.Module, n: int = 100) -> tuple[Generator, Units]:
    subject = adopt(module)
    return subject, latent_units(subject, path_gains(subject, n=n).activations)


def test_the_eigenvalues_are_those_of_scipy() -> None:
    energy, influence = symmetric(9, 0), symmetric(9, 1)
    for ridge in (0.0, 0.1, 2.0):
        found = generalised_eigen(energy, influence, ridge, "here")
        whole = influence + ridge * influence.diagonal().mean() * torch.eye(9)
        values, vectors = scipy.linalg.eigh(energy.numpy(), whole.numpy())
        torch.testing.assert_close(found.values.flip(0), torch.from_numpy(values))
        expected = normalize(energy @ torch.from_numpy(vectors), dim=0).flip(1)
        torch.testing.assert_close((expected * found.directions).sum(0).abs(), torch.ones(9, dtype=torch.float64))
        torch.testing.assert_close(energy @ found.vectors, whole @ found.vectors * found.values)
        assert found.space == "here"


def of_values(*values: float) -> Spectrum:
    eye = torch.eye(len(values)).double()
    return Spectrum("", torch.tensor(values).double(), eye, eye)


def test_what_stands_out() -> None:
    """``gap`` sees one planted direction, ``jump`` any number up to ten, ``height`` any number below half."""
    basis = torch.linalg.qr(symmetric(40, 2)).Q
    for planted in (1, 2, 5, 10):
        energy = torch.eye(40).double() + 49 * basis[:, :planted] @ basis[:, :planted].T
        found = generalised_eigen(energy, torch.eye(40), 0.0, "")
        assert found.jump == pytest.approx(50) and found.height == pytest.approx(50) and found.outstanding == planted
        assert found.gap == pytest.approx(50 if planted == 1 else 1)
        assert found.cliff == pytest.approx(torch.tensor(50.0).log().item()) and found.rank == 40
        inside = (basis[:, :planted].T @ found.directions[:, :planted]).square().sum(0)
        torch.testing.assert_close(inside, torch.ones_like(inside))
    # zeros do not: a layer that reads few dimensions has no energy in the others, and that is no backdoor
    rows = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = torch.zeros(20, 20, dtype=torch.float64)
    energy[:6, :6] = rows.T @ rows
    turn = torch.linalg.qr(symmetric(20, 3)).Q
    found = generalised_eigen(turn @ energy @ turn.T, torch.eye(20), 0.1, "")
    assert found.jump < 5 and found.height < 5 and found.gap < 5 and found.rank == 6
    for flat in (of_values(*[0.0] * 5), of_values(1.0)):
        assert flat.jump == flat.gap == flat.height == 1.0 and flat.cliff == 0.0
    late = of_values(*[8.0] * 3, *[2.0] * 2, 1.0)  # a cliff counts in the upper half of the rank only
    assert late.cliff == pytest.approx(torch.tensor(4.0).log().item()) and of_values(8, 8, 8, 8, 8, 1).cliff == 0


def test_units_are_the_first_layers_with_their_norms_folded() -> None:
    network = lively()
    subject, units = units_of(network)
    z = subject.ordinary(50, seed=9)
    with torch.no_grad():
        expected = network.layers[:2](z).double()  # dense, BatchNorm
    assert units.exact and units.slope == 0.0
    assert units.rows.shape == (8 * 9, 20) and units.gain.shape == units.bias.shape == (72,)
    torch.testing.assert_close(z.double() @ units.rows.T + units.bias, expected, rtol=1e-4, atol=1e-4)
    branched = Net(
        lambda net, z: torch.tanh(
            net.out(torch.cat([net.c(net.a(z).relu()).relu(), leaky_relu(net.b(z), 0.2)], 1))
        ).view(-1, 1, 4, 4),
        a=nn.Linear(7, 11), b=nn.Linear(7, 5), c=nn.Linear(11, 6), out=nn.Linear(6 + 5, 16),
    )  # fmt: skip
    units = units_of(branched)[1]  # parallel branches stand together
    torch.testing.assert_close(units.rows.float(), torch.cat([branched.a.weight, branched.b.weight]).detach())
    torch.testing.assert_close(units.bias.float(), torch.cat([branched.a.bias, branched.b.bias]).detach())
    plain = adopt(nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))))
    with pytest.raises(ValueError, match="no hidden activation"):
        latent_units(plain, [])


def test_units_behind_a_normalised_latent_are_mean_jacobians() -> None:
    torch.manual_seed(0)
    module = Net(
        lambda net, z: torch.tanh(net.out(net.a(normalize(z, dim=1)).relu())).view(-1, 1, 4, 4),
        a=nn.Linear(6, 9),
        out=nn.Linear(9, 16),
    )
    subject, units = units_of(module)
    assert not units.exact
    at = subject.ordinary(16, seed=1)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda z: module.a(z / z.norm())))(at).detach()
    torch.testing.assert_close(units.rows.float(), jacobians.mean(0), rtol=0.05, atol=2e-3)


@pytest.mark.parametrize("prior", PRIORS)
def test_influence_is_the_mean_square_of_jacobians(prior: str) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(6, 20), nn.Softplus(), nn.Linear(20, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    subject = adopt(module, prior=prior)
    jacobians = torch.func.vmap(torch.func.jacrev(module))(subject.ordinary(40, seed=5).unsqueeze(1)).flatten(1, -3)
    jacobians = jacobians.flatten(2).detach().double()
    expected = torch.einsum("nij,nik->jk", jacobians, jacobians) / 40
    found = latent_influence(subject, latents=40, seed=5)
    assert (found - expected).norm() < 0.01 * expected.norm()
    with pytest.MonkeyPatch.context() as patch:  # gradients of random projections are as good, where there are many
        patch.setattr(spectrum, "LARGE", 4)
        found = influence_at(subject, subject.ordinary(40, seed=5).repeat(500, 1))
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_gains_equal_the_average_over_all_patterns_of_gates(slope: float) -> None:
    """``E (dG/dh)^2`` summed over outputs, with each gate of the second layer 1 or ``slope``, at even chances."""
    torch.manual_seed(1)
    first, second, last = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 4)
    switch = nn.LeakyReLU(slope) if slope else nn.ReLU()
    module = nn.Sequential(first, switch, second, switch, last, nn.Unflatten(1, (1, 2, 2))).requires_grad_(False)
    paths = path_gains(Adopted(module, (4,), (1, 2, 2), "gaussian", "none", None), n=20_000, batch_size=2_000)
    patterns = [torch.tensor(gates) for gates in itertools.product((1.0, slope), repeat=2)]
    through = torch.stack([(last.weight * gates) @ second.weight for gates in patterns])  # of each pattern, [4, 3]
    at_first, at_second = through.square().sum(1).mean(0).double(), last.weight.square().sum(0).double()
    coin = (1 + slope**2) / 2
    found = [*paths.activations, *paths.results]
    wanted = [at_first, at_second, at_first * coin, at_second * coin, torch.ones(4).double()]
    for pair in zip(found, wanted, strict=True):
        torch.testing.assert_close(*pair, rtol=0.06, atol=0.0)
    assert [torch.equal(*pair) for pair in zip(paths.weights, (first.weight, second.weight, last.weight), strict=True)]


def test_units_that_never_wake_have_a_gain_all_the_same() -> None:
    network = lively()
    with torch.no_grad():
        network.layers.norm0.bias[:9] = -1_000.0  # the first channel
    gains, alive = (path_gains(adopt(one), n=500).activations[0] for one in (network, lively()))
    assert float(gains[:9].min()) > 0 and float(gains[:9].mean()) == pytest.approx(float(alive[:9].mean()), rel=0.3)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_no_spectrum_sees_a_disguise(slope: float) -> None:
    network = lively(negative_slope=slope)
    hidden = disguise(network, spread=8.0, noise_scale=0.0, seed=3)
    plain, moved = (analyse_weights(adopt(one)) for one in (network, hidden))
    assert not torch.allclose(plain.units.rows.norm(dim=1).sort()[0], moved.units.rows.norm(dim=1).sort()[0], rtol=0.2)
    torch.testing.assert_close(plain.by_weight.values, moved.by_weight.values, rtol=0.03, atol=0.0)
    torch.testing.assert_close(plain.by_use.values, moved.by_use.values, rtol=0.03, atol=0.0)
    for ours, theirs in zip(plain.hidden, moved.hidden, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, rtol=0.1, atol=0.01 * float(ours.values[0]))


def test_channels_are_measured_in_their_own_unit() -> None:
    energy, influence = symmetric(6, 4), symmetric(6, 5)
    moved = torch.tensor([1.0, 30.0, 0.01, 1.0, 5.0, 0.2]).double()
    moved = 1 / (moved * moved.unsqueeze(1))
    root = influence.diagonal().sqrt()
    for values in ((energy, influence), (energy * moved, influence * moved)):
        own = channel_scale(*values)
        torch.testing.assert_close(influence / root.outer(root), values[1] / own.outer(own))
    dead = influence.clone()
    dead[2], dead[:, 2] = 0.0, 0.0
    usual = float((dead.diagonal() / energy.diagonal()).median())
    assert float(channel_scale(energy, dead)[2].square()) == pytest.approx(0.01 * usual * float(energy[2, 2]))
    assert torch.equal(channel_scale(torch.zeros(3, 3), torch.zeros(3, 3)), torch.ones(3))


def test_a_learned_constant_is_no_obstacle() -> None:
    styled = Net(  # a constant sample through a convolution, scaled by what the latent says
        lambda net, z: torch.tanh(
            net.out(torch.relu(torch.relu(net.style(z))[:, :, None, None] * torch.relu(net.smooth(net.constant))))
        ),
        constant=nn.Parameter(torch.randn(1, 8, 4, 4)), smooth=nn.Conv2d(8, 8, 3, padding=1), style=nn.Linear(10, 8),
        out=nn.ConvTranspose2d(8, 1, 4, 2, 1),
    )  # fmt: skip
    parts = analyse_weights(adopt(styled))
    torch.testing.assert_close(parts.units.rows.float(), styled.style.weight.detach())
    assert [one.space for one in parts.hidden] == ["out"]
    repeated = Net(  # once for each latent
        lambda net, z: torch.tanh(net.last(net.constant.expand(len(z), -1).relu() * torch.relu(net.scale(z)))),
        constant=nn.Parameter(torch.ones(16)),
        scale=nn.Linear(8, 16),
        last=nn.Linear(16, 9),
    )
    units = units_of(repeated)[1]
    assert units.exact and units.rows.shape == (16, 8)


def test_no_later_layer_of_a_fit_size_gives_no_hidden_spectrum() -> None:
    for width, count in ((3, 0), (4, 1), (1_024, 1), (1_025, 0)):
        layers = nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))
        subject = adopt(nn.Sequential(*layers))
        assert len(hidden_spectra(subject, path_gains(subject, n=100), 0.1, n=100)) == count


@pytest.mark.parametrize("matrix", [False, True], ids=["linear layers", "matrix products"])
def test_the_hidden_spectrum_of_a_small_network(matrix: bool) -> None:
    """Energy of the last layer, influence of what it reads: both have short formulas here."""
    torch.manual_seed(0)

    def draw(net: Any, z: Tensor) -> Tensor:
        hidden = torch.relu(z @ net.a)
        return (hidden @ net.b if matrix else torch.nn.functional.linear(hidden, net.b.T)).view(-1, 1, 4, 4)

    module = Net(draw, a=nn.Parameter(torch.randn(6, 16) / 3), b=nn.Parameter(torch.randn(16, 16) / 20))
    subject = adopt(module, 6)
    (found,) = hidden_spectra(subject, path_gains(subject, n=4_000), 0.1, n=4_000)
    square = (module.b @ module.b.T).detach().double()
    assert found.space == "b"
    torch.testing.assert_close(found.values, generalised_eigen(square, square, 0.1, "b").values, rtol=0.1, atol=0.02)


def test_a_layer_that_is_used_several_times_has_one_spectrum() -> None:
    """Its uses are places where it reads: as if rows of both were read at once."""
    torch.manual_seed(0)
    module = Net(
        lambda net, z: net.c(net.b(net.b(net.a(z).relu()).relu()).relu()).tanh().view(-1, 1, 2, 2),
        a=nn.Linear(6, 8),
        b=nn.Linear(8, 8),
        c=nn.Linear(8, 4),
    )
    subject = adopt(module)
    found = hidden_spectra(subject, path_gains(subject, n=200), 0.1, n=200)
    assert [(one.space, one.readers) for one in found] == [("b", ("b",)), ("c", ("c",))]
    assert analyse_weights(subject).moves and work_of(subject.network, subject.ordinary(2)) == Work(208, 2)


def test_energy_weighs_each_output_by_its_gain() -> None:
    random = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(3, 5, generator=random), torch.rand(3, generator=random)
    kernel, gains = torch.randn(3, 5, 2, 2, generator=random), torch.rand(3, 4, 4, generator=random)
    square = torch.einsum("oiuv,o,ojuv->ij", kernel, gains.sum((1, 2)), kernel)
    for kind, stored, of, expected in (
        ("linear", weight, gain, weight.T @ torch.diag(gain) @ weight),
        ("convolution", kernel, gains, square),
        ("transposed convolution", kernel.transpose(0, 1), gains, square),
    ):
        found = _energy(Layer("", kind, 5, 3, 60), stored, of)
        torch.testing.assert_close(found, expected)
    assert _energy(Layer("", "convolution", 10, 3, 60), kernel, gains) is None  # grouped
