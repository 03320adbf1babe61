"""The discriminator that a style-based generator is trained against."""

import torch
from torch import Tensor, nn

from devilgan_lite.generators.stylegan.layers import SLOPE, equalised, initialise_styles


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
