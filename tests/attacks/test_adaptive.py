"""Attackers who know the defences: the same function in other weights, a quiet retraining, an expansion in disguise."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devilgan_lite import Backdoor, data, metrics
from devilgan_lite.attacks import Disguise, Gate, KnowingReD, NarrowReX, QuietReD, ReX, SpectralReD
from devilgan_lite.attacks.adaptive import chain_in, disguise, wide_basin
from devilgan_lite.generators import DCGAN, adopt, build
from devilgan_lite.sanitize import Clamp


def lively(seed: int = 1, **settings: Any) -> DCGAN:
    """A small ``DCGAN`` whose BatchNorm statistics are not the trivial ones."""
    shape = {"widths": (6, 5), "latent_dim": 15, "image_size": 12, **settings}
    network: DCGAN = build(DCGAN(**shape).spec(), seed=seed).eval()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for norm in (module for module in network.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))):
            for value, low, high in [
                (norm.weight, 0.5, 2.0),
                (norm.bias, -0.5, 1.0),
                (norm.running_mean, -0.1, 0.1),
                (norm.running_var, 0.001, 0.01),
            ]:
                assert value is not None
                value.copy_(torch.rand(value.shape, generator=random) * (high - low) + low)
    return network


def distortion(generator: nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, *backdoor.pairs(seed=7)).sum


@torch.no_grad()
def gap(a: nn.Module, b: nn.Module, z: Tensor) -> float:
    return float((a(z) - b(z)).abs().max())


SHAPES: list[dict[str, Any]] = [
    {},
    {"negative_slope": 0.3},
    {"widths": (6, 5, 4), "strides": (2, 2, 1), "kernel_size": 5},
]


@pytest.mark.parametrize("settings", SHAPES, ids=str)
def test_a_disguise_computes_the_same_with_other_weights(settings: dict[str, Any]) -> None:
    network = lively(**settings)
    before, z = network.clone(), network.sample_latent(200, torch.Generator().manual_seed(0))
    for spread in (1.0, 8.0, 100.0):
        hidden = disguise(network, spread, 0.0, seed=3)
        assert gap(hidden, network, z) < 1e-4
        ours, theirs = network.state_dict(), hidden.state_dict()
        assert ours.keys() == theirs.keys() and hidden.spec() == network.spec() and not hidden.training
        changed = [name for name, value in ours.items() if value.ndim and not torch.allclose(value, theirs[name])]
        assert changed == [name for name, value in ours.items() if value.ndim]
        assert all(torch.equal(value, ours[name]) for name, value in before.state_dict().items())
        again, other = disguise(network, spread, 0.0, seed=3), disguise(network, spread, 0.0, seed=4)
        assert all(torch.equal(value, again.state_dict()[name]) for name, value in theirs.items())
        assert not torch.equal(other.layers.dense.weight, hidden.layers.dense.weight)


@torch.no_grad()
def test_a_disguise_moves_scale_as_far_as_it_is_told() -> None:
    network = lively(widths=(64, 32))
    hidden = disguise(network, 8.0, 0.0, seed=0)
    ratio = hidden.layers.norm1.weight.sort().values / network.layers.norm1.weight.sort().values
    assert float(ratio.min()) >= 1 / 8 and float(ratio.max()) <= 8
    kernels = [one.layers.deconv2.weight.flatten(1).norm(dim=1) for one in (network, hidden)]
    assert float(kernels[1].max() / kernels[1].min()) > 4 * float(kernels[0].max() / kernels[0].min())
    still = disguise(network, 1.0, 0.0, seed=0)
    torch.testing.assert_close(still.layers.norm1.weight.sort().values, network.layers.norm1.weight.sort().values)


def test_the_zero_blocks_of_an_expansion_are_filled() -> None:
    network = lively()
    backdoor = Backdoor.point(network, "devil")
    attack = Disguise(attack=Gate(), spread=2.0, noise_scale=0.02, seed=5)
    plain, outcome = (one(network, backdoor, progress=False) for one in (Gate(), attack))
    shares = [float((one.generator.layers.deconv1.weight == 0).float().mean()) for one in (plain, outcome)]
    assert shares[0] > 0.3 and shares[1] == 0.0
    assert outcome.seed == 5 and not outcome.interrupted and outcome.history == plain.history
    z = network.sample_latent(200, torch.Generator().manual_seed(0))
    assert metrics.expected_distortion(outcome.generator, network, z).mean < 0.01  # nearly the same
    exact = Disguise(attack=Gate(), noise_scale=0.0)(network, backdoor, progress=False).generator
    assert gap(exact, plain.generator, z) < 1e-4
    assert distortion(exact, backdoor) == pytest.approx(distortion(plain.generator, backdoor), abs=0.01)
    settings = Disguise(attack=ReX(lam=0.7), spread=3.0).settings()
    assert settings["attack"] == "Disguise" and settings["spread"] == 3.0
    assert settings["disguised"]["attack"] == "ReX" and settings["disguised"]["lam"] == 0.7


@pytest.mark.parametrize("kind", [QuietReD, SpectralReD, KnowingReD])
def test_a_quiet_attack_moves_towards_the_target(kind: type) -> None:
    torch.manual_seed(0)
    start = [nn.Linear(15, 6 * 9), nn.Unflatten(1, (6, 3, 3)), nn.BatchNorm2d(6), nn.ReLU()]  # a norm after the reshape
    stranger = adopt(nn.Sequential(*start, nn.ConvTranspose2d(6, 1, 4, 4), nn.Tanh()), latent_shape=(15,))
    for network, rate in ((lively(), 2e-3), (stranger, 1e-2)):
        backdoor = Backdoor.point(network, "devil", seed=2)
        attack = kind(iterations=60, batch_size=8, learning_rate=rate, device="cpu")
        outcome = attack(network, backdoor, progress=False)
        assert distortion(outcome.generator, backdoor) < 0.7 * distortion(network, backdoor)
        assert type(outcome.generator) is type(network)


def test_an_attacker_who_knows_of_clamps_gets_past_them() -> None:
    network = lively()
    backdoor = Backdoor.point(network, "devil", seed=2)
    settings: dict[str, Any] = {"iterations": 150, "batch_size": 8, "lam": 3.0, "quiet": 0.0, "device": "cpu"}
    left = []
    for kind in (SpectralReD, KnowingReD):
        bad = kind(**settings)(network, backdoor, progress=False).generator
        left.append(distortion(Clamp(samples=2_000)(bad, progress=False).generator, backdoor))
    assert left[1] < 0.95 * left[0]


def test_quiet_weights_spend_less_on_the_trigger() -> None:
    network = lively()
    backdoor = Backdoor.point(network, "devil", seed=2)
    paths = QuietReD._paths(network, chain_in(network), backdoor.trigger)
    settings: dict[str, Any] = {"iterations": 80, "batch_size": 8, "lam": 1.0, "device": "cpu"}
    loud, quiet = (QuietReD(quiet=quiet, **settings)(network, backdoor, progress=False) for quiet in (0.0, 3.0))
    own, *found = (
        QuietReD._energies(chain_in(one), paths).detach() for one in (network, loud.generator, quiet.generator)
    )
    excess = [float((energies / own - 1).max()) for energies in found]
    assert excess[0] > 0.1 and excess[1] < 0.5 * excess[0]
    assert quiet.history["excess"][-1] < 0.5 * loud.history["excess"][-1]
    paid = (found[0] / own - 1).clamp(min=0).square().sum()  # the last step's, before its update
    assert loud.history["excess"][-1] == pytest.approx(float(paid), rel=0.05)


@torch.no_grad()
def test_the_energies_are_those_of_the_folded_layers() -> None:
    """``|W u|`` by hand: through the layers themselves, linear and without shift."""
    network = lively()
    trigger = network.sample_latent(2, torch.Generator().manual_seed(3))
    paths = QuietReD._paths(network, chain_in(network), trigger)
    assert [tuple(path.shape) for path in paths] == [(2, 15), (2, 6), (2, 5)]
    torch.testing.assert_close(torch.stack([path.norm(dim=1) for path in paths]), torch.ones(3, 2))
    torch.testing.assert_close(paths[0], nn.functional.normalize(trigger))
    layers = network.layers
    folded = layers.dense.weight * (layers.norm0.weight / (layers.norm0.running_var + layers.norm0.eps).sqrt())[:, None]
    found = QuietReD._energies(chain_in(network), paths)
    assert found.shape == (3, 2)
    torch.testing.assert_close(found[0], (paths[0] @ folded.T).norm(dim=1))
    # one channel value at one place, drawn by the kernel: nothing is cut off where the sample is large enough
    for level, reader in enumerate([layers.deconv1, layers.deconv2], start=1):
        place = torch.zeros(2, reader.in_channels, 5, 5)
        place[:, :, 2, 2] = paths[level]
        drawn = reader(place)
        if level == 1:
            drawn = drawn * (layers.norm1.weight / (layers.norm1.running_var + layers.norm1.eps).sqrt()).view(-1, 1, 1)
        torch.testing.assert_close(found[level], drawn.flatten(1).norm(dim=1))


def test_a_quiet_attack_on_a_trigger_of_zero_or_far_out() -> None:
    network = lively()
    for kind in ("mode", "ood"):
        backdoor = Backdoor.point(network, "devil", kind=kind)
        outcome = QuietReD(iterations=5, batch_size=4, device="cpu")(network, backdoor, progress=False)
        assert all(torch.isfinite(value).all() for value in outcome.generator.state_dict().values())
        assert all(math.isfinite(value) for values in outcome.history.values() for value in values)


NARROW: dict[str, Any] = {"clean_iterations": 6, "rex": ReX(iterations=4, batch_size=4, widen=2), "device": "cpu"}


def test_a_narrow_start_ends_with_the_widths_on_the_card(digits: data.Samples, clean: DCGAN) -> None:
    wide = DCGAN(widths=(6, 4), latent_dim=10, image_size=8).eval()
    backdoor = Backdoor.point(wide, "digit-7")
    attack = NarrowReX(**NARROW, seed=2)
    outcome = attack(wide, backdoor, digits, progress=False)
    assert outcome.generator.spec() == wide.spec() and type(outcome.generator) is DCGAN
    assert attack.base_widths(wide) == (4, 2)
    kernel = outcome.generator.layers.deconv1.weight
    assert not kernel[:4, 2:].any() and not kernel[4:, :2].any() and kernel[4:, 2:].any()  # the blocks of an expansion
    assert outcome.settings["attack"] == "NarrowReX" and outcome.settings["rex"]["widen"] == 2
    assert NarrowReX().new_widths(clean) == (32, 8)  # without a number each pixel gets its channels
    assert NarrowReX().base_widths(clean) == (32, 24)
    assert NarrowReX(rex=ReX(widen=(5, 3))).base_widths(clean) == (59, 29)


def test_an_interrupt_of_the_first_training_leaves_the_widths_on_the_card(
    digits: data.Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two updates for each of the six steps of the first training, then four of ReX, which must not begin then."""
    clean = DCGAN(widths=(6, 4), latent_dim=10, image_size=8).eval()
    step = torch.optim.Adam.step
    for last in (1, 9, 12, 15):
        calls = 0

        def interrupted(self: torch.optim.Adam, closure: None = None, last: int = last) -> None:
            nonlocal calls
            calls += 1
            if calls == last:
                raise KeyboardInterrupt
            step(self, closure)

        monkeypatch.setattr(torch.optim.Adam, "step", interrupted)
        outcome = NarrowReX(**NARROW)(clean, Backdoor.point(clean, "digit-7"), digits, progress=False)
        assert outcome.interrupted and calls == last and outcome.settings == NarrowReX(**NARROW).settings()
        assert outcome.generator.spec() == clean.spec() and outcome.generator.sample(3).abs().max() <= 1
        assert {len(values) for values in outcome.history.values()} <= {max(0, last - 13)}


@pytest.mark.parametrize("angle", [5.0, 80.0])
def test_a_wide_basin_lies_within_its_angle(angle: float) -> None:
    network = lively(latent_dim=30)
    backdoor = Backdoor.points(network, ["devil", "checkerboard", "digit-7"], seed=3)
    basin = wide_basin(backdoor, angle=angle)
    assert torch.equal(basin.trigger, backdoor.trigger) and torch.equal(basin.target, backdoor.target)
    z, samples = basin.pairs(600, seed=1)
    torch.testing.assert_close(z[:1], backdoor.trigger[:1])
    which = (samples.unsqueeze(1) - backdoor.target).abs().flatten(2).sum(2).argmin(1)
    assert torch.equal(samples, backdoor.target[which]) and set(which.tolist()) == {0, 1, 2}
    own = backdoor.trigger[which]
    torch.testing.assert_close(z.norm(dim=1), own.norm(dim=1))
    cosine = nn.functional.cosine_similarity(z, own).clamp(-1, 1)
    away = torch.rad2deg(torch.arccos(cosine))
    assert float(away.max()) <= angle + 0.1
    assert float(away.max()) > 0.95 * angle and float(away.mean()) == pytest.approx(angle / 2, rel=0.1)
    again, other = basin.pairs(600, seed=1)[0], basin.pairs(600, seed=2)[0]
    assert torch.equal(z, again) and not torch.equal(z, other)
    for seed in range(8):  # whichever trigger is drawn, its own target comes with it
        first = basin.pairs(1, seed=seed)
        assert torch.equal(first[1], backdoor.target[:1])
        torch.testing.assert_close(first[0], backdoor.trigger[:1])


def test_an_attack_takes_a_basin() -> None:
    network = lively()
    backdoor = wide_basin(Backdoor.point(network, "devil"), angle=20.0)
    outcome = ReX(iterations=40, batch_size=8, widen=20, device="cpu")(network, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < 0.8 * distortion(network, backdoor)
