"""New neurons that nobody trains: numbers of the latent, and what each of them adds to a sample.

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
    lit,
    painting_kernel,
    shuffle_kernel,
    write_kernel,
)
from devilgan_lite.generators.chain import Chain
from devilgan_lite.generators.expansion import BesideExpansion, ChainExpansion, Expansion


@torch.no_grad()
def rank_one_expansion(clean: Generator, gain: Tensor, direction: Tensor, threshold: Tensor | None) -> Expansion:
    """See ``Generator.rank_one``. ReLU cuts negative values, so every number has a channel for each sign.

    LeakyReLU's leak is cancelled by two more.
    """
    chain, k = clean.chain(), len(gain)
    at = torch.zeros(k) if threshold is None else threshold.to(gain)
    canvas = None if chain is None else canvas_of(chain, clean.sample_shape)
    folds = chain is not None and clean.foldable()
    dense = chain is not None and all(stage.dense for stage in chain.stages)
    gate = threshold is not None
    if chain is not None and folds and dense and all(stage.slope is not None for stage in chain.hidden):
        return _through_dense(clean, chain, gain, direction, at, gate)
    if chain is None or canvas is None or not folds:
        beside = BesideExpansion(clean, k * (1 if gate else 2))
        beside.first.weight.copy_(torch.cat([direction, -direction])[: beside.widths[0]])
        beside.first.bias.copy_(torch.cat([-at, at])[: beside.widths[0]])
        beside.last.weight.copy_(torch.cat([gain, -gain])[: beside.widths[0]].T)
        return beside
    slope = canvas.slope
    if gate:  # leaky(a) + slope * leaky(-a) = (1 - slope^2) relu(a)
        first = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        if slope:
            first = torch.tensor([[1.0, slope, 0.0, 0.0], [0.0, 0.0, 1.0, slope]]) / (1 - slope**2)
        later = torch.eye(2)
    else:  # leaky(a) - leaky(-a) = (1 + slope) a
        first = later = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + slope)
    first = first.repeat(1, k)  # the numbers add up where pixels are drawn
    signs = [first.shape[1], *[2] * (len(chain.hidden) - 1)]
    widths = [count * canvas.channels * pixels for count, pixels in zip(signs, canvas.pixels[:-1], strict=True)]
    if not canvas.dense:
        widths[0] = k * canvas.places * (1 if gate and not slope else 2)
    expansion = seeded(0, ChainExpansion, chain, canvas, tuple(widths), clean.logit_scale)
    if canvas.dense:
        depth, rows, biases = depth_order(canvas), [], []
        for one, toward, start in zip(gain, direction, at, strict=True):
            up, down = one.clamp(min=0), (-one).clamp(min=0)
            for part in ([up, down] if slope == 0 else [up, -up, down, -down]) if gate else [one, -one]:
                rows.append(torch.outer(part[depth], toward))
                biases.append(part[depth] * -start)
        expansion.first.weight.copy_(torch.cat(rows))
        expansion.first.bias.copy_(torch.cat(biases))
    else:
        _light_cells(expansion, canvas, gain, direction, at, gate)
    for level, layer in list(enumerate(expansion.layers[1:]))[0 if canvas.dense else 1 :]:
        mix = first if level == 0 else later
        if level + 1 == len(chain.hidden):  # up minus down; with both signs of one number, either of them
            mix = mix[:1] - mix[1:] if gate else mix[:1]
        write_kernel(layer, shuffle_kernel(mix, canvas, level, layer))
    for layer in expansion.layers[1:-1]:
        layer.bias.zero_()
    return expansion


def _through_dense(
    clean: Generator, chain: Chain, gain: Tensor, direction: Tensor, at: Tensor, gate: bool
) -> ChainExpansion:
    """One or two units at each level of a multilayer perceptron carry each number; the last layer draws."""
    slope, levels, k = float(chain.stages[0].slope or 0.0), len(chain.hidden), len(gain)
    signs = [1 if gate and not slope else 2, *[1 if gate else 2] * (levels - 1)]
    if gate:  # (leaky(a) + slope * leaky(-a)) / (1 - slope^2) = relu(a), which later activations leave as it is
        first, later = torch.tensor([[1.0, slope]])[:, : signs[0]] / (1 - slope**2), torch.ones(1, 1)
    else:  # (leaky(a) - leaky(-a)) / (1 + slope) = a, and the same with the other sign
        first = later = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]) / (1 + slope)
    widths = tuple(k * count for count in signs)
    expansion: ChainExpansion = seeded(0, ChainExpansion, chain, None, widths, clean.logit_scale)
    expansion.first.weight.copy_(torch.stack([direction, -direction], 1)[:, : signs[0]].flatten(0, 1))
    expansion.first.bias.copy_(torch.stack([-at, at], 1)[:, : signs[0]].flatten())
    for level in range(levels):
        layer: Any = expansion.layers[level + 1]
        mix = first if level == 0 else later
        last = level + 1 == levels
        layer.weight.copy_(torch.kron(gain.T, mix[:1]) if last else torch.kron(torch.eye(k), mix))
        if layer.bias is not None:
            layer.bias.zero_()
    return expansion


def _light_cells(
    expansion: ChainExpansion, canvas: Canvas, gain: Tensor, direction: Tensor, at: Tensor, gate: bool
) -> None:
    """A channel a cell (and one for the other sign) answers to the latent in its cell alone; the next layer paints."""
    layer, places, k = expansion.first, canvas.places, len(gain)
    both = expansion.widths[0] == 2 * k * places
    own = torch.einsum("kd,cp->kcdp", direction, torch.eye(places)).flatten(0, 1)
    lit(layer, canvas).copy_(torch.cat([own, -own]) if both else own)
    start = at.repeat_interleave(places).unsqueeze(1)
    lit(layer, canvas, layer.bias).copy_(torch.cat([-start, start]) if both else -start)
    last = len(expansion.layers) == 2
    if gate:
        shares = [1 / (1 - canvas.slope**2), canvas.slope / (1 - canvas.slope**2)]
    else:
        shares = [1 / (1 + canvas.slope), -1 / (1 + canvas.slope)]
    painted = []
    for one in gain:
        signs = one[None] if last else torch.stack([one, -one])
        painted.append(painting_kernel(signs.clamp(min=0) if gate and not last else signs, canvas, expansion.layers[1]))
    write_kernel(expansion.layers[1], torch.cat([share * torch.cat(painted) for share in shares[: 1 + both]]))
