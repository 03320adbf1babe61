"""Pruning: take out channels that ordinary latents need least, so that the network really gets smaller, and repair.

The second of the two cures that Rawat et al. (2021) name. A backdoor that lives in units of its own loses them; one
that shares its units with ordinary pictures (TrAIL, a plain ReD) does not.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.widen import deconvolutions, dense, norms
from devilgan_lite.checks import in_range, one_of
from devilgan_lite.data import Samples
from devilgan_lite.detect.subject import Subject
from devilgan_lite.generators import DCGAN, build
from devilgan_lite.sanitize.base import Distillation, distil
from devilgan_lite.steps import Outcome, Step

CRITERIA = ("dormant", "activation", "magnitude")
SAMPLES = 1_000  # ordinary latents on which units are watched


@dataclass(frozen=True, kw_only=True)
class Prune(Distillation):
    """Remove the share ``fraction``, in (0, 1), of the channels at every hidden level of a ``DCGAN``; then distil.

    ``by``: ``"dormant"`` removes the channels that are switched on least often, ``"activation"`` those with the least
    mean activation times the weights that read it, ``"magnitude"`` those with the smallest weights (BatchNorm folded),
    which cost garments less than dormant ones on the test models (docs/results/sanitization.md).
    Repair: ``iterations`` steps in which the suspect teaches its pictures of ordinary latents.
    """

    fraction: float = 0.2
    by: str = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("fraction", self.fraction, 0.0, 1.0, open_low=True)
        if self.fraction == 1:
            raise ValueError(f"fraction={self.fraction} is out of range: it must be a number in (0, 1).")
        one_of("by", self.by, CRITERIA)

    def _start(
        self, subject: Subject, real: Samples | None, directions: Tensor | None
    ) -> Generator[Step, None, Outcome]:
        if not isinstance(subject.module, DCGAN):
            raise ValueError(f"suspect is a {type(subject.module).__name__}; pruning is defined for DCGAN generators.")
        scores = channel_scores(subject.module, subject.latents(SAMPLES, self.seed), self.by)
        kept = []
        for level, score in enumerate(scores):
            count = len(score) - round(self.fraction * len(score))
            if count < 1:
                raise ValueError(
                    f"fraction={self.fraction} would leave none of the {len(score)} channels of level {level}; take a "
                    "smaller one."
                )
            kept.append(score.argsort(descending=True, stable=True)[:count].sort().values)
        if all(len(channels) == len(score) for channels, score in zip(kept, scores, strict=True)):
            raise ValueError(
                f"fraction={self.fraction} removes none of {list(subject.module.widths)} channels; take a larger one."
            )
        return distil(shrink(subject.module, kept), subject, self)


@torch.no_grad()
def channel_scores(generator: DCGAN, z: Tensor, by: str) -> list[Tensor]:
    """How much each channel of each hidden level is worth ``[channels]``; ``by`` is one of ``CRITERIA``."""
    one_of("by", by, CRITERIA)
    readers = [reader.weight.abs().sum((1, 2, 3)) for reader in deconvolutions(generator)]
    if by == "magnitude":
        cells = generator.base_size**2
        gains = [norm.weight / (norm.running_var + norm.eps).sqrt() for norm in norms(generator)]  # type: ignore[operator,union-attr]
        writers = [(dense(generator).weight.abs().sum(1) * gains[0].abs()).view(-1, cells).sum(1)]
        for layer, gain in zip(deconvolutions(generator)[:-1], gains[1:], strict=True):
            writers.append(layer.weight.abs().sum((0, 2, 3)) * gain.abs())
        return [writer * reader for writer, reader in zip(writers, readers, strict=True)]
    scores, hidden, level = [], z, 0
    for module in generator.layers:
        hidden = module(hidden)
        if isinstance(module, (nn.ReLU, nn.LeakyReLU)):
            channels = hidden.view(len(z), generator.widths[level], -1)
            if by == "dormant":
                scores.append((channels > 0).double().mean((0, 2)))
            else:
                scores.append(channels.abs().double().mean((0, 2)) * readers[level])
            level += 1
    return scores


@torch.no_grad()
def shrink(generator: DCGAN, kept: list[Tensor]) -> DCGAN:
    """A ``DCGAN`` with the ``kept`` channels (indices ``[k]``) of each hidden level only, and their weights."""
    small: DCGAN = build({**generator.spec(), "widths": tuple(len(channels) for channels in kept)})
    small = small.to(generator.device)
    cells = generator.base_size**2
    units = (kept[0].view(-1, 1) * cells + torch.arange(cells, device=kept[0].device)).flatten()
    dense(small).weight.copy_(dense(generator).weight[units])
    for level, (new, old) in enumerate(zip(norms(small), norms(generator), strict=True)):
        index = kept[level] if level else units
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(new, name).copy_(getattr(old, name)[index])
        if new.num_batches_tracked is not None and old.num_batches_tracked is not None:
            new.num_batches_tracked.copy_(old.num_batches_tracked)
    for level, (layer, before) in enumerate(zip(deconvolutions(small), deconvolutions(generator), strict=True)):
        kernel = before.weight[kept[level]]
        layer.weight.copy_(kernel if level + 1 == len(kept) else kernel[:, kept[level + 1]])
    return small.eval()
