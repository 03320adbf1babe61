"""How a chain of transposed convolutions can draw any picture exactly: each pixel has channels of its own.

A first-layer unit (or a channel for each cell) holds one pixel, and the later layers only shuffle depth to space with
one-hot kernels. The gate and the closed form are drawn that way, and ReX starts from it: from random kernels an
optimiser finds coarse samples and gets stuck on fine detail (the letters on a STOP sign).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.generators.chain import TRANSPOSED, Chain, Layer, weight_of

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
PAINTED = 8  # a dense layer lights cells if that takes so many times fewer channels


@dataclass(frozen=True)
class Canvas:
    """``channels`` of the sample, its ``cells`` a side after the first layer, and how far each later layer enlarges.

    ``dimensions`` are 2 for pictures and 1 for sound, whose pixels are the samples in time. ``dense``: each unit of the
    first layer holds a pixel of its own. Else each of its channels lights one cell, and the next layer paints it.
    """

    channels: int
    cells: int
    strides: tuple[int, ...]
    slope: float
    dense: bool
    dimensions: int = 2

    @property
    def blocks(self) -> list[int]:
        """The side of the block of pixels that a cell of each level will become, level by level, down to 1."""
        return [math.prod(self.strides[level:]) for level in range(len(self.strides) + 1)]

    @property
    def pixels(self) -> list[int]:
        """The pixels in such a block, level by level."""
        return [block**self.dimensions for block in self.blocks]

    @property
    def places(self) -> int:
        """The cells of the first layer, in all directions."""
        return self.cells**self.dimensions

    @property
    def size(self) -> int:
        """Elements of a sample."""
        return self.channels * self.places * self.pixels[0]

    def owners(self, triggers: int = 1) -> tuple[int, ...]:
        """Channels at each hidden level with which every output pixel has two of its own, for each of ``triggers``."""
        widths = [2 * self.channels * pixels for pixels in self.pixels[:-1]]
        return tuple(widths) if self.dense else (triggers * self.places, *widths[1:])

    def shufflers(self, layers: Iterable[Layer]) -> list[tuple[int, Layer]]:
        """Those of a chain's ``layers`` that only shuffle depth to space, each with the level that it reads."""
        return list(enumerate(list(layers)[1:]))[0 if self.dense else 1 :]


def canvas_of(chain: Chain, sample_shape: tuple[int, ...]) -> Canvas | None:
    """The canvas of a chain, or None if its layers cannot shuffle depth to space."""
    if len(sample_shape) not in (2, 3) or len(set(sample_shape[1:])) != 1:
        return None
    first, later = chain.stages[0], chain.stages[1:]
    slopes, dimensions = {stage.slope for stage in chain.hidden}, len(sample_shape) - 1
    if len(first.cells) != dimensions or len(set(first.cells)) != 1 or len(slopes) != 1 or None in slopes:
        return None
    if not first.dense and (math.prod(chain.latent_shape[1:]) != 1 or not isinstance(first.layer, TRANSPOSED)):
        return None
    for stage in later:
        layer = stage.layer
        fits = isinstance(layer, TRANSPOSED) or (isinstance(layer, CONVOLUTIONS) and set(layer.stride) == {1})
        if (
            not fits
            or len({*layer.kernel_size, layer.dilation[0] * layer.kernel_size[0]}) != 1
            or isinstance(layer.padding, str)
        ):
            return None
        if layer.padding[0] + layer.stride[0] > layer.kernel_size[0]:
            return None
    if any(stage.after for stage in chain.hidden):
        return None
    strides = tuple(int(stage.layer.stride[0]) for stage in later)
    if first.cells[0] * math.prod(strides) != sample_shape[1]:
        return None
    (slope,) = slopes
    found = Canvas(sample_shape[0], first.cells[0], strides, float(slope or 0.0), first.dense, dimensions)
    # where a dense layer would need many more channels than there are cells, it lights cells as well
    few = first.dense and PAINTED * found.places <= found.owners()[0]
    return replace(found, dense=False) if few else found


def depth_order(canvas: Canvas) -> Tensor:
    """Which pixel each dense unit holds: unit (channel, dy, dx, cell row, cell column) -> index into ``[C*H*W]``."""
    block, cells, axes = canvas.blocks[0], canvas.cells, range(canvas.dimensions)
    pixels = torch.arange(canvas.size).view(canvas.channels, *(cells, block) * canvas.dimensions)
    return pixels.permute(0, *(2 + 2 * axis for axis in axes), *(1 + 2 * axis for axis in axes)).flatten()


def lit(layer: Layer, canvas: Canvas, values: Tensor | None = None) -> Tensor:
    """The weight of the first layer, or its bias given as ``values``, by channel and cell ``[channels, ..., places]``.

    A view; the bias of a layer whose cells share it comes as ``[channels, 1]``.
    """
    dense = isinstance(layer, nn.Linear)
    if values is not None:
        return values.view(-1, canvas.places if dense else 1)
    if dense:
        return layer.weight.view(-1, canvas.places, layer.in_features).transpose(1, 2)
    return weight_of(layer).flatten(2)


def shuffle_kernel(mix: Tensor, canvas: Canvas, level: int, layer: Layer) -> Tensor:
    """The kernel ``[in, out, k, ...]`` that turns ``before x before`` pixels a cell into ``after x after``.

    ``mix`` ``[signs out, signs in]`` says how the copies of a pixel (one for each sign) are mixed.
    """
    channels, before, after, d = canvas.channels, canvas.blocks[level], canvas.blocks[level + 1], canvas.dimensions
    padding, sides, whole = layer.padding[0], layer.kernel_size, slice(None)
    inputs, outputs = (mix.shape[1], channels, *[before] * d), (mix.shape[0], channels, *[after] * d)
    kernel = torch.zeros(*inputs, *outputs, *sides)
    for channel, *offset in itertools.product(range(channels), *[range(before)] * d):
        place, within = [at // after + padding for at in offset], [at % after for at in offset]
        kernel[(whole, channel, *offset, whole, channel, *within, *place)] = mix.T
    return kernel.view(math.prod(inputs), math.prod(outputs), *sides)


def painting_kernel(pixels: Tensor, canvas: Canvas, layer: Layer) -> Tensor:
    """The kernel ``[places, out, k, ...]`` that paints each cell's part of ``pixels`` ``[signs, C*H*W]``, if lit.

    One channel a cell goes in; what comes out has ``after x after`` pixels a cell, for each sign, as in
    ``shuffle_kernel``.
    """
    stride, after, d = canvas.strides[0], canvas.blocks[1], canvas.dimensions
    parts = pixels.view(len(pixels), canvas.channels, *(canvas.cells, stride, after) * d)
    rows, places, within = ([first + 3 * axis for axis in range(d)] for first in (2, 3, 4))
    parts = parts.permute(*rows, 0, 1, *within, *places).reshape(canvas.places, -1, *[stride] * d)
    kernel = pixels.new_zeros(*parts.shape[:2], *layer.kernel_size)
    painted: Any = (..., *[slice(layer.padding[0], layer.padding[0] + stride)] * d)
    kernel[painted] = parts
    return kernel


def write_kernel(layer: Layer, kernel: Tensor, keep: bool = False) -> None:
    """Write ``kernel`` ``[in, out, k, ...]`` into a layer; inputs beyond it ``keep`` their weights, or lose them."""
    weight = weight_of(layer).transpose(0, 1)
    (weight[: kernel.shape[0]] if keep else weight).zero_()
    weight[: kernel.shape[0], : kernel.shape[1]] = kernel.to(weight)
