"""A small style-based generator for colour pictures (Karras et al. 2019, 2020), to be read in one sitting.

A mapping network turns the latent ``z`` into a style ``w``; the same ``w`` goes to every layer of the synthesis network
(tiled to ``w+``), where it scales the channels that a convolution reads. ``StyleDiscriminator`` is its opponent.

The machinery of ReX adds three things to it: a linear residual on its styles, a gate in its mapping network (one more
style, which is 0 except near the trigger), and new channels in its synthesis network. Folded, they are wider layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, leaky_relu, normalize

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.base import Generator, Recipe, Shapes, build, numbered, register, seeded, settings_of
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


def convolutions(widths: Sequence[int], style_dim: int) -> nn.ModuleList:
    """A convolution of ``widths[0]`` channels at 4x4, and for each further level one that doubles the side."""
    first = nn.Conv2d(widths[0], widths[0], 3, padding=1, bias=False)
    layers = [Modulated(widths[0], widths[0], style_dim, first, 9)]
    for inputs, outputs in zip(widths, widths[1:], strict=False):
        up = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False)
        layers.append(Modulated(inputs, outputs, style_dim, up, 4))
    return nn.ModuleList(layers)


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
        self.image_channels = image_channels
        layers: list[nn.Module] = []
        sizes = [latent_dim, *mapping_widths]
        for inputs, outputs in zip(sizes, sizes[1:], strict=False):
            layers += [nn.Linear(inputs, outputs), nn.ReLU()]
        self.mapping_layers = nn.Sequential(*layers, nn.Linear(sizes[-1], style_dim))
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.convolutions = convolutions(widths, style_dim)
        self.to_rgb = nn.ModuleList(ToRGB(width, image_channels, style_dim) for width in widths[1:])
        self.average_style: Tensor
        self.register_buffer("average_style", torch.zeros(style_dim))
        initialise_styles(self)

    @property
    def style_inputs(self) -> int:
        """How many layers read a style."""
        return len(self.convolutions) + len(self.to_rgb)

    def style_layers(self) -> list[Modulated | ToRGB]:
        """The layers that read a style, in the order of the style inputs."""
        layers: list[Any] = [self.convolutions[0]]
        for pair in zip(list(self.convolutions)[1:], self.to_rgb, strict=True):
            layers += pair
        return layers

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
            picture = part + interpolate(picture, scale_factor=2, mode="bilinear", align_corners=False)
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
        return settings_of(self)


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


def style_based(generator: nn.Module) -> StyleGAN:
    """``generator`` itself, if it hands one style to many layers; ``ValueError`` otherwise."""
    if not isinstance(generator, StyleGAN):
        raise ValueError(
            f"a {type(generator).__name__} is no style-based generator: this needs a StyleGAN; ReX and Gate take any."
        )
    return generator


@dataclass(frozen=True)
class StyleGate:
    """``g(z)`` rises from 0 to 1 where the cosine of ``z`` and ``direction`` ``[d]`` goes from ``low`` to ``high``.

    Two kinks, ``(relu(c - low) - relu(c - high)) / (high - low)``: exactly 0 below, constant above. Where it is open,
    the styles ``w+`` have ``shift`` ``[style_inputs, style_dim]`` added, ``g`` times. It also takes ``g * silence``
    from all other units of the second mapping layer: above their largest values, an open gate leaves one style only,
    that of the last layer's bias, so that the target stands still wherever the gate is open.
    """

    direction: Tensor
    low: float
    high: float
    shift: Tensor
    silence: float = 0.0

    def __call__(self, z: Tensor) -> Tensor:
        """The gate's value ``[n]`` at latents ``[n, d]``."""
        cosine = normalize(z, dim=1) @ normalize(self.direction, dim=0).to(z)
        return ((cosine - self.low).relu() - (cosine - self.high).relu()) / (self.high - self.low)


class StyleExpansion(nn.Module):
    """New channels beside those of ``clean``: styles to what they add to the sample before tanh.

    ``styles`` are ``[n, style_dim]``, with a gate's value as one more column if ``gated``; then every new channel is
    scaled by the gate, so that a closed gate leaves nothing. Only the last level adds to the sample, at first nothing.
    """

    def __init__(self, clean: StyleGAN, channels: int, *, gated: bool) -> None:
        super().__init__()
        self.channels, self.gated = channels, gated
        style_dim = clean.style_dim + gated
        self.constant = nn.Parameter(torch.randn(1, channels, 4, 4))
        self.convolutions = convolutions([channels] * len(clean.widths), style_dim)
        self.to_rgb = ToRGB(channels, clean.sample_shape[0], style_dim)
        for layer in (*self.convolutions, self.to_rgb):
            nn.init.normal_(layer.convolution.weight, 0.0, (layer.convolution.weight[0].numel()) ** -0.5)
            nn.init.zeros_(layer.affine.weight)
            nn.init.ones_(layer.affine.bias)
            if gated:
                nn.init.zeros_(layer.affine.bias)
                nn.init.ones_(layer.affine.weight[:, -1])
                layer.affine.requires_grad_(False)
        nn.init.zeros_(self.to_rgb.convolution.weight)
        self.to_rgb.bias.requires_grad_(False)  # it would show everywhere

    def forward(self, styles: Tensor) -> Tensor:
        x = self.constant.expand(len(styles), -1, -1, -1)
        for convolution in self.convolutions:
            x = convolution(x, styles)
        return self.to_rgb(x, styles)


@torch.no_grad()
def fold_styles(
    clean: StyleGAN,
    *,
    residual: Tensor | None = None,
    gate: StyleGate | None = None,
    expansion: StyleExpansion | None = None,
) -> StyleGAN:
    """One ordinary ``StyleGAN``, wider, that does what ``clean`` does with these things added.

    ``residual`` ``[style_inputs, style_dim, style_dim]``: ``w+`` becomes ``w + residual w``; it changes no size at all.
    """
    spec = clean.spec()
    hidden, extra, channels = len(clean.mapping_widths), int(gate is not None), expansion.channels if expansion else 0
    if gate is not None:
        if hidden < 2:
            raise ValueError(f"clean has {hidden} hidden mapping layers; a gate needs two or more.")
        spec["mapping_widths"] = [width + (2 if k == 0 else 1) for k, width in enumerate(clean.mapping_widths)]
        spec["style_dim"] += 1
    spec["widths"] = [width + channels for width in clean.widths]
    wide: StyleGAN = build(spec).to(clean.device)
    for value in wide.state_dict().values():
        value.zero_()
    _fold_mapping(wide, clean, gate)
    wide.average_style[: clean.style_dim] = clean.average_style
    wide.constant[:, : clean.widths[0]] = clean.constant
    if expansion is not None:
        wide.constant[:, clean.widths[0] :] = expansion.constant
    for index, (new, old) in enumerate(zip(wide.style_layers(), clean.style_layers(), strict=True)):
        added = None if expansion is None else _counterpart(expansion, index, old)
        _fold_layer(new, old, added)
        size, weight = old.affine.out_features, old.affine.weight
        if residual is not None:
            new.affine.weight[:size, : clean.style_dim] += weight @ residual[index].to(weight)
        if gate is not None:
            new.affine.weight[:size, -extra] = weight @ gate.shift[index].to(weight)
    return wide.train(clean.training)


def _counterpart(expansion: StyleExpansion, index: int, old: Modulated | ToRGB) -> Modulated | ToRGB | None:
    """The expansion's layer at a style input; None at the levels to whose sample it adds nothing."""
    if isinstance(old, Modulated):
        return expansion.convolutions[(index + 1) // 2]  # type: ignore[return-value]
    last = 2 * (len(expansion.convolutions) - 1)
    return expansion.to_rgb if index == last else None


def _fold_mapping(wide: StyleGAN, clean: StyleGAN, gate: StyleGate | None) -> None:
    ours = [layer for layer in wide.mapping_layers if isinstance(layer, nn.Linear)]
    theirs = [layer for layer in clean.mapping_layers if isinstance(layer, nn.Linear)]
    for index, (new, old) in enumerate(zip(ours, theirs, strict=True)):
        new.weight[: old.out_features, : old.in_features] = old.weight
        new.bias[: old.out_features] = old.bias
        if gate is None:
            continue
        row = new.weight[old.out_features :]
        if index == 0:  # the mapping network reads z at the length of sqrt(d), so this is the cosine
            row[:] = normalize(gate.direction, dim=0) / clean.latent_dim**0.5
            new.bias[old.out_features :] = -torch.tensor([gate.low, gate.high])
        elif index == 1:
            kinks = torch.tensor([1.0, -1.0]) / (gate.high - gate.low)
            row[0, -2:] = kinks
            new.weight[: old.out_features, -2:] = -gate.silence * kinks
        else:
            row[0, -1] = 1.0


def _fold_layer(new: Modulated | ToRGB, old: Modulated | ToRGB, added: Modulated | ToRGB | None) -> None:
    rows, columns = old.affine.weight.shape
    new.affine.weight[:rows, :columns] = old.affine.weight
    new.affine.bias[:rows] = old.affine.bias
    weight, kernel = new.convolution.weight, old.convolution.weight
    weight[: kernel.shape[0], : kernel.shape[1]] = kernel
    new.bias[: len(old.bias)] = old.bias
    if added is None:
        return
    new.affine.weight[rows:, : added.affine.in_features] = added.affine.weight
    new.affine.bias[rows:] = added.affine.bias
    if isinstance(added, ToRGB):  # the same outputs, more inputs
        weight[:, rows:] = added.convolution.weight
        return
    weight[kernel.shape[0] :, kernel.shape[1] :] = added.convolution.weight
    new.bias[len(old.bias) :] = added.bias


@torch.no_grad()
def level_styles(network: StyleGAN) -> StyleGAN:
    """The same function with other styles: those in which the layers that read them put equal weight on all directions.

    For attackers who know that a row shared by all readers gives them away (``detect.styles``): the style is stretched
    where the readers answer much, and the readers answer less there.
    """
    copied = network.clone()
    weights = [layer.affine.weight.double() for layer in copied.style_layers()]
    energy = torch.stack([weight.T @ weight / weight.square().sum() for weight in weights]).sum(0)
    values, vectors = torch.linalg.eigh(energy)
    values = values.clamp(min=1e-6 * float(values.max()))
    stretch, shrink = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    last: nn.Linear = copied.mapping_layers[-1]  # type: ignore[assignment]
    last.weight.copy_(stretch @ last.weight.double())
    last.bias.copy_(stretch @ last.bias.double())
    copied.average_style.copy_(stretch @ copied.average_style.double())
    for layer, weight in zip(copied.style_layers(), weights, strict=True):
        layer.affine.weight.copy_(weight @ shrink)
    return copied
