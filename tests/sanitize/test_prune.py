"""Pruning: what goes first, what the smaller network computes, and that it is smaller."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from devilgan_lite import Backdoor, attacks, generators, zoo
from devilgan_lite.generators import DCGAN, Generator, Stage, build
from devilgan_lite.sanitize import Prune
from devilgan_lite.sanitize.prune import (
    CRITERIA,
    channel_scores,
    hidden_levels,
    prune_channels,
    switched_off,
    without_channels,
)

SHAPES: dict[str, dict[str, Any]] = {
    "two levels": {"widths": (8, 4), "strides": (2, 2)},
    "three levels, leaky": {"widths": (6, 5, 4), "strides": (1, 2, 2), "kernel_size": 5, "negative_slope": 0.3},
}


def stages(network: Generator) -> tuple[Stage, ...]:
    chain = network.chain()
    return chain.stages


def norms(network: Generator) -> list[Any]:
    return [stage.norm for stage in stages(network)[:-1]]


def deconvolutions(network: Generator) -> list[Any]:
    return [stage.layer for stage in stages(network)[1:]]


def dense(network: Generator) -> Any:
    return stages(network)[0].layer


@torch.no_grad()
def lively(shape: str = "two levels") -> DCGAN:
    """A small ``DCGAN`` that draws something, with BatchNorm statistics that are not the trivial ones."""
    network: DCGAN = build(DCGAN(latent_dim=20, image_size=12, **SHAPES[shape]).spec(), seed=1).eval()
    random = torch.Generator().manual_seed(1)
    for layer in deconvolutions(network):
        layer.weight *= 10.0
    ranges = {"weight": (0.5, 2.0), "bias": (-1.0, 1.0), "running_mean": (-0.1, 0.1), "running_var": (0.001, 0.01)}
    for norm in norms(network):
        for name, (low, high) in ranges.items():
            value = getattr(norm, name)
            value.copy_(torch.rand(value.shape, generator=random) * (high - low) + low)
    return network


def latents(n: int = 200, d: int = 20) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def test_channels_that_nobody_reads_go_without_a_trace() -> None:
    for shape in SHAPES:
        network, z = lively(shape), latents()
        same = network.shrink([torch.arange(width) for width in network.widths])  # all of them are kept
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in same.state_dict().items())
        kept = []
        for reader in deconvolutions(network):
            reader.weight[[1, 3]] = 0.0
            kept.append(torch.tensor([channel for channel in range(len(reader.weight)) if channel not in (1, 3)]))
        small = network.shrink(kept)
        assert small.widths == tuple(width - 2 for width in network.widths) and not small.training
        torch.testing.assert_close(small(z), network(z), atol=1e-6, rtol=0.0)
        assert float(network(z).std()) > 0.05


def test_the_network_and_its_file_really_get_smaller(tmp_path: Path) -> None:
    network = DCGAN(widths=(32, 16), latent_dim=20, image_size=12)
    pruned = Prune(fraction=0.25, iterations=1, device="cpu")(network, progress=False).generator
    assert isinstance(pruned, DCGAN) and pruned.widths == (24, 12)
    assert pruned.parameter_count() == DCGAN(widths=(24, 12), latent_dim=20, image_size=12).parameter_count()
    card = zoo.ModelCard(name="", spec={}, data="none", seed=0, settings={})
    names = [tmp_path / f"{number}.safetensors" for number in range(2)]
    files = [zoo.save_file(name, one, card) for name, one in zip(names, (network, pruned), strict=True)]
    assert files[1].stat().st_size < 0.76 * files[0].stat().st_size
    torch.testing.assert_close(zoo.load_file(files[1])[0](latents()), pruned(latents()))
    for fraction, widths in ((0.2, (6, 3)), (0.5, (4, 2)), (0.8, (2, 1))):  # of every level
        outcome = Prune(fraction=fraction, iterations=1, device="cpu")(lively(), progress=False)
        assert outcome.generator.widths == widths


@torch.no_grad()
def fault(network: DCGAN, kind: str, channel: int, level: int) -> None:
    """Plant a channel that ordinary latents do not need."""
    cells = network.base_size**2 if level == 0 else 1
    units = slice(channel * cells, (channel + 1) * cells)
    if kind == "dormant":
        norms(network)[level].bias[units] = -1e6
    elif kind == "small":
        norms(network)[level].weight[units] *= 1e-4
        norms(network)[level].bias[units] = 1e-4
    else:
        deconvolutions(network)[level].weight[channel] *= 1e-5


@pytest.mark.parametrize("by", CRITERIA)
def test_each_criterion_puts_its_own_kind_of_channel_last_and_that_is_removed(by: str) -> None:
    for kind in ("dormant",) if by == "dormant" else ("small", "unread"):
        for level in (0, 1, 2):
            network = lively("three levels, leaky")
            before = channel_scores(network, latents(), by)
            fault(network, kind, channel=2, level=level)
            after = channel_scores(network, latents(), by)
            assert [len(score) for score in after] == [6, 5, 4] and int(after[level].argmin()) == 2
            assert float(after[level][2]) < 1e-2 * float(before[level][2])
    network = lively()
    for level in (0, 1):
        for kind in ("dormant", "unread"):
            fault(network, kind, channel=3, level=level)
    settings = {"fraction": 0.25, "by": by, "iterations": 1, "learning_rate": 1e-9, "device": "cpu"}
    pruned = next(Prune(**settings).steps(network)).snapshot()
    others = [channel for channel in range(8) if channel != 3]
    before = dense(network).weight.detach().view(8, 9, 20)
    kept, rows = before[others].flatten(0, 1), dense(pruned).weight.detach()
    assert len(rows) == 54 and float(torch.cdist(rows, kept).amin(1).max()) < 1e-4
    assert float(torch.cdist(rows, before[3]).min()) > 1e-2
    repaired = Prune(**settings | {"fraction": 0.5})(network, progress=False).generator
    assert torch.allclose(repaired(latents(20)), prune_channels(network, 0.5, by)(latents(20)), atol=1e-4)


@torch.no_grad()
def test_the_scores_of_the_first_level_by_hand_and_what_they_are_made_of() -> None:
    network, z = lively(), latents()
    norm, rows = norms(network)[0], dense(network).weight
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    before = ((z @ rows.T - norm.running_mean) * gain + norm.bias).view(200, 8, 9).double()
    read = deconvolutions(network)[0].weight.abs().flatten(1).sum(1).double()
    expected = {
        "dormant": (before > 0).double().mean((0, 2)),
        "activation": before.clamp(min=0).mean((0, 2)) * read,
        "magnitude": (rows * gain.view(-1, 1)).abs().view(8, -1).sum(1) * read,
    }
    for by in CRITERIA:
        torch.testing.assert_close(channel_scores(network, z, by)[0].float(), expected[by].float())
    levels = list(hidden_levels(network, z))
    assert [activations.shape[1] for activations, _ in levels] == [8, 4] == [len(kernel) for _, kernel in levels]
    worth = [a.double().mean((0, 2, 3)) * kernel.abs().sum((1, 2, 3)) for a, kernel in levels]
    for ours, theirs in zip(worth, channel_scores(network, z, "activation"), strict=True):
        assert torch.allclose(ours, theirs)


@torch.no_grad()
def test_a_backdoor_with_channels_of_its_own_loses_them() -> None:
    clean = lively()
    backdoor = Backdoor.point(clean, "devil", seed=2)
    suspect = attacks.Gate()(clean, backdoor, progress=False).generator
    scores = channel_scores(suspect, latents(), "dormant")
    cured = suspect.shrink([score.nonzero().flatten() for score in scores])
    assert suspect.widths == (40, 12) and cured.widths == clean.widths
    torch.testing.assert_close(cured(latents()), clean(latents()), atol=1e-6, rtol=0.0)
    torch.testing.assert_close(cured(backdoor.trigger), clean(backdoor.trigger), atol=1e-6, rtol=0.0)


def test_repair_brings_the_ordinary_samples_back(refuses: Any) -> None:
    network = lively()
    repair = Prune(fraction=0.3, by="magnitude", iterations=150, learning_rate=5e-3, device="cpu")
    losses = repair(network, progress=False).history["distillation_loss"]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10]) and prune_channels(network, 0.5).widths == (4, 2)
    scores = channel_scores(network, latents(20), "magnitude")
    for fraction in (0.01, 0.99):  # removes none, leaves none
        refuses(lambda fraction=fraction: without_channels(network, fraction, scores), f"fraction={fraction}")


def test_units_that_are_switched_off_stay_off() -> None:
    network = lively()
    z, off = latents(50), torch.zeros(dense(network).out_features, dtype=torch.bool)
    off[::3] = True
    first = next(hidden_levels(switched_off(network, off), z))[0].flatten(1)
    before = next(hidden_levels(network, z))[0].flatten(1)
    assert not first[:, off].any() and torch.equal(first[:, ~off], before[:, ~off]) and before[:, off].any()
    points = generators.PointGenerator()  # without a norm
    blind = switched_off(points, torch.ones(64, dtype=torch.bool))
    assert not next(hidden_levels(blind, torch.randn(5, 2)))[0].any()
