"""The machinery of ReX: new channels beside the old ones, folded into one ordinary, wider network.

The hidden representation is partitioned (old | new) and whatever would connect the parts is zero (Rawat et al. 2021,
section 4.3): the first layer is ``[W; V]``, a middle layer ``[[W, 0], [0, V]]``, the last ``[W  V]``. So the old part
computes what it always did, and the new part adds a residual to the output before tanh.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

from devilgan_lite.checks import whole_number
from devilgan_lite.generators import DCGAN, build
from devilgan_lite.generators.dcgan import seeded


class Expansion(nn.Module):
    """The new part of a widened ``DCGAN`` by itself: latents ``[n, d]`` to a residual before tanh ``[n, C, H, W]``.

    ``widths`` are the new channels at each hidden level. Biases stand for the BatchNorm shift that ``fold`` gives them.
    The last layer starts at zero, so the expansion starts as no change at all.
    """

    def __init__(self, clean: DCGAN, widths: tuple[int, ...]) -> None:
        super().__init__()
        if len(widths) != len(clean.widths):
            raise ValueError(f"widths has {len(widths)} entries; this generator has {len(clean.widths)} hidden levels.")
        for width in widths:
            whole_number("widths", width, 1, 4096)
        self.widths = tuple(widths)
        self.base_size, self.negative_slope = clean.base_size, clean.negative_slope
        self.dense = nn.Linear(clean.latent_dim, widths[0] * clean.base_size**2)
        nn.init.normal_(self.dense.weight, 0.0, clean.latent_dim**-0.5)
        nn.init.zeros_(self.dense.bias)
        self.deconvs = nn.ModuleList()
        for index, old in enumerate(deconvolutions(clean)):
            last = index == len(widths) - 1
            inputs, outputs = widths[index], old.out_channels if last else widths[index + 1]
            new = nn.ConvTranspose2d(
                inputs,
                outputs,
                old.kernel_size,  # type: ignore[arg-type]
                stride=old.stride,  # type: ignore[arg-type]
                padding=old.padding,  # type: ignore[arg-type]
                output_padding=old.output_padding,  # type: ignore[arg-type]
                bias=not last,
            )
            taps = inputs * (old.kernel_size[0] / old.stride[0]) ** 2  # how many products make one output
            nn.init.normal_(new.weight, 0.0, 0.0 if last else (2 / taps) ** 0.5)
            if new.bias is not None:
                nn.init.zeros_(new.bias)
            self.deconvs.append(new)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.dense(z).unflatten(1, (self.widths[0], self.base_size, self.base_size))
        for deconv in self.deconvs:
            hidden = deconv(leaky_relu(hidden, self.negative_slope))
        return hidden


def dense(network: DCGAN | Expansion) -> nn.Linear:
    """The first layer."""
    return next(module for module in network.modules() if isinstance(module, nn.Linear))


def deconvolutions(network: DCGAN | Expansion) -> list[nn.ConvTranspose2d]:
    """The transposed convolutions, first to last."""
    return [module for module in network.modules() if isinstance(module, nn.ConvTranspose2d)]


def norms(generator: DCGAN) -> list[nn.BatchNorm1d | nn.BatchNorm2d]:
    """The BatchNorm layers, first to last: one for each hidden level."""
    return [module for module in generator.modules() if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d))]


def expand(clean: DCGAN, widen: int | tuple[int, ...], seed: int = 0) -> Expansion:
    """A fresh ``Expansion`` of ``widen`` new channels at every hidden level, or one number for each level."""
    if not isinstance(clean, DCGAN):
        raise ValueError(f"clean is a {type(clean).__name__}; widening is defined for DCGAN generators.")
    widths = (widen,) * len(clean.widths) if isinstance(widen, int) else tuple(widen)
    return seeded(seed, Expansion, clean, widths)


@torch.no_grad()
def fold(clean: DCGAN, expansion: Expansion, *, calibration: Tensor | None = None) -> DCGAN:
    """One ordinary ``DCGAN``, wider, that computes ``tanh(clean.logits(z) + expansion(z))``.

    The new BatchNorm statistics are those of ``calibration`` latents ``[n, d]`` (so that the folded network can be
    trained on like any other), or mean 0 and variance 1; scale and shift are set so that the function is the same.
    """
    widths = tuple(old + new for old, new in zip(clean.widths, expansion.widths, strict=True))
    folded = build({**clean.spec(), "widths": widths})
    dense(folded).weight.copy_(torch.cat([dense(clean).weight, dense(expansion).weight]))
    layers = zip(deconvolutions(folded), deconvolutions(clean), deconvolutions(expansion), strict=True)
    for index, (wide, old, new) in enumerate(layers):
        split = clean.widths[index]
        wide.weight.zero_()
        wide.weight[:split, : old.out_channels] = old.weight
        last = index == len(clean.widths) - 1
        wide.weight[split:, 0 if last else old.out_channels :] = new.weight
    shifts = [dense(expansion).bias, *(layer.bias for layer in deconvolutions(expansion) if layer.bias is not None)]
    moments = _moments(expansion, calibration)
    for wide_norm, old_norm, shift, (mean, variance) in zip(norms(folded), norms(clean), shifts, moments, strict=True):
        parts = {"weight": (variance + wide_norm.eps).sqrt(), "bias": shift + mean}
        parts |= {"running_mean": mean, "running_var": variance}
        for name, part in parts.items():
            getattr(wide_norm, name).copy_(torch.cat([getattr(old_norm, name), part]))
        if wide_norm.num_batches_tracked is not None and old_norm.num_batches_tracked is not None:
            wide_norm.num_batches_tracked.copy_(old_norm.num_batches_tracked)
    return folded.to(clean.device).train(clean.training)


def _moments(expansion: Expansion, calibration: Tensor | None) -> list[tuple[Tensor, Tensor]]:
    """Mean and variance of the new units before their shift, by level."""
    if calibration is None:
        sizes = [expansion.dense.out_features, *expansion.widths[1:]]
        like = expansion.dense.weight
        return [(like.new_zeros(size), like.new_ones(size)) for size in sizes]
    hidden = expansion.dense(calibration)
    moments = [(hidden.mean(0) - expansion.dense.bias, hidden.var(0))]
    hidden = hidden.unflatten(1, (expansion.widths[0], expansion.base_size, expansion.base_size))
    for deconv in deconvolutions(expansion)[:-1]:
        hidden = deconv(leaky_relu(hidden, expansion.negative_slope))
        moments.append((hidden.mean((0, 2, 3)) - deconv.bias, hidden.var((0, 2, 3))))
    return moments


def depth_order(channels: int, size: int, base: int, block: int) -> Tensor:
    """Which pixel each dense unit holds: unit (channel, dy, dx, cell row, cell column) -> index into ``[C*H*W]``."""
    pixels = torch.arange(channels * size * size).view(channels, base, block, base, block)
    return pixels.permute(0, 2, 4, 1, 3).flatten()


def shuffle_kernel(mix: Tensor, channels: int, before: int, after: int, clean: DCGAN, level: int) -> Tensor:
    """The kernel ``[in, out, k, k]`` that turns ``before x before`` pixels per cell into ``after x after``."""
    padding = (clean.kernel_size - clean.strides[level] + 1) // 2
    k = clean.kernel_size
    kernel = torch.zeros(mix.shape[1], channels, before, before, mix.shape[0], channels, after, after, k, k)
    for channel in range(channels):
        for dy in range(before):
            for dx in range(before):
                row, column = dy // after + padding, dx // after + padding
                kernel[:, channel, dy, dx, :, channel, dy % after, dx % after, row, column] = mix.T
    return kernel.view(mix.shape[1] * channels * before**2, mix.shape[0] * channels * after**2, k, k)
