"""Networks that judge samples: the opponents of every family that brings none of its own."""

from torch import Tensor, nn

from devilgan_lite.checks import whole_number


class Discriminator(nn.Module):
    """Two strided convolutions and a dense layer: images ``[n, C, H, W]`` to realness logits ``[n]``.

    The sides of ``sample_shape`` ``(C, H, W)`` are 4 or more.
    """

    def __init__(self, sample_shape: tuple[int, ...] = (1, 28, 28), *, width: int = 32) -> None:
        super().__init__()
        self.layers = picture_layers(sample_shape, width, 1)
        initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class PointDiscriminator(nn.Module):
    """A multilayer perceptron from samples ``[n, ...]`` of ``inputs`` numbers to realness logits ``[n]``."""

    def __init__(self, inputs: int = 2, *, width: int = 64) -> None:
        super().__init__()
        whole_number("inputs", inputs, 1)
        self.layers = nn.Sequential(
            nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x.flatten(1)).squeeze(1)


def picture_layers(sample_shape: tuple[int, ...], width: int, outputs: int) -> nn.Sequential:
    """Layers from images ``[n, C, H, W]`` to ``[n, outputs]``; each of two convolutions halves a side, rounded down."""
    channels, height, breadth = sample_shape
    if min(height, breadth) < 4:
        raise ValueError(f"sample_shape={sample_shape} is too small: a picture needs sides of 4 or more.")
    return nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(2 * width),  # without it, this size of GAN learns three times more slowly
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(2 * width * (height // 4) * (breadth // 4), outputs),
    )


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
