"""Pruning: take out channels that ordinary latents need least, so that the network really gets smaller, and repair.

The second of the two cures that Rawat et al. (2021) name. A backdoor that lives in units of its own loses them; one
that shares its units with ordinary samples (TrAIL, a plain ReD) does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from devilgan_lite.checks import in_range, one_of
from devilgan_lite.data import Samples
from devilgan_lite.generators import Chain, Generator
from devilgan_lite.generators.chain import weight_of
from devilgan_lite.sanitize.base import Distillation, distil
from devilgan_lite.steps import Steps

CRITERIA = ("dormant", "activation", "magnitude")
SAMPLES = 1_000  # ordinary latents on which units are watched


@dataclass(frozen=True, kw_only=True)
class Prune(Distillation):
    """Remove the share ``fraction``, in (0, 1), of the channels at every hidden level of a chain; then distil.

    ``by``: ``"dormant"`` removes the channels that are switched on least often, ``"activation"`` those with the least
    mean activation times the weights that read it, ``"magnitude"`` those with the smallest weights (BatchNorm folded),
    which cost samples less than dormant ones on the test models (docs/results/sanitization.md).
    Repair: ``iterations`` steps in which the suspect teaches its samples of ordinary latents.
    """

    fraction: float = 0.2
    by: str = "magnitude"

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("fraction", self.fraction, 0.0, 1.0, open_low=True)
        if self.fraction == 1:
            raise ValueError(f"fraction={self.fraction} is out of range: it must be a number in (0, 1).")
        one_of("by", self.by, CRITERIA)

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        scores = channel_scores(subject, subject.ordinary(SAMPLES, self.seed), self.by)
        return distil(without_channels(subject, self.fraction, scores).network, subject, self)


def pruned_chain(generator: Generator) -> Chain:
    """The suspect's chain of layers; ``ValueError`` where it is none."""
    chain = generator.chain()
    if chain is None:
        raise ValueError(f"suspect is a {type(generator.network).__name__}, which is no chain of layers to prune.")
    return chain


def prune_channels(generator: Generator, fraction: float, by: str = "magnitude", seed: int = 0) -> Generator:
    """A smaller copy without the share ``fraction`` of each hidden level's channels: ``Prune`` without repair."""
    z = generator.sample_latent(SAMPLES, torch.Generator(generator.device).manual_seed(seed))
    return without_channels(generator, fraction, channel_scores(generator, z, by))


def without_channels(generator: Generator, fraction: float, scores: list[Tensor]) -> Generator:
    """A smaller copy without the share ``fraction`` of channels that has the lowest ``scores`` ``[channels]`` a level.

    A fraction that leaves none of them, or removes none, is a ``ValueError``.
    """
    kept = []
    for level, score in enumerate(scores):
        count = len(score) - round(fraction * len(score))
        if count < 1:
            raise ValueError(
                f"fraction={fraction} would leave none of the {len(score)} channels of level {level}; take a smaller "
                "one."
            )
        kept.append(score.argsort(descending=True, stable=True)[:count].sort().values)
    if all(len(channels) == len(score) for channels, score in zip(kept, scores, strict=True)):
        raise ValueError(
            f"fraction={fraction} removes none of {[len(one) for one in scores]} channels; take a larger one."
        )
    return generator.shrink(kept)


@torch.no_grad()
def hidden_levels(generator: Generator, z: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """For each hidden level of a chain: activations ``[n, channels, ...]`` of latents ``z``, and the weights that read
    them ``[channels, outputs, ...]``.
    """
    chain = pruned_chain(generator)
    hidden = chain.read(z)
    for stage, reader in zip(chain.hidden, chain.stages[1:], strict=True):
        hidden = stage.activate(stage.normalised(hidden))
        yield hidden, weight_of(reader.layer).transpose(0, 1)


@torch.no_grad()
def switched_off(generator: Generator, units: Tensor) -> Generator:
    """A copy in which those first-level ``units`` (a mask ``[u]``) always give zero before the activation."""
    copied = generator.clone().eval()
    first = pruned_chain(copied).stages[0]
    for part in (first.layer,) if first.norm is None else (first.norm,):
        part.weight[units] = 0.0
        if part.bias is not None:
            part.bias[units] = 0.0
    return copied


@torch.no_grad()
def channel_scores(generator: Generator, z: Tensor, by: str) -> list[Tensor]:
    """How much each channel of each hidden level is worth ``[channels]``; ``by`` is one of ``CRITERIA``."""
    one_of("by", by, CRITERIA)
    chain = pruned_chain(generator)
    scores, hidden = [], chain.read(z)
    for stage, reader in zip(chain.hidden, chain.stages[1:], strict=True):
        read = weight_of(reader.layer).abs().transpose(0, 1).flatten(1).sum(1)
        if by == "magnitude":
            written = weight_of(stage.layer).abs().flatten(1).sum(1) * stage.gain().abs()
            scores.append(written.view(stage.channels, -1).sum(1) * read)
            continue
        hidden = stage.normalised(hidden)
        active = stage.activate(hidden)
        channels = active.view(len(z), stage.channels, -1)
        if by == "dormant":
            scores.append((channels > 0).double().mean((0, 2)))
        else:
            scores.append(channels.abs().double().mean((0, 2)) * read)
        hidden = active
    return scores
