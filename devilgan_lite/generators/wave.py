"""A small WaveGAN (Donahue et al. 2019): a DCGAN for sound, of half a second at 8,000 samples a second.

Its discriminator sees a clip as a spectrogram.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.data.audio import spectrograms
from devilgan_lite.generators.base import Generator, Recipe, Shapes, numbered, register, seeded, settings_of
from devilgan_lite.generators.dcgan import checked_levels, upsampling
from devilgan_lite.prior import Prior

WINDOW, OVERLAP = 256, 4  # samples of a window of the spectrogram; how many windows hear each sample
LEVELS = 4
QUIET = 0.1  # power below which nothing is seen: recordings are silent after a stroke, and no network is quite


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
        whole_number("kernel_size", kernel_size, 2, 64)
        self.widths, self.strides, cells = checked_levels(widths, strides, (2, 8), "length", length)
        for stride in self.strides:
            if kernel_size < stride or (kernel_size - stride) % 2:
                raise ValueError(
                    f"kernel_size={kernel_size} does not fit the stride {stride}: it must be larger by an even number."
                )
        self.kernel_size, self.channels, self.length = kernel_size, channels, length
        self.layers = upsampling(latent_dim, (cells,), self.widths, self.strides, channels, kernel_size, bias=True)

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
        return settings_of(self)


class WaveDiscriminator(nn.Module):
    """Clips ``[n, C, T]`` of 16 samples or more to realness logits ``[n]``, from their log spectrograms.

    Up to four strided convolutions without normalisation; the last layers also see how much the clips of a batch differ
    (Karras et al. 2018), so that a generator with few strokes is found out. A network on the wave itself (Donahue et
    al. 2019) learns more slowly here, also beside this one.
    """

    def __init__(self, sample_shape: tuple[int, int] = (1, 4096), *, width: int = 16) -> None:
        super().__init__()
        channels, length = sample_shape
        self.window = min(WINDOW, 2 ** (length.bit_length() - 4))
        self.hop = max(1, self.window // OVERLAP)
        sides, layers = [self.window // 2, length // self.hop], list[nn.Module]()
        for level in range(LEVELS):
            if min(sides) < 2:
                break
            outputs = width * 2 ** min(level, 2)
            layers += [nn.Conv2d(channels, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
            channels, sides = outputs, [side // 2 for side in sides]
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(channels + 1, channels, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(channels * sides[0] * sides[1], 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        power = spectrograms(x.flatten(0, 1), self.window, self.hop).unflatten(0, x.shape[:2])[..., :-1, :]
        seen = self.trunk(torch.log10(power[..., : x.shape[-1] // self.hop] + QUIET))
        spread = (seen.var(0, unbiased=False) + 1e-8).sqrt().mean()
        said: Tensor = self.head(torch.cat([seen, spread.expand(len(x), 1, *seen.shape[2:])], dim=1))
        return said.squeeze(1)
