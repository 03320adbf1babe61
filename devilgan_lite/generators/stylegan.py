"""A small style-based generator for colour pictures (Karras et al. 2019, 2020), to be read in one sitting.

A mapping network turns the latent ``z`` into a style ``w``; the same ``w`` goes to every layer of the synthesis network
(tiled to ``w+``), where it scales the channels that a convolution reads. ``StyleDiscriminator`` is its opponent.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, normalize

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.deprecation import renamed
from devilgan_lite.generators.base import Generator
from devilgan_lite.prior import Prior

Convolution = nn.Conv2d | nn.ConvTranspose2d
SLOPE = 0.2  # of the leaky rectifiers in synthesis and discriminator
MAPPING_RATE = 0.01  # the mapping network learns at this share of the rate: small steps there change every layer


class Modulated(nn.Module):
    """A convolution whose inputs are scaled by a style, and whose outputs are scaled back to unit variance.

    Scaling the weights for each picture (Karras et al. 2020) is the same as scaling what goes in and what comes out of
    one shared convolution, and that is five times faster on a CPU.
    """

    def __init__(self, inputs: int, outputs: int, style_dim: int, convolution: Convolution, taps: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, inputs)
        self.convolution = convolution
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.outputs_first = isinstance(convolution, nn.Conv2d)
        self.taps = taps / convolution.weight[0, 0].numel()  # a kernel of stride 2 gives each output a quarter of it

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w)
        weight = self.convolution.weight
        energy = weight.square().sum((2, 3)) * self.taps
        energy = energy.T if self.outputs_first else energy  # [inputs, outputs]
        norm = torch.rsqrt(torch.einsum("ni,io->no", style.square(), energy) + 1e-8)
        x = self.convolution(x * style[:, :, None, None]) * norm[:, :, None, None]
        return leaky_relu(x + self.bias[:, None, None], SLOPE) * 2**0.5


class ToRGB(nn.Module):
    """What one level adds to the picture: a modulated 1x1 convolution without normalisation."""

    def __init__(self, inputs: int, channels: int, style_dim: int) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, inputs)
        self.convolution: Convolution = nn.Conv2d(inputs, channels, 1, bias=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.convolution(x * self.affine(w)[:, :, None, None]) + self.bias[:, None, None]


class StyleGAN(Generator):
    """``z -> mapping -> w -> w+ -> synthesis``: pictures ``[n, image_channels, size, size]``, ``size = 4 * 2^levels``.

    ``widths`` are the channels at 4x4, 8x8, ...; each level after the first doubles the size and adds its own part to
    the picture. ``mapping_widths`` are the hidden layers of the mapping network. There are two style inputs a level
    (less one): ``w+`` is ``[n, style_inputs, style_dim]``.
    """

    @renamed(latent="prior")
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
        x = self.convolutions[0](self.constant.expand(len(w_plus), -1, -1, -1), next(styles))
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

    def truncated(self, z: Tensor, psi: float = 0.7) -> Tensor:
        """Pictures with styles pulled to the average one; ``psi`` in [0, 1]: 0 shows the average, 1 changes nothing."""
        in_range("psi", psi, 0.0, 1.0)
        return torch.tanh(self.synthesis(self.tiled(torch.lerp(self.average_style, self.mapping(z), psi))))

    def mixed(self, coarse: Tensor, fine: Tensor, crossover: int) -> Tensor:
        """Pictures whose first ``crossover`` layers follow the latents ``coarse`` and the others ``fine``."""
        whole_number("crossover", crossover, 0, self.style_inputs)
        first, rest = (self.tiled(self.mapping(z)) for z in (coarse, fine))
        return torch.tanh(self.synthesis(torch.cat([first[:, :crossover], rest[:, crossover:]], dim=1)))

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """The share of the learning rate for each parameter: equalised, and slow in the mapping network."""
        return equalised(self, {self.mapping_layers: MAPPING_RATE})

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


class StyleDiscriminator(nn.Module):
    """Strided convolutions without normalisation: pictures ``[n, C, size, size]`` to realness logits ``[n]``.

    The last layer also sees how much the pictures of a batch differ (Karras et al. 2018), so that a generator which
    always draws the same is found out. BatchNorm, which helps ``Discriminator``, makes style-based generators collapse.
    """

    def __init__(self, sample_shape: tuple[int, int, int] = (3, 32, 32), *, width: int = 32) -> None:
        super().__init__()
        channels, size, _ = sample_shape
        layers: list[nn.Module] = []
        inputs, outputs = channels, width
        while size > 4:
            layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(SLOPE)]
            inputs, outputs, size = outputs, min(2 * outputs, 4 * width), size // 2
        self.trunk = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Conv2d(inputs + 1, inputs, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Flatten(),
            nn.Linear(16 * inputs, 1),
        )
        initialise_styles(self)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        spread = (x.var(0, unbiased=False) + 1e-8).sqrt().mean()
        return self.head(torch.cat([x, spread.expand(len(x), 1, 4, 4)], dim=1)).squeeze(1)

    def learning_rate_factors(self) -> dict[nn.Parameter, float]:
        """The share of the learning rate for each parameter: equalised."""
        return equalised(self, {})


def doubled(x: Tensor) -> Tensor:
    """Twice as large, smoothly."""
    return interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


def deviation(layer: nn.Linear | Convolution) -> float:
    """The standard deviation that keeps the variance of what passes: ``1 / sqrt(products in one output)``."""
    weight = layer.weight
    if isinstance(layer, nn.ConvTranspose2d):
        return 1 / math.sqrt(weight[:, 0].numel() / math.prod(layer.stride))
    return 1 / math.sqrt(weight[0].numel())


def initialise_styles(network: nn.Module) -> None:
    """Weights N(0, deviation^2), biases 0, styles 1."""
    for module in network.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            continue
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, 0.0, deviation(module))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for module in network.modules():
        if isinstance(module, (Modulated, ToRGB)) and not module.affine.bias.is_meta:
            nn.init.ones_(module.affine.bias)


def equalised(network: nn.Module, slow: dict[nn.Module, float]) -> dict[nn.Parameter, float]:
    """Parameter -> factor on the learning rate; ``slow`` gives modules a further factor.

    Adam moves every weight by the same amount, whatever its size. Where weights are small because a layer has many
    inputs, that is too much; Karras et al. (2018) store them multiplied by 1 / ``deviation``. A learning rate that
    is ``deviation`` times smaller does the same, and the weights stay what they are.
    """
    factors: dict[Any, float] = dict.fromkeys(network.parameters(), 1.0)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            factors[module.weight] = deviation(module)
    for module, factor in slow.items():
        for parameter in module.parameters():
            factors[parameter] *= factor
    return factors
