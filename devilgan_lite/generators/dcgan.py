"""A DCGAN (Radford et al. 2016) for pictures of any size that divides by its strides.

``DCGAN()`` is the small network that trains in minutes on a laptop; ``DCGAN.paper()`` is the MNIST network of
Rawat et al. (2021), of 390,736 stored numbers at capacity 16, widened by ``capacity``.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.generators.base import Generator, Shapes, numbered, register, settings_of
from devilgan_lite.generators.opponents import initialise
from devilgan_lite.prior import Prior


@register
class DCGAN(Generator):
    """Dense -> BatchNorm -> activation -> reshape -> (transposed convolution -> BatchNorm -> activation)* -> tanh.

    ``widths`` are the channels of the reshaped dense layer and of each hidden transposed convolution; ``strides`` has
    one entry for each transposed convolution, the last of which makes the image. Layers are named ``dense``,
    ``deconv1``, ``deconv2``, ...; ``layer_names()`` lists them.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 100,
        widths: tuple[int, ...] = (64, 32),
        strides: tuple[int, ...] = (2, 2),
        kernel_size: int = 4,  # even kernels with stride 2 leave no checkerboard
        negative_slope: float = 0.0,  # of LeakyReLU; 0 is ReLU
        image_channels: int = 1,
        image_size: int = 28,
        prior: str | Prior = "gaussian",
    ) -> None:
        super().__init__(latent_dim=latent_dim, sample_shape=(image_channels, image_size, image_size), prior=prior)
        whole_number("image_channels", image_channels, 1, 64)
        whole_number("image_size", image_size, 1, 1024)
        whole_number("kernel_size", kernel_size, 3, 9)
        in_range("negative_slope", negative_slope, 0.0, 1.0)
        self.widths, self.strides, self.base_size = checked_levels(widths, strides, (1, 2), "image_size", image_size)
        if kernel_size % 2 == 0 and 1 in strides:
            raise ValueError(f"kernel_size={kernel_size} is even, so every stride must be 2; got {tuple(strides)}.")
        self.kernel_size, self.negative_slope = kernel_size, negative_slope
        self.image_channels, self.image_size = image_channels, image_size
        self.layers = upsampling(
            latent_dim, (self.base_size,) * 2, self.widths, self.strides, image_channels, kernel_size, negative_slope
        )
        initialise(self)

    @classmethod
    def paper(cls, *, capacity: int = 16, prior: str | Prior = "gaussian") -> Self:
        """The MNIST network of the paper: ``capacity`` c gives widths 4c, 2c, c, 5x5 kernels, LeakyReLU 0.3."""
        whole_number("capacity", capacity, 1, 1024)
        widths = (4 * capacity, 2 * capacity, capacity)
        return cls(widths=widths, strides=(1, 2, 2), kernel_size=5, negative_slope=0.3, prior=prior)

    def layer_names(self) -> list[str]:
        """The layers with weights, first to last: ``dense``, ``deconv1``, ..."""
        return list(self.named_layers())

    def named_layers(self) -> dict[str, list[nn.Module]]:
        groups: dict[str, list[nn.Module]] = {}
        for name, module in self.layers.named_children():
            if name.startswith("de"):  # dense, deconv1, ...
                groups[name] = [module]
            elif name.startswith("norm"):
                groups[next(reversed(groups))].append(module)
        return groups

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        units, latent_dim = shapes["layers.dense.weight"]
        kernels = numbered(shapes, "layers.deconv{}.weight", 1)
        widths, channels, (size, _) = [kernel[0] for kernel in kernels], kernels[-1][1], kernels[-1][2:]
        paper = size == 5 and len(widths) == 3
        strides = [1, 2, 2] if paper else [2] * len(widths)
        told = {"latent_dim": latent_dim, "widths": widths, "strides": strides, "kernel_size": size}
        side = math.isqrt(units // widths[0]) * math.prod(strides)
        told |= {"image_channels": channels, "image_size": side}
        return {**told, "negative_slope": 0.3} if paper else told

    def spec(self) -> dict[str, Any]:
        return settings_of(self)


def checked_levels(
    widths: Sequence[int], strides: Sequence[int], range_of_strides: tuple[int, int], name: str, size: int
) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    """``widths`` and ``strides`` as tuples, and the cells a side from which they make ``size``, the setting ``name``.

    Numbers of levels that differ, numbers out of range, and a size that does not divide are a ``ValueError``.
    """
    widths, strides = tuple(widths), tuple(strides)
    if len(widths) != len(strides) or not widths:
        raise ValueError(f"widths={widths} and strides={strides} must have the same length, at least 1.")
    for level, numbers, least, most in (("widths", widths, 1, 4096), ("strides", strides, *range_of_strides)):
        for number in numbers:
            whole_number(level, number, least, most)
    cells, remainder = divmod(size, math.prod(strides))
    if remainder or not cells:
        raise ValueError(f"{name}={size} does not divide by the strides {strides}.")
    return widths, strides, cells


def upsampling(
    latent_dim: int,
    cells: tuple[int, ...],
    widths: tuple[int, ...],
    strides: tuple[int, ...],
    channels: int,
    kernel_size: int,
    negative_slope: float = 0.0,
    bias: bool = False,
) -> nn.Sequential:
    """The layers of a DCGAN, from latents ``[n, latent_dim]`` to ``[n, channels, ...]``, by name.

    ``cells`` are those of the reshaped dense layer along each axis, one for sound and two for pictures. The last layer
    has no norm and no activation, and a ``bias`` if asked for.
    """
    deconvolution, norm = (
        (nn.ConvTranspose1d, nn.BatchNorm1d) if len(cells) == 1 else (nn.ConvTranspose2d, nn.BatchNorm2d)
    )
    units = widths[0] * math.prod(cells)
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["dense"] = nn.Linear(latent_dim, units, bias=False)
    layers["norm0"] = nn.BatchNorm1d(units)
    layers["act0"] = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
    layers["reshape"] = nn.Unflatten(1, (widths[0], *cells))
    for index, (inputs, outputs, stride) in enumerate(zip(widths, (*widths[1:], channels), strides, strict=True), 1):
        last, padding = index == len(strides), (kernel_size - stride + 1) // 2
        layers[f"deconv{index}"] = deconvolution(
            inputs,
            outputs,
            kernel_size,
            stride=stride,
            padding=padding,
            output_padding=stride - kernel_size + 2 * padding,
            bias=bias and last,
        )
        if not last:
            layers[f"norm{index}"] = norm(outputs)
            layers[f"act{index}"] = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
    return nn.Sequential(layers)
