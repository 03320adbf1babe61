"""A DCGAN (Radford et al. 2016) for pictures of any size that divides by its strides.

``DCGAN()`` is the small network that trains in minutes on a laptop; ``DCGAN.paper()`` is the MNIST network of
Rawat et al. (2021), of 390,736 stored numbers at capacity 16, widened by ``capacity``.
"""

import math
from collections import OrderedDict
from typing import Any, Self

from torch import Tensor, nn

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.generators.base import Generator, Shapes, numbered, register, seeded
from devilgan_lite.generators.dcgan.opponent import Discriminator, initialise
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
        widths, strides = tuple(widths), tuple(strides)
        if len(widths) != len(strides) or not widths:
            raise ValueError(f"widths={widths} and strides={strides} must have the same length, at least 1.")
        for name, numbers, most in (("widths", widths, 4096), ("strides", strides, 2)):
            for number in numbers:
                whole_number(name, number, 1, most)
        whole_number("kernel_size", kernel_size, 3, 9)
        in_range("negative_slope", negative_slope, 0.0, 1.0)
        base_size, remainder = divmod(image_size, math.prod(strides))
        if remainder or not base_size:
            raise ValueError(f"image_size={image_size} does not divide by the strides {strides}.")
        if kernel_size % 2 == 0 and 1 in strides:
            raise ValueError(f"kernel_size={kernel_size} is even, so every stride must be 2; got {strides}.")
        self.widths, self.strides = widths, strides
        self.kernel_size, self.negative_slope, self.base_size = kernel_size, negative_slope, base_size

        cells = base_size * base_size
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["dense"] = nn.Linear(latent_dim, widths[0] * cells, bias=False)
        layers["norm0"] = nn.BatchNorm1d(widths[0] * cells)
        layers["act0"] = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
        layers["reshape"] = nn.Unflatten(1, (widths[0], base_size, base_size))
        for index, stride in enumerate(strides, start=1):
            last = index == len(strides)
            outputs = image_channels if last else widths[index]
            padding = (kernel_size - stride + 1) // 2
            layers[f"deconv{index}"] = nn.ConvTranspose2d(
                widths[index - 1],
                outputs,
                kernel_size,
                stride=stride,
                padding=padding,
                output_padding=stride - kernel_size + 2 * padding,
                bias=False,
            )
            if not last:
                layers[f"norm{index}"] = nn.BatchNorm2d(outputs)
                layers[f"act{index}"] = nn.LeakyReLU(negative_slope) if negative_slope else nn.ReLU()
        self.layers = nn.Sequential(layers)
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

    def opponent(self, seed: int = 0) -> nn.Module:
        return seeded(seed, Discriminator, self.sample_shape)

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
        return {
            "architecture": "DCGAN",
            "latent_dim": self.latent_dim,
            "widths": list(self.widths),
            "strides": list(self.strides),
            "kernel_size": self.kernel_size,
            "negative_slope": self.negative_slope,
            "image_channels": self.sample_shape[0],
            "image_size": self.sample_shape[1],
            "prior": self.prior.name,
        }
