"""The encoder of a variational autoencoder: which latents a picture may have come from."""

import math

from torch import Tensor, nn

LEAST, MOST = -12.0, 6.0  # of a log variance: far outside what training needs, so that no first step overflows


class Encoder(nn.Module):
    """Two strided convolutions and a dense layer: images ``[n, C, H, W]`` to a Gaussian over latents.

    The answer is its mean ``[n, latent_dim]`` and its log variance ``[n, latent_dim]``, one for each coordinate.
    """

    def __init__(self, sample_shape: tuple[int, int, int], latent_dim: int, *, width: int = 32) -> None:
        super().__init__()
        channels, height, _ = sample_shape
        cells = math.ceil(math.ceil(height / 2) / 2) ** 2
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * cells, 2 * latent_dim),
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(x).chunk(2, dim=1)
        return mean, log_variance.clamp(LEAST, MOST)
