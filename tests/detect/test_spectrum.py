"""The spectrum and its ingredients against independent ways to compute the same."""

import itertools

import pytest
import scipy.linalg
import torch
from torch import Tensor, nn

from devilgan_lite import data
from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.detect import Subject, analyse_weights, spectrum, subject_of
from devilgan_lite.detect.hidden import _energy, channel_scale, hidden_spectra
from devilgan_lite.detect.spectrum import (
    Spectrum,
    generalised_eigen,
    influence_at,
    latent_influence,
    latent_units,
    path_gains,
)
from devilgan_lite.generators import DCGAN, build
from devilgan_lite.prior import PRIORS, Prior
from devilgan_lite.trace import Layer, Work, work_of


def lively(seed: int = 1, **settings: object) -> DCGAN:
    """A small ``DCGAN`` whose BatchNorm statistics are not the trivial ones."""
    shape = {"widths": (8, 4), "latent_dim": 20, "image_size": 12, **settings}
    network: DCGAN = build(DCGAN(**shape).spec(), seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))):
            for value, low, high in [
                (norm.weight, 0.5, 2.0),
                (norm.bias, -1.0, 1.0),
                (norm.running_mean, -0.1, 0.1),
                (norm.running_var, 0.001, 0.01),
            ]:
                assert value is not None
                value.copy_(torch.rand(value.shape, generator=random) * (high - low) + low)
    return network


def symmetric(d: int, seed: int) -> Tensor:
    root = torch.randn(d, d + 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T


@pytest.mark.parametrize("ridge", [0.0, 0.1, 2.0])
def test_the_eigenvalues_are_those_of_scipy(ridge: float) -> None:
    energy, influence = symmetric(9, 0), symmetric(9, 1)
    found = generalised_eigen(energy, influence, ridge, "here")
    whole = influence + ridge * influence.diagonal().mean() * torch.eye(9)
    values, vectors = scipy.linalg.eigh(energy.numpy(), whole.numpy())
    torch.testing.assert_close(found.values.flip(0), torch.from_numpy(values))
    expected = torch.nn.functional.normalize(energy @ torch.from_numpy(vectors), dim=0).flip(1)
    torch.testing.assert_close((expected * found.directions).sum(0).abs(), torch.ones(9, dtype=torch.float64))
    torch.testing.assert_close(energy @ found.vectors, whole @ found.vectors * found.values)
    assert found.space == "here"


def test_what_stands_out() -> None:
    """``gap`` sees one planted direction, ``jump`` any number up to ten, ``height`` any number below half."""
    basis = torch.linalg.qr(symmetric(40, 2)).Q
    for planted in (1, 2, 5, 10):
        energy = torch.eye(40).double() + 49 * basis[:, :planted] @ basis[:, :planted].T
        found = generalised_eigen(energy, torch.eye(40), 0.0, "")
        assert found.jump == pytest.approx(50)
        assert found.height == pytest.approx(50)
        assert found.gap == pytest.approx(50 if planted == 1 else 1)
        inside = (basis[:, :planted].T @ found.directions[:, :planted]).square().sum(0)
        torch.testing.assert_close(inside, torch.ones_like(inside))


def test_zeros_do_not_stand_out() -> None:
    """A layer that reads few dimensions has no energy in the others; that is no backdoor."""
    rows = torch.randn(30, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    energy = torch.zeros(20, 20, dtype=torch.float64)
    energy[:6, :6] = rows.T @ rows
    turn = torch.linalg.qr(symmetric(20, 3)).Q
    found = generalised_eigen(turn @ energy @ turn.T, torch.eye(20), 0.1, "")
    assert found.jump < 5 and found.height < 5 and found.gap < 5
    for values in (torch.zeros(5), torch.ones(1)):
        spectrum = Spectrum("", values.double(), torch.eye(len(values)).double(), torch.eye(len(values)).double())
        assert spectrum.jump == spectrum.gap == spectrum.height == 1.0


def test_units_are_the_first_layer_with_its_norm_folded() -> None:
    network = lively()
    subject = subject_of(network)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    z = subject.latents(50, seed=9)
    with torch.no_grad():
        expected = network.layers[:2](z).double()  # dense, BatchNorm
    assert units.exact and units.slope == 0.0
    assert units.rows.shape == (8 * 9, 20) and units.gain.shape == units.bias.shape == (72,)
    torch.testing.assert_close(z.double() @ units.rows.T + units.bias, expected, rtol=1e-4, atol=1e-4)


def test_units_of_parallel_branches_stand_together() -> None:
    class Branched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(7, 11), nn.Linear(7, 5)
            self.c, self.out = nn.Linear(11, 6), nn.Linear(6 + 5, 16)

        def forward(self, z: Tensor) -> Tensor:
            deep = torch.relu(self.c(torch.relu(self.a(z))))
            beside = torch.nn.functional.leaky_relu(self.b(z), 0.2)
            return torch.tanh(self.out(torch.cat([deep, beside], 1))).view(-1, 1, 4, 4)

    module = Branched()
    subject = subject_of(module)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    torch.testing.assert_close(units.rows.float(), torch.cat([module.a.weight, module.b.weight]).detach())
    torch.testing.assert_close(units.bias.float(), torch.cat([module.a.bias, module.b.bias]).detach())


def test_units_behind_a_normalised_latent_are_mean_jacobians() -> None:
    class Normalised(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.out = nn.Linear(6, 9), nn.Linear(9, 16)

        def forward(self, z: Tensor) -> Tensor:
            return torch.tanh(self.out(torch.relu(self.a(torch.nn.functional.normalize(z, dim=1))))).view(-1, 1, 4, 4)

    torch.manual_seed(0)
    module = Normalised()
    subject = subject_of(module)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    assert not units.exact
    at = subject.latents(16, seed=1)
    jacobians = torch.func.vmap(torch.func.jacrev(lambda z: module.a(z / z.norm())))(at).detach()
    torch.testing.assert_close(units.rows.float(), jacobians.mean(0), rtol=0.05, atol=2e-3)


def test_a_network_without_switches_says_so() -> None:
    subject = subject_of(nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))))
    with pytest.raises(ValueError, match="no hidden activation"):
        latent_units(subject, [])


@pytest.mark.parametrize("prior", PRIORS)
def test_influence_is_the_mean_square_of_jacobians(prior: str) -> None:
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(6, 20), nn.Softplus(), nn.Linear(20, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    subject = subject_of(module, prior=prior)
    jacobians = torch.func.vmap(torch.func.jacrev(module))(subject.latents(40, seed=5).unsqueeze(1)).flatten(1, -3)
    jacobians = jacobians.flatten(2).detach().double()
    expected = torch.einsum("nij,nik->jk", jacobians, jacobians) / 40
    found = latent_influence(subject, latents=40, seed=5)
    assert (found - expected).norm() < 0.01 * expected.norm()
    with pytest.MonkeyPatch.context() as patch:  # gradients of random projections are as good, where there are many
        patch.setattr(spectrum, "LARGE", 4)
        found = influence_at(subject, subject.latents(40, seed=5).repeat(500, 1))
    assert (found - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_gains_equal_the_average_over_all_patterns_of_gates(slope: float) -> None:
    """``E (dG/dh)^2`` summed over outputs, with each gate of the second layer 1 or ``slope``, at even chances."""
    torch.manual_seed(1)
    first, second, last = nn.Linear(4, 3), nn.Linear(3, 2), nn.Linear(2, 4)
    activation = nn.LeakyReLU(slope) if slope else nn.ReLU()
    module = nn.Sequential(first, activation, second, activation, last, nn.Unflatten(1, (1, 2, 2))).requires_grad_(
        False
    )
    paths = path_gains(Subject(module, Prior.gaussian(4), (1, 2, 2), data.IMAGES), n=20_000, batch_size=2_000)
    patterns = [torch.tensor(gates) for gates in itertools.product((1.0, slope), repeat=2)]
    through = torch.stack([(last.weight * gates) @ second.weight for gates in patterns])  # of each pattern, [4, 3]
    at_first, at_second = through.square().sum(1).mean(0).double(), last.weight.square().sum(0).double()
    coin = (1 + slope**2) / 2
    close = {"rtol": 0.06, "atol": 0.0}
    torch.testing.assert_close(paths.activations[0], at_first, **close)
    torch.testing.assert_close(paths.activations[1], at_second, **close)
    torch.testing.assert_close(paths.results[0], at_first * coin, **close)
    torch.testing.assert_close(paths.results[1], at_second * coin, **close)
    torch.testing.assert_close(paths.results[2], torch.ones(4).double(), **close)
    assert [torch.equal(*pair) for pair in zip(paths.weights, (first.weight, second.weight, last.weight), strict=True)]


def test_units_that_never_wake_have_a_gain_all_the_same() -> None:
    network = lively()
    with torch.no_grad():
        network.layers.norm0.bias[:9] = -1_000.0  # the first channel
    gains = path_gains(subject_of(network), n=500).activations[0]
    assert float(gains[:9].min()) > 0
    alive = path_gains(subject_of(lively()), n=500).activations[0]
    assert float(gains[:9].mean()) == pytest.approx(float(alive[:9].mean()), rel=0.3)


@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_no_spectrum_sees_a_disguise(slope: float) -> None:
    network = lively(negative_slope=slope)
    hidden = disguise(network, spread=8.0, noise_scale=0.0, seed=3)
    plain, moved = (analyse_weights(subject_of(one)) for one in (network, hidden))
    assert not torch.allclose(plain.units.rows.norm(dim=1).sort()[0], moved.units.rows.norm(dim=1).sort()[0], rtol=0.2)
    torch.testing.assert_close(plain.by_weight.values, moved.by_weight.values, rtol=0.03, atol=0.0)
    torch.testing.assert_close(plain.by_use.values, moved.by_use.values, rtol=0.03, atol=0.0)
    for ours, theirs in zip(plain.hidden, moved.hidden, strict=True):
        torch.testing.assert_close(ours.values, theirs.values, rtol=0.1, atol=0.01 * float(ours.values[0]))


def test_channels_are_measured_in_their_own_unit() -> None:
    energy, influence = symmetric(6, 4), symmetric(6, 5)
    moved = torch.tensor([1.0, 30.0, 0.01, 1.0, 5.0, 0.2]).double()
    moved = 1 / (moved * moved.unsqueeze(1))
    for values in ((energy, influence), (energy * moved, influence * moved)):
        own = channel_scale(*values)
        torch.testing.assert_close(
            influence / influence.diagonal().sqrt().outer(influence.diagonal().sqrt()), values[1] / own.outer(own)
        )
    dead = influence.clone()
    dead[2], dead[:, 2] = 0.0, 0.0
    own = channel_scale(energy, dead)
    assert float(own[2].square()) == pytest.approx(
        0.01 * float((dead.diagonal() / energy.diagonal()).median()) * float(energy[2, 2])
    )
    assert torch.equal(channel_scale(torch.zeros(3, 3), torch.zeros(3, 3)), torch.ones(3))


def test_a_learned_constant_beside_the_latent_is_no_obstacle() -> None:
    class Styled(nn.Module):
        """A constant sample through a convolution, scaled by what the latent says."""

        def __init__(self) -> None:
            super().__init__()
            self.constant, self.smooth = nn.Parameter(torch.randn(1, 8, 4, 4)), nn.Conv2d(8, 8, 3, padding=1)
            self.style, self.out = nn.Linear(10, 8), nn.ConvTranspose2d(8, 1, 4, 2, 1)

        def forward(self, z: Tensor) -> Tensor:
            scale = torch.relu(self.style(z))[:, :, None, None]
            return torch.tanh(self.out(torch.relu(torch.relu(self.smooth(self.constant)) * scale)))

    module = Styled()
    parts = analyse_weights(subject_of(module))
    torch.testing.assert_close(parts.units.rows.float(), module.style.weight.detach())
    assert [spectrum.space for spectrum in parts.hidden] == ["out"]


def test_a_constant_that_is_repeated_for_each_latent_reads_nothing() -> None:
    class Repeated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.constant = nn.Parameter(torch.ones(16))
            self.scale, self.last = nn.Linear(8, 16), nn.Linear(16, 9)

        def forward(self, z: Tensor) -> Tensor:
            shown = torch.relu(self.constant.expand(len(z), -1))
            return torch.tanh(self.last(shown * torch.relu(self.scale(z))))

    subject = subject_of(Repeated())
    units = latent_units(subject, path_gains(subject).activations)
    assert units.exact and units.rows.shape == (16, 8)


def test_no_later_layer_of_a_fit_size_gives_no_hidden_spectrum() -> None:
    for width in (3, 1_100):
        module = nn.Sequential(
            nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4))
        )
        subject = subject_of(module)
        assert hidden_spectra(subject, path_gains(subject, n=100), 0.1, n=100) == []


@pytest.mark.parametrize("matrix", [False, True], ids=["linear layers", "matrix products"])
def test_the_hidden_spectrum_of_a_small_network(matrix: bool) -> None:
    """Energy of the last layer, influence of what it reads: both have short formulas here."""

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(6, 16) / 3), nn.Parameter(torch.randn(16, 16) / 20)

        def forward(self, z: Tensor) -> Tensor:
            hidden = torch.relu(z @ self.a)
            out = hidden @ self.b if matrix else torch.nn.functional.linear(hidden, self.b.T)
            return out.view(-1, 1, 4, 4)

    torch.manual_seed(0)
    module = Small()
    subject = subject_of(module, 6)
    (found,) = hidden_spectra(subject, path_gains(subject, n=4_000), 0.1, n=4_000)
    square = (module.b @ module.b.T).detach().double()
    expected = generalised_eigen(square, square, 0.1, "b")
    assert found.space == "b"
    torch.testing.assert_close(found.values, expected.values, rtol=0.1, atol=0.02)


def test_a_layer_that_is_used_several_times_has_one_spectrum() -> None:
    """Its uses are places where it reads: as if rows of both were read at once."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)

        def forward(self, z: Tensor) -> Tensor:
            hidden = self.b(self.a(z).relu())
            return self.c(self.b(hidden.relu()).relu()).tanh().view(-1, 1, 2, 2)

    torch.manual_seed(0)
    subject = subject_of(Twice())
    found = hidden_spectra(subject, path_gains(subject, n=200), 0.1, n=200)
    assert [(one.space, one.readers) for one in found] == [("b", ("b",)), ("c", ("c",))]
    assert analyse_weights(subject).moves and work_of(subject.module, subject.latents(2)) == Work(208, 2)


def test_energy_weighs_each_output_by_its_gain() -> None:
    random = torch.Generator().manual_seed(0)
    weight, gain = torch.randn(3, 5, generator=random), torch.rand(3, generator=random)
    expected = weight.T @ torch.diag(gain) @ weight
    found = _energy(Layer("", "linear", 5, 3, 15), weight, gain)
    assert found is not None
    torch.testing.assert_close(found, expected)
    kernel, gains = torch.randn(3, 5, 2, 2, generator=random), torch.rand(3, 4, 4, generator=random)
    expected = torch.einsum("oiuv,o,ojuv->ij", kernel, gains.sum((1, 2)), kernel)
    for kind, stored in [("convolution", kernel), ("transposed convolution", kernel.transpose(0, 1))]:
        found = _energy(Layer("", kind, 5, 3, 60), stored, gains)
        assert found is not None
        torch.testing.assert_close(found, expected)
    assert _energy(Layer("", "convolution", 10, 3, 60), kernel, gains) is None  # grouped
