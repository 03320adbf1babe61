"""The layers of a style-based network: modulated convolutions, their initialisation, equalised learning rates."""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import leaky_relu

Convolution = nn.Conv2d | nn.ConvTranspose2d
SLOPE = 0.2  # of the leaky rectifiers in synthesis and discriminator


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
