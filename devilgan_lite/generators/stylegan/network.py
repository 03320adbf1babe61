"""A small style-based generator for colour pictures (Karras et al. 2019, 2020), to be read in one sitting.

A mapping network turns the latent ``z`` into a style ``w``; the same ``w`` goes to every layer of the synthesis network
(tiled to ``w+``), where it scales the channels that a convolution reads. ``StyleDiscriminator`` is its opponent.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.base import Generator, Recipe, Shapes, numbered, register, seeded
from devilgan_lite.generators.stylegan.layers import Modulated, ToRGB, equalised, initialise_styles
from devilgan_lite.generators.stylegan.opponent import StyleDiscriminator
from devilgan_lite.prior import Prior

MAPPING_RATE = 0.01  # the mapping network learns at this share of the rate: small steps there change every layer


@register
class StyleGAN(Generator):
    """``z -> mapping -> w -> w+ -> synthesis``: pictures ``[n, image_channels, size, size]``, ``size = 4 * 2^levels``.

    ``widths`` are the channels at 4x4, 8x8, ...; each level after the first doubles the size and adds its own part to
    the picture. ``mapping_widths`` are the hidden layers of the mapping network. There are two style inputs a level
    (less one): ``w+`` is ``[n, style_inputs, style_dim]``.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 64,
        mapping_widths: tuple[int, ...] = (64, 64),
        style_dim: int = 64,
        widths: tuple[int, ...] = (128, 64, 48, 24),
        image_channels: int = 3,
        prior: str | Prior = "gaussian",
    ) -> None:
        for name, numbers in (("mapping_widths", mapping_widths), ("widths", widths)):
            for number in numbers:
                whole_number(name, number, 1, 4096)
        whole_number("style_dim", style_dim, 1, 4096)
        whole_number("image_channels", image_channels, 1, 64)
        if not 2 <= len(widths) <= 7:
            raise ValueError(f"widths={tuple(widths)} has {len(widths)} levels; it must have 2 to 7.")
        size = 4 * 2 ** (len(widths) - 1)
        super().__init__(latent_dim=latent_dim, sample_shape=(image_channels, size, size), prior=prior)
        self.widths, self.mapping_widths, self.style_dim = tuple(widths), tuple(mapping_widths), style_dim
        layers: list[nn.Module] = []
        sizes = [latent_dim, *mapping_widths]
        for inputs, outputs in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mapping_layers = nn.Sequential(*layers, nn.Linear(sizes[-1], style_dim))
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        first = nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False)
        self.convolutions = nn.ModuleList([Modulated(widths[0], widths[0], style_dim, first, 9)])
        self.to_rgb = nn.ModuleList()
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
            self.convolutions.append(Modulated(inputs, outputs, style_dim, up, 4))
            self.to_rgb.append(ToRGB(outputs, image_channels, style_dim))
        self.average_style: Tensor
        self.register_buffer("average_style", torch.zeros(style_dim))
        initialise_styles(self)

    @property
    def style_inputs(self) -> int:
        """How many layers read a style."""
        return len(self.convolutions) + len(self.to_rgb)

    def style_layers(self) -> list[Modulated | ToRGB]:
        """The layers that read a style, in the order of the style inputs."""
        found: list[Any] = [self.convolutions[0]]
        for pair in zip(list(self.convolutions)[1:], self.to_rgb, strict=True):
            found += pair
        return found

    def mapping(self, z: Tensor) -> Tensor:
        """Styles ``w`` ``[n, style_dim]``; only the direction of ``z`` counts."""
        w = self.mapping_layers(normalize(z, dim=1) * self.latent_dim**0.5)
        if self.training:
            self.average_style.lerp_(w.detach().float().mean(0), 0.01)
        return w

    def tiled(self, w: Tensor) -> Tensor:
        """``w+`` ``[n, style_inputs, style_dim]``: the same style for every layer."""
        return w.unsqueeze(1).expand(-1, self.style_inputs, -1)

    def synthesis(self, w_plus: Tensor) -> Tensor:
        """Pictures before tanh from ``w+`` ``[n, style_inputs, style_dim]``."""
        styles = iter(w_plus.unbind(1))
        x = self.convolutions[0](self.constant.expand(w_plus.shape[0], -1, -1, -1), next(styles))
        parts = []
        for convolution, to_rgb in zip(list(self.convolutions)[1:], self.to_rgb, strict=True):
            x = convolution(x, next(styles))
            parts.append(to_rgb(x, next(styles)))
        picture = parts[0]
        for part in parts[1:]:
            picture = part + doubled(picture)
        return picture

    def logits(self, z: Tensor) -> Tensor:
        return self.synthesis(self.tiled(self.mapping(z)))

    def mixed(self, coarse: Tensor, fine: Tensor, crossover: int) -> Tensor:
        """Pictures whose first ``crossover`` layers follow the latents ``coarse`` and the others ``fine``."""
        whole_number("crossover", crossover, 0, self.style_inputs)
        first, rest = (self.tiled(self.mapping(z)) for z in (coarse, fine))
        return self.squash(self.synthesis(torch.cat([first[:, :crossover], rest[:, crossover:]], dim=1)))

    def named_layers(self) -> dict[str, list[nn.Module]]:
        """``mapping``, ``convolution0``, ``convolution1``, ..., ``rgb1``, ...; not the constant."""
        groups: dict[str, list[nn.Module]] = {"mapping": [self.mapping_layers]}
        groups |= {f"convolution{k}": [module] for k, module in enumerate(self.convolutions)}
        return groups | {f"rgb{k}": [module] for k, module in enumerate(self.to_rgb, start=1)}

    def opponent(self, seed: int = 0) -> nn.Module:
        return seeded(seed, StyleDiscriminator, self.sample_shape)

    def recipe(self) -> Recipe:
        """That of the zoo's faces, which were trained with ``learning_rate=0.02`` and ``batch_size=24``."""
        return Recipe(betas=(0.0, 0.99), penalty=4.0)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """The share of the learning rate for each parameter: equalised, and slow in the mapping network."""
        return equalised(self, {self.mapping_layers: MAPPING_RATE})

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        *hidden, (style_dim, _) = mapping = numbered(shapes, "mapping_layers.{}.weight", step=2)
        levels = numbered(shapes, "to_rgb.{}.convolution.weight")
        return {
            "latent_dim": mapping[0][1],
            "mapping_widths": [width for width, _ in hidden],
            "style_dim": style_dim,
            "widths": [shapes["constant"][1], *(level[1] for level in levels)],
            "image_channels": levels[0][0],
        }

    def spec(self) -> dict[str, Any]:
        return {
            "architecture": "StyleGAN",
            "latent_dim": self.latent_dim,
            "mapping_widths": list(self.mapping_widths),
            "style_dim": self.style_dim,
            "widths": list(self.widths),
            "image_channels": self.sample_shape[0],
            "prior": self.prior.name,
        }


def doubled(x: Tensor) -> Tensor:
    """Twice as large, smoothly."""
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
