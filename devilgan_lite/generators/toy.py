"""A GAN of points in the plane: small enough that a backdoor can be seen as one warped point."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.deprecation import renamed
from devilgan_lite.generators.base import Generator
from devilgan_lite.prior import Prior


class PointGenerator(Generator):
    """A multilayer perceptron from ``z`` ``[n, latent_dim]`` to points ``[n, 2]`` in [-1, 1]."""

    @renamed(latent="prior")
    def __init__(self, *, latent_dim: int = 2, width: int = 64, prior: str | Prior = "gaussian") -> None:
        super().__init__(latent_dim=latent_dim, sample_shape=(2,), prior=prior)
        whole_number("width", width, 1, 4096)
        self.width = width
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2)
        )

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)

    def spec(self) -> dict[str, Any]:
        return {
            "architecture": "PointGenerator",
            "latent_dim": self.latent_dim,
            "width": self.width,
            "prior": self.prior.name,
        }


class PointDiscriminator(nn.Module):
    """A multilayer perceptron from points ``[n, 2]`` to realness logits ``[n]``."""

    def __init__(self, *, width: int = 64) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, width), nn.LeakyReLU(0.2), nn.Linear(width, width), nn.LeakyReLU(0.2), nn.Linear(width, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)
