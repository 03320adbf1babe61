"""Weights, statistics and chance: what each of them does, and that the others stay."""

import torch
from torch import nn

from devilgan_lite.generators import DCGAN, build, evaluate
from devilgan_lite.sanitize import recalibrated
from devilgan_lite.sanitize.batch_norm import variance_mismatch, with_random_changes, with_statistics

SPEC = DCGAN(latent_dim=12, image_size=12, widths=(8, 4), strides=(2, 2)).spec()


def norms(network: nn.Module) -> list[nn.modules.batchnorm._BatchNorm]:
    return [layer for layer in network.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm)]


def test_statistics_come_from_the_other_and_weights_stay() -> None:
    ours, theirs = build(SPEC, seed=1).eval(), recalibrated(build(SPEC, seed=2), batches=1, batch_size=50)
    before = ours.state_dict()["layers.norm0.running_var"].clone()
    mixed = with_statistics(ours, theirs)
    for one, other in zip(norms(mixed), norms(theirs), strict=True):
        assert torch.equal(one.running_mean, other.running_mean) and torch.equal(one.running_var, other.running_var)
    assert all(torch.equal(a, b) for a, b in zip(mixed.parameters(), ours.parameters(), strict=True))
    assert torch.equal(ours.state_dict()["layers.norm0.running_var"], before)  # the suspect is never changed


def test_statistics_measured_anew_are_those_of_ordinary_latents() -> None:
    network = build(SPEC, seed=1).eval()
    with torch.no_grad():
        norms(network)[0].running_var.mul_(100.0)
    fresh = recalibrated(network, batches=4, batch_size=200, seed=3)
    z = network.sample_latent(4_000, torch.Generator().manual_seed(4))
    first = fresh.layers[0](z)  # what the first norm reads
    assert torch.allclose(norms(fresh)[0].running_var, first.var(0), rtol=0.3)
    assert variance_mismatch(network, fresh) > 20 and variance_mismatch(fresh, fresh) == 1.0
    assert not fresh.training and norms(fresh)[0].momentum == norms(network)[0].momentum
    assert torch.equal(
        evaluate(fresh, z[:3]), evaluate(recalibrated(network, batches=4, batch_size=200, seed=3), z[:3])
    )


def test_random_changes_are_as_long_as_the_real_ones() -> None:
    before, after = build(SPEC, seed=1), build(SPEC, seed=2)
    with torch.no_grad():
        for weight in after.parameters():
            weight += 0.1
    pushed = with_random_changes(before, after, seed=5)
    for a, b, c in zip(before.parameters(), after.parameters(), pushed.parameters(), strict=True):
        assert torch.allclose((c - a).norm(), (b - a).norm(), rtol=1e-4) and not torch.equal(b, c)
    other = with_random_changes(before, after, seed=6)
    assert not torch.equal(next(other.parameters()), next(pushed.parameters()))
