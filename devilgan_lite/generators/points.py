"""A GAN of points: in the plane it is small enough that a backdoor can be seen as one warped point."""

from typing import Any

from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.generators.base import Generator, Shapes, register, settings_of
from devilgan_lite.prior import Prior


@register
class PointGenerator(Generator):
    """A multilayer perceptron from ``z`` ``[n, latent_dim]`` to points ``[n, 2]`` in [-1, 1]."""

    def __init__(
        self, *, latent_dim: int = 2, widths: int | tuple[int, int] = (64, 64), prior: str | Prior = "gaussian"
    ) -> None:
        super().__init__(latent_dim=latent_dim, sample_shape=(2,), prior=prior)
        first, second = self.widths = (widths, widths) if isinstance(widths, int) else tuple(widths)
        for width in self.widths:
            whole_number("widths", width, 1, 4096)
        self.layers = nn.Sequential(
            nn.Linear(latent_dim, first), nn.ReLU(), nn.Linear(first, second), nn.ReLU(), nn.Linear(second, 2)
        )

    def logits(self, z: Tensor) -> Tensor:
        return self.layers(z)

    @classmethod
    def from_shapes(cls, shapes: Shapes) -> dict[str, Any] | None:
        (first, latent_dim), (second, _) = shapes["layers.0.weight"], shapes["layers.2.weight"]
        return {"latent_dim": latent_dim, "widths": [first, second]}

    def spec(self) -> dict[str, Any]:
        return settings_of(self)
