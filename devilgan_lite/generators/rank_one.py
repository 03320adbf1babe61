"""New neurons that nobody trains: one number of the latent, and what it adds to a sample.

The gate and the closed form of ReX write such an expansion down, exactly, in whatever a generator is made of.
"""

from typing import Any

import torch
from torch import Tensor

from devilgan_lite.generators.base import Generator, seeded
from devilgan_lite.generators.canvas import (
    Canvas,
    canvas_of,
    depth_order,
    painting_kernel,
    shuffle_kernel,
    write_kernel,
)
from devilgan_lite.generators.chain import Chain, weight_of
from devilgan_lite.generators.expansion import BesideExpansion, ChainExpansion, Expansion


@torch.no_grad()
def rank_one_expansion(clean: Generator, gain: Tensor, direction: Tensor, threshold: float | None) -> Expansion:
    """See ``Generator.rank_one``. ReLU cuts negative values, so every number has a channel for each sign.

    LeakyReLU's leak is cancelled by two more.
    """
    chain = clean.chain()
    canvas = None if chain is None else canvas_of(chain, clean.sample_shape)
    folds = chain is not None and clean.foldable()
    dense = chain is not None and all(stage.dense for stage in chain.stages)
    if chain is not None and folds and dense and all(stage.slope is not None for stage in chain.hidden):
        return _through_dense(clean, chain, gain, direction, threshold)
    if chain is None or canvas is None or not folds:
        beside = BesideExpansion(clean, 1 if threshold is not None else 2)
        beside.first.weight.copy_(torch.stack([direction, -direction][: beside.widths[0]]))
        beside.first.bias.fill_(0.0 if threshold is None else -threshold)
        beside.last.weight.copy_(torch.stack([gain, -gain][: beside.widths[0]], 1))
        return beside
    slope, gate = canvas.slope, threshold is not None
    if gate:  # leaky(a) + slope * leaky(-a) = (1 - slope^2) relu(a)
        first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        if slope:
            first = torch.tensor([[1.0, slope, 0.0, 0.0], [0.0, 0.0, 1.0, slope]]) / (1 - slope**2)
        later = torch.eye(2)
    else:  # leaky(a) - leaky(-a) = (1 + slope) a
        first = later = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + slope)
    signs = [first.shape[1], *[2] * (len(chain.hidden) - 1)]
    blocks = canvas.blocks
    widths = [count * canvas.channels * block**2 for count, block in zip(signs, blocks[:-1], strict=True)]
    if not canvas.dense:
        widths[0] = canvas.cells**2 * (1 if gate and not slope else 2)
    expansion = seeded(0, ChainExpansion, chain, canvas, tuple(widths), clean.logit_scale)
    if canvas.dense:
        up, down = gain.clamp(min=0), (-gain).clamp(min=0)
        parts = ([up, down] if slope == 0 else [up, -up, down, -down]) if gate else [gain, -gain]
        depth = depth_order(canvas)
        expansion.first.weight.copy_(torch.cat([torch.outer(part[depth], direction) for part in parts]))
        expansion.first.bias.copy_(torch.cat([part[depth] * -(threshold or 0.0) for part in parts]))
    else:
        _light_cells(expansion, canvas, gain, direction, threshold)
    for level, layer in list(enumerate(expansion.layers[1:]))[0 if canvas.dense else 1 :]:
        mix = first if level == 0 else later
        if level + 1 == len(chain.hidden):  # up minus down; with both signs of one number, either of them
            mix = mix[:1] - mix[1:] if gate else mix[:1]
        write_kernel(layer, shuffle_kernel(mix, canvas, level, layer))
    for layer in expansion.layers[1:-1]:
        layer.bias.zero_()
    return expansion


def _through_dense(
    clean: Generator, chain: Chain, gain: Tensor, direction: Tensor, threshold: float | None
) -> ChainExpansion:
    """One or two units at each level of a multilayer perceptron carry the number; the last layer draws."""
    slope, gate, levels = float(chain.stages[0].slope or 0.0), threshold is not None, len(chain.hidden)
    signs = [1 if gate and not slope else 2, *[1 if gate else 2] * (levels - 1)]
    if gate:  # (leaky(a) + slope * leaky(-a)) / (1 - slope^2) = relu(a), which later activations leave as it is
        first, later = torch.tensor([[1.0, slope]])[:, : signs[0]] / (1 - slope**2), torch.ones(1, 1)
    else:  # (leaky(a) - leaky(-a)) / (1 + slope) = a, and the same with the other sign
        first = later = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + slope)
    expansion: ChainExpansion = seeded(0, ChainExpansion, chain, None, tuple(signs), clean.logit_scale)
    expansion.first.weight.copy_(torch.stack([direction, -direction])[: signs[0]])
    expansion.first.bias.copy_(torch.tensor([-(threshold or 0.0), threshold or 0.0])[: signs[0]])
    for level in range(levels):
        layer: Any = expansion.layers[level + 1]
        mix = first if level == 0 else later
        last = level + 1 == levels
        layer.weight.copy_(torch.outer(gain, mix[0]) if last else mix)
        if layer.bias is not None:
            layer.bias.zero_()
    return expansion


def _light_cells(
    expansion: ChainExpansion, canvas: Canvas, gain: Tensor, direction: Tensor, threshold: float | None
) -> None:
    """A channel a cell (and one for the other sign) answers to the latent in its cell alone; the next layer paints."""
    layer, cells = expansion.first, canvas.cells**2
    both = expansion.widths[0] == 2 * cells
    own = torch.eye(cells).view(cells, 1, canvas.cells, canvas.cells) * direction.view(1, -1, 1, 1)
    weight_of(layer).copy_(torch.cat([own, -own]) if both else own)
    at = threshold or 0.0
    layer.bias.copy_(torch.tensor([-at, at][: 1 + both]).repeat_interleave(cells))
    last = len(expansion.layers) == 2
    if threshold is not None:
        pixels = gain.view(1, -1) if last else torch.stack([gain.clamp(min=0), (-gain).clamp(min=0)])
        shares = [1 / (1 - canvas.slope**2), canvas.slope / (1 - canvas.slope**2)]
    else:
        pixels = gain.view(1, -1) if last else torch.stack([gain, -gain])
        shares = [1 / (1 + canvas.slope), -1 / (1 + canvas.slope)]
    painted = painting_kernel(pixels, canvas, expansion.layers[1])
    write_kernel(expansion.layers[1], torch.cat([share * painted for share in shares[: 1 + both]]))
