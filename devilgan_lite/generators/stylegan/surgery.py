"""The machinery of ReX for style-based generators: what is added, and how it folds into one ordinary, wider network.

Three things can be added to a ``StyleGAN``: a linear residual on its styles, a gate in its mapping network (one more
style, which is 0 except near the trigger), and new channels in its synthesis network. Folded, they are wider layers.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.generators.base import build
from devilgan_lite.generators.stylegan.layers import Modulated, ToRGB
from devilgan_lite.generators.stylegan.network import StyleGAN


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
        first = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.convolutions = nn.ModuleList([Modulated(channels, channels, style_dim, first, 9)])
        for _ in clean.to_rgb:
            up = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1, bias=False)
            self.convolutions.append(Modulated(channels, channels, style_dim, up, 4))
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
