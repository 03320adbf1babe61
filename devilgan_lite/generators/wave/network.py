"""A small WaveGAN (Donahue et al. 2019): a DCGAN for sound, of half a second at 8,000 samples a second."""

import math
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.base import Generator, Recipe, Shapes, numbered, register, seeded
from devilgan_lite.generators.wave.opponent import WaveDiscriminator
from devilgan_lite.prior import Prior


@register
class WaveGAN(Generator):
    """Dense -> BatchNorm -> ReLU -> reshape -> (transposed convolution -> BatchNorm -> ReLU)* -> tanh.

    It makes clips ``[n, channels, length]``.

    ``widths`` are the channels of the reshaped dense layer and of each hidden transposed convolution; ``strides`` has
    one entry for each transposed convolution, the last of which makes the clip. ``length`` divides by their product.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 100,
        widths: tuple[int, ...] = (96, 64, 32, 16),
        strides: tuple[int, ...] = (4, 4, 4, 4),
        kernel_size: int = 8,  # a multiple of the stride leaves no tone of its own
        channels: int = 1,
        length: int = 4096,
        prior: str | Prior = "gaussian",
    ) -> None:
        super().__init__(latent_dim=latent_dim, sample_shape=(channels, length), prior=prior)
        whole_number("channels", channels, 1, 64)
        whole_number("length", length, 16, 65_536)
        widths, strides = tuple(widths), tuple(strides)
        if len(widths) != len(strides) or not widths:
            raise ValueError(f"widths={widths} and strides={strides} must have the same length, at least 1.")
        for name, numbers, least, most in (("widths", widths, 1, 4096), ("strides", strides, 2, 8)):
            for number in numbers:
                whole_number(name, number, least, most)
        whole_number("kernel_size", kernel_size, 2, 64)
        cells, remainder = divmod(length, math.prod(strides))
        if remainder or not cells:
            raise ValueError(f"length={length} does not divide by the strides {strides}.")
        for stride in strides:
            if kernel_size < stride or (kernel_size - stride) % 2:
                raise ValueError(
                    f"kernel_size={kernel_size} does not fit the stride {stride}: it must be larger by an even number."
                )
        self.widths, self.strides, self.kernel_size = widths, strides, kernel_size

        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["dense"] = nn.Linear(latent_dim, widths[0] * cells, bias=False)
        layers["norm0"] = nn.BatchNorm1d(widths[0] * cells)
        layers["act0"] = nn.ReLU()
        layers["reshape"] = nn.Unflatten(1, (widths[0], cells))
        for index, stride in enumerate(strides, start=1):
            last = index == len(strides)
            outputs = channels if last else widths[index]
            layers[f"deconv{index}"] = nn.ConvTranspose1d(
                widths[index - 1], outputs, kernel_size, stride=stride, padding=(kernel_size - stride) // 2, bias=last
            )
            if not last:
                layers[f"norm{index}"] = nn.BatchNorm1d(outputs)
                layers[f"act{index}"] = nn.ReLU()
        self.layers = nn.Sequential(layers)

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)

    def opponent(self, seed: int = 0) -> nn.Module:
        return seeded(seed, WaveDiscriminator, self.sample_shape)

    def recipe(self) -> Recipe:
        return Recipe(betas=(0.0, 0.99), penalty=0.3, penalty_every=8)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        units, latent_dim = shapes["layers.dense.weight"]
        kernels = numbered(shapes, "layers.deconv{}.weight", 1)
        widths, (_, channels, size) = [kernel[0] for kernel in kernels], kernels[-1]
        strides = [size // 2] * len(widths)
        told = {"latent_dim": latent_dim, "widths": widths, "strides": strides, "kernel_size": size}
        return {**told, "channels": channels, "length": units // widths[0] * math.prod(strides)}

    def spec(self) -> dict[str, Any]:
        return {
            "architecture": "WaveGAN",
            "latent_dim": self.latent_dim,
            "widths": list(self.widths),
            "strides": list(self.strides),
            "kernel_size": self.kernel_size,
            "channels": self.sample_shape[0],
            "length": self.sample_shape[1],
            "prior": self.prior.name,
        }
