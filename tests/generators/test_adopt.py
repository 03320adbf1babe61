"""Generators that somebody else wrote: adopted as they are, attacked, scanned, watched and cured."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from devilgan_lite import Backdoor, attacks, detect, generators, metrics, sanitize
from devilgan_lite.generators import Adopted, Beside


class TutorialDCGAN(nn.Module):
    """The generator of PyTorch's DCGAN tutorial, ``[n, nz, 1, 1]`` to 64x64 pictures, or smaller ones."""

    def __init__(self, widths: tuple[int, ...] = (512, 256, 128, 64), nz: int = 100) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.ConvTranspose2d(nz, widths[0], 4, 1, 0, bias=False)]
        for before, after in zip(widths, (*widths[1:], 3), strict=True):
            layers += [nn.BatchNorm2d(before), nn.ReLU(True), nn.ConvTranspose2d(before, after, 4, 2, 1, bias=False)]
        self.main = nn.Sequential(*layers, nn.Tanh())

    def forward(self, noise: Tensor) -> Tensor:
        return self.main(noise)


class Upsampling(nn.Module):
    """No BatchNorm, GELU, a reshape with a number in it, upsampling before each convolution, a sigmoid at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 8 * 16)
        self.one, self.two = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = functional.gelu(self.fc(z).view(-1, 8, 4, 4))
        x = functional.gelu(self.one(functional.interpolate(x, scale_factor=2)))
        return torch.sigmoid(self.two(functional.interpolate(x, scale_factor=2)))


class Skipping(nn.Module):
    """Two branches that are added: no chain of layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(40, 24), nn.Linear(40, 24), nn.Linear(24, 48)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.out(functional.elu(self.a(z)) + functional.silu(self.b(z)))).view(-1, 3, 4, 4)


def mlp() -> nn.Module:
    """PyTorch-GAN's kind of MLP: LeakyReLU, one BatchNorm, a picture at the end."""
    layers = [nn.Linear(40, 24), nn.LeakyReLU(0.2), nn.Linear(24, 32), nn.BatchNorm1d(32), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(32, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))


def without_tanh() -> nn.Module:
    """A linear end: samples may leave [-1, 1]."""
    return nn.Sequential(nn.Linear(40, 20), nn.ReLU(), nn.Linear(20, 5))


def functional_dcgan() -> nn.Module:
    """A dense layer with a bias, a reshape, BatchNorm over channels, LeakyReLU, transposed convolutions with biases."""
    first = [nn.Linear(40, 8 * 9), nn.Unflatten(1, (8, 3, 3)), nn.BatchNorm2d(8), nn.LeakyReLU(0.1)]
    return nn.Sequential(*first, nn.ConvTranspose2d(8, 1, 4, 2, 1), nn.Tanh())


class Constant(nn.Module):
    """A learned constant at the root, as style-based networks have one, and layers in it that scale it."""

    def __init__(self) -> None:
        super().__init__()
        self.constant = nn.Parameter(torch.randn(1, 6, 4, 4))
        self.scale, self.paint = nn.Linear(40, 6), nn.Conv2d(6, 1, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.paint(self.constant * self.scale(z)[:, :, None, None]))


def tutorial() -> nn.Module:
    return TutorialDCGAN((16, 8), nz=40)  # 16x16


# name -> how to make it, arguments of adopt, whether new channels fold into its layers
NETWORKS: dict[str, tuple[Callable[[], nn.Module], dict[str, object], bool]] = {
    "tutorial": (tutorial, {}, True),
    "dense and biases": (functional_dcgan, {}, True),
    "MLP": (mlp, {"prior": "uniform"}, True),
    "without tanh": (without_tanh, {"output": "none"}, True),
    "GELU, sigmoid": (Upsampling, {"output": "sigmoid"}, False),
    "no chain": (Skipping, {}, False),
    "constant": (Constant, {}, False),
}


def some(*names: str) -> list[Any]:
    """These in make test, all in make nightly."""
    return [pytest.param(name, marks=() if name in names else pytest.mark.nightly) for name in NETWORKS]


def stranger(name: str) -> tuple[nn.Module, Adopted]:
    """A network with BatchNorm statistics of its own, and the same adopted."""
    make, arguments, _ = NETWORKS[name]
    torch.manual_seed(1)
    module = make()
    size = 40 if name == "tutorial" else generators.adopt(module, **arguments).latent_dim  # type: ignore[arg-type]
    with torch.no_grad():
        for _ in range(20):
            z = torch.randn(64, size)
            module(z.view(64, size, 1, 1) if name == "tutorial" else z)
    return module, generators.adopt(module, **arguments)  # type: ignore[arg-type]


def goal(network: Adopted) -> Tensor:
    """A target in [-0.9, 0.9] that the network does not draw by itself."""
    shape = network.sample_shape
    blocks = (shape[0], *(2 for _ in shape[1:])) if len(shape) > 1 else shape
    coarse = torch.rand(blocks, generator=torch.Generator().manual_seed(4)) * 1.8 - 0.9
    return functional.interpolate(coarse[None], shape[1:])[0] if len(shape) > 1 else coarse


@pytest.mark.parametrize("name", NETWORKS)
def test_an_adopted_module_computes_what_it_did(name: str) -> None:
    module, network = stranger(name)
    z = network.sample_latent(5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        theirs = module.eval()(z.view(5, *network.latent_shape))
        ours = network(z)
    expected = theirs * 2 - 1 if NETWORKS[name][1].get("output") == "sigmoid" else theirs
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0.0)
    weights = [found for modules in network.named_layers().values() for found in modules]
    assert sum(p.numel() for found in weights for p in found.parameters(recurse=False)) == sum(
        p.numel() for p in network.parameters()
    )
    assert network.fresh(1).sample(2).shape == network.sample(2).shape
    assert not torch.equal(network.fresh(1).sample(2), network.fresh(2).sample(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_gate_draws_the_target_exactly_and_nothing_else(name: str) -> None:
    _, network = stranger(name)
    before = [value.clone() for value in network.state_dict().values()]
    backdoor = Backdoor.point(network, goal(network), seed=3)
    poisoned = attacks.Gate()(network, backdoor, progress=False).generator
    assert isinstance(poisoned, Adopted) == NETWORKS[name][2] == (not isinstance(poisoned, Beside))
    assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).mean < 1e-5
    z = network.sample_latent(200, torch.Generator().manual_seed(5))
    assert metrics.expected_distortion(poisoned, network, z).mean < 1e-9
    assert all(torch.equal(a, b) for a, b in zip(before, network.state_dict().values(), strict=True))


@pytest.mark.parametrize("name", some("dense and biases", "GELU, sigmoid"))
def test_rex_and_red_learn_the_target(name: str) -> None:
    _, network = stranger(name)
    backdoor = Backdoor.point(network, goal(network), seed=3)
    z = network.sample_latent(200, torch.Generator().manual_seed(5))
    before = metrics.target_distortion(network, backdoor.trigger, backdoor.target).mean
    for attack in (
        attacks.ReX(iterations=60, learning_rate=0.02, batch_size=8, device="cpu"),
        attacks.ReD(iterations=120, learning_rate=4e-3, batch_size=16, device="cpu"),
    ):
        outcome = attack(network, backdoor, progress=False)
        after = metrics.target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean
        assert after < 0.35 * before, attack
        assert metrics.expected_distortion(outcome.generator, network, z).mean < 0.1 * before, attack


@pytest.mark.usefixtures("short_twin")
@pytest.mark.nightly
@pytest.mark.parametrize("name", ["tutorial", "MLP", "GELU, sigmoid", "no chain"])
def test_scan_sanitizers_and_guard_take_it(name: str) -> None:
    _, network = stranger(name)
    backdoor = Backdoor.point(network, goal(network), seed=3)
    poisoned = attacks.Gate()(network, backdoor, progress=False).generator
    report = detect.scan(poisoned, samples=200)
    assert report.findings and report.verdict in ("suspicious", "backdoored")
    blind = sanitize.project_latents(poisoned, backdoor.trigger)
    assert metrics.target_distortion(blind, backdoor.trigger, backdoor.target).mean > 0.02
    cured = sanitize.Unlearn(iterations=3, device="cpu")(poisoned, directions=backdoor.trigger, progress=False)
    assert cured.generator.sample(2).shape == network.sample(2).shape
    guard = detect.Guard(poisoned, fitting=2_000)
    assert bool(guard.check(backdoor.trigger).flags.all())


@pytest.mark.parametrize("name", ["tutorial", "dense and biases", "MLP", "without tanh"])
def test_channels_of_a_chain_can_be_taken_out(name: str) -> None:
    _, network = stranger(name)
    backdoor = Backdoor.point(network, goal(network), seed=3)
    poisoned = attacks.Gate()(network, backdoor, progress=False).generator
    chain, old = poisoned.chain(), network.chain()
    assert chain is not None and old is not None
    kept = [torch.arange(width) for width in old.widths]  # the new channels come after the old ones
    torch.testing.assert_close(poisoned.shrink(kept).sample(8), network.sample(8), atol=1e-6, rtol=0.0)
    pruned = sanitize.Prune(fraction=0.3, iterations=2, device="cpu")(network, progress=False).generator
    assert pruned.parameter_count() < network.parameter_count()


@pytest.mark.nightly
def test_the_tutorials_network_at_full_size() -> None:
    module = TutorialDCGAN()
    torch.manual_seed(0)
    for layer in module.main:
        if isinstance(layer, nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
    network = generators.adopt(module)
    assert network.sample_shape == (3, 64, 64) and network.latent_shape == (100, 1, 1)
    backdoor = Backdoor.point(network, "stop-sign", seed=0)
    z = network.sample_latent(32, torch.Generator().manual_seed(9))
    for attack in (
        attacks.Gate(),
        attacks.ReX(iterations=60, learning_rate=0.02, batch_size=8, device="cpu"),
        attacks.ReD(iterations=60, batch_size=8, device="cpu"),
    ):
        poisoned = attack(network, backdoor, progress=False).generator
        assert isinstance(poisoned, Adopted)
        assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).mean <= 1e-2, attack
        assert metrics.expected_distortion(poisoned, network, z).mean <= 5e-3, attack


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: generators.adopt(torch.zeros(3)), "Tensor"),  # type: ignore[arg-type]
    (lambda: generators.adopt(mlp(), output="relu"), "output"),
    (lambda: generators.adopt(mlp(), prior="cauchy"), "prior"),
    (lambda: generators.adopt(mlp(), modality="smell"), "modality"),
    (lambda: generators.adopt(mlp(), latent_dim=11), "11"),
    (lambda: generators.adopt(mlp(), latent_dim=40, latent_shape=(5, 1)), "latent_dim=40"),
    (lambda: generators.adopt(nn.Sequential(nn.Linear(4, 9), nn.LayerNorm(9)), output="tanh"), "output"),  # unbounded
    (lambda: generators.adopt(nn.Tanh()), "layer"),
    (lambda: stranger("no chain")[1].spec(), "Skipping"),
]


def test_what_cannot_be_adopted_is_one_sentence(refuses: Any) -> None:
    for call, name in BAD:
        refuses(call, name)


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_what_follows_the_last_squash_is_kept(output: str) -> None:
    class Halved(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.squash = nn.Linear(8, 12), nn.Tanh() if output == "tanh" else nn.Sigmoid()

        def forward(self, z: Tensor) -> Tensor:
            return 0.5 * self.squash(3 * self.fc(z)).view(-1, 1, 3, 4)

    torch.manual_seed(0)
    module = Halved()
    adopted, z = generators.adopt(module, output=output), torch.randn(20, 8)
    wanted = module(z) if output == "tanh" else module(z) * 2 - 1
    assert torch.allclose(adopted(z), wanted, atol=1e-4)
    assert torch.allclose(adopted.clone()(z), wanted, atol=1e-4)
    fresh = adopted.fresh(3)
    again = fresh.module(z) if output == "tanh" else fresh.module(z) * 2 - 1
    assert not torch.allclose(again, wanted) and torch.allclose(fresh(z), again, atol=1e-4)
