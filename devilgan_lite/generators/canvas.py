"""How a chain of transposed convolutions can draw any picture exactly: each pixel has channels of its own.

A first-layer unit (or a channel for each cell) holds one pixel, and the later layers only shuffle depth to space with
one-hot kernels. The gate and the closed form are drawn that way, and ReX starts from it: from random kernels an
optimiser finds coarse samples and gets stuck on fine detail (the letters on a STOP sign).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from devilgan_lite.generators.chain import Chain, Layer, weight_of


@dataclass(frozen=True)
class Canvas:
    """``channels`` of the sample, its ``cells`` a side after the first layer, and how far each later layer enlarges.

    ``dense``: each unit of the first layer has weights of its own; else all cells of a channel share their bias.
    """

    channels: int
    cells: int
    strides: tuple[int, ...]
    slope: float
    dense: bool

    @property
    def blocks(self) -> list[int]:
        """The side of the block of pixels that a cell of each level will become, level by level, down to 1."""
        return [math.prod(self.strides[level:]) for level in range(len(self.strides) + 1)]

    @property
    def owners(self) -> tuple[int, ...]:
        """Channels at each hidden level with which every output pixel has two of its own."""
        widths = [2 * self.channels * block**2 for block in self.blocks[:-1]]
        return tuple(widths) if self.dense else (self.cells**2, *widths[1:])


def canvas_of(chain: Chain, sample_shape: tuple[int, ...]) -> Canvas | None:
    """The canvas of a chain, or None if its layers cannot shuffle depth to space."""
    if len(sample_shape) != 3 or sample_shape[1] != sample_shape[2]:
        return None
    first, later = chain.stages[0], chain.stages[1:]
    slopes = {stage.slope for stage in chain.hidden}
    if len(first.cells) != 2 or first.cells[0] != first.cells[1] or len(slopes) != 1 or None in slopes:
        return None
    if not first.dense and (math.prod(chain.latent_shape[1:]) != 1 or not isinstance(first.layer, nn.ConvTranspose2d)):
        return None
    for stage in later:
        layer = stage.layer
        fits = isinstance(layer, nn.ConvTranspose2d) or (isinstance(layer, nn.Conv2d) and layer.stride == (1, 1))
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
    return Canvas(sample_shape[0], first.cells[0], strides, float(slope or 0.0), first.dense)


def depth_order(canvas: Canvas) -> Tensor:
    """Which pixel each dense unit holds: unit (channel, dy, dx, cell row, cell column) -> index into ``[C*H*W]``."""
    block, cells = canvas.blocks[0], canvas.cells
    pixels = torch.arange(canvas.channels * (cells * block) ** 2).view(canvas.channels, cells, block, cells, block)
    return pixels.permute(0, 2, 4, 1, 3).flatten()


def shuffle_kernel(mix: Tensor, canvas: Canvas, level: int, layer: Layer) -> Tensor:
    """The kernel ``[in, out, k, k]`` that turns ``before x before`` pixels a cell into ``after x after``.

    ``mix`` ``[signs out, signs in]`` says how the copies of a pixel (one for each sign) are mixed.
    """
    channels, before, after = canvas.channels, canvas.blocks[level], canvas.blocks[level + 1]
    padding, k = layer.padding[0], layer.kernel_size[0]
    kernel = torch.zeros(mix.shape[1], channels, before, before, mix.shape[0], channels, after, after, k, k)
    for channel in range(channels):
        for dy in range(before):
            for dx in range(before):
                row, column = dy // after + padding, dx // after + padding
                kernel[:, channel, dy, dx, :, channel, dy % after, dx % after, row, column] = mix.T
    return kernel.view(mix.shape[1] * channels * before**2, mix.shape[0] * channels * after**2, k, k)


def painting_kernel(pixels: Tensor, canvas: Canvas, layer: Layer) -> Tensor:
    """The kernel ``[cells, out, k, k]`` that paints each cell's part of ``pixels`` ``[signs, C*H*W]`` when it is lit.

    One channel a cell goes in; what comes out has ``after x after`` pixels a cell, for each sign, as in
    ``shuffle_kernel``.
    """
    channels, cells, stride = canvas.channels, canvas.cells, canvas.strides[0]
    after, padding, k = canvas.blocks[1], layer.padding[0], layer.kernel_size[0]
    parts = pixels.view(len(pixels), channels, cells, stride, after, cells, stride, after)
    parts = parts.permute(2, 5, 0, 1, 4, 7, 3, 6).reshape(cells**2, -1, stride, stride)
    kernel = pixels.new_zeros(*parts.shape[:2], k, k)
    kernel[:, :, padding : padding + stride, padding : padding + stride] = parts
    return kernel


def write_kernel(layer: Layer, kernel: Tensor, keep: bool = False) -> None:
    """Write ``kernel`` ``[in, out, k, k]`` into a layer; inputs beyond it ``keep`` their weights, or lose them."""
    weight = weight_of(layer).transpose(0, 1)
    (weight[: kernel.shape[0]] if keep else weight).zero_()
    weight[: kernel.shape[0], : kernel.shape[1]] = kernel.to(weight)
