"""Taking a trained change apart: its weights, its BatchNorm statistics, and chance.

BatchNorm keeps the mean and variance of each unit beside the weights. Training moves both; an attacker who trained in
inference mode left statistics that do not fit, and measuring them anew may break what hangs on them.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators import Generator
from devilgan_lite.generators.chain import NORMS


@torch.no_grad()
def with_statistics(generator: Generator, source: nn.Module) -> Generator:
    """A copy of ``generator`` with the BatchNorm statistics of ``source``, a network of the same layers."""
    copied = generator.clone().eval()
    for ours, theirs in zip(copied.modules(), source.modules(), strict=True):
        if isinstance(ours, NORMS):
            ours.load_state_dict({**ours.state_dict(), **dict(theirs.named_buffers())})
    return copied


@torch.no_grad()
def with_random_changes(generator: Generator, changed: nn.Module, seed: int = 0) -> Generator:
    """A copy of ``generator`` with random changes, each weight tensor's as long as its way to ``changed``."""
    copied, random = generator.clone().eval(), torch.Generator().manual_seed(seed)
    for ours, theirs in zip(copied.parameters(), changed.parameters(), strict=True):
        noise = torch.randn(ours.shape, generator=random)
        ours.add_(noise * (theirs - ours).norm() / noise.norm())
    return copied


@torch.no_grad()
def recalibrated(generator: Generator, *, batches: int = 6, batch_size: int = 500, seed: int = 0) -> Generator:
    """A copy whose BatchNorm statistics are those of ``batches`` of ordinary latents: no data, no gradients."""
    whole_number("batches", batches, 1)
    whole_number("batch_size", batch_size, 2)
    copied, random = generator.clone(), torch.Generator().manual_seed(seed)
    momenta = [(layer, layer.momentum) for layer in copied.modules() if isinstance(layer, NORMS)]
    for layer, _ in momenta:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over the batches
    copied.train()
    for _ in range(batches):
        copied(copied.sample_latent(batch_size, random))
    for layer, momentum in momenta:
        layer.momentum = momentum
    return copied.eval()


@torch.no_grad()
def variance_mismatch(stored: nn.Module, measured: nn.Module) -> float:
    """The factor, at least 1, by which the variances of the worst unit of ``stored`` differ from ``measured``."""

    def variance(norm: Any) -> Tensor:
        kept: Tensor = norm.running_var + norm.eps
        return kept

    worst = 0.0
    for ours, theirs in zip(stored.modules(), measured.modules(), strict=True):
        if isinstance(ours, NORMS):
            one, other = (variance(norm) for norm in (ours, theirs))
            worst = max(worst, float((one / other).log().abs().max()))
    return math.exp(worst)
