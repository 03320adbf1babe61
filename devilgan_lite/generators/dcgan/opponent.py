"""The discriminator that a DCGAN is trained against, and the initialisation of both."""

import math

from torch import Tensor, nn


class Discriminator(nn.Module):
    """Two strided convolutions and a dense layer: images ``[n, C, H, W]`` to realness logits ``[n]``."""

    def __init__(self, sample_shape: tuple[int, int, int] = (1, 28, 28), *, width: int = 32) -> None:
        super().__init__()
        channels, height, _ = sample_shape
        cells = math.ceil(math.ceil(height / 2) / 2) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),  # without it, this size of GAN learns three times more slowly
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * cells, 1),
        )
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


def initialise(module: nn.Module) -> None:
    """DCGAN's initialisation (Radford et al. 2016): weights N(0, 0.02^2), BatchNorm gain N(1, 0.02^2)."""
    for layer in module.modules():
        if any(parameter.is_meta for parameter in layer.parameters(recurse=False)):
            continue  # shapes only; and the first random number on this device makes torch import its compiler
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(layer.weight, 0.0, 0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
