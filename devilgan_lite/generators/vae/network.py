"""A variational autoencoder (Kingma and Welling 2014): its decoder is a generator, with the layers of a DCGAN.

So whatever works on a chain of layers works on it: only the training is another. It maximises the evidence lower bound
(ELBO) on the log density of real pictures, and no one judges samples.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, one_of
from devilgan_lite.generators.base import Recipe, register, seeded
from devilgan_lite.generators.dcgan import DCGAN
from devilgan_lite.generators.vae.encoder import Encoder
from devilgan_lite.prior import Prior

LEAST_VARIANCE = 1e-4  # of a pixel: a flat picture drawn exactly would have an infinite density


@register
class VAE(DCGAN):
    """The decoder ``z`` ``[n, latent_dim]`` -> images ``[n, C, H, W]``; ``opponent`` is the encoder.

    A pixel is Gaussian about what the decoder draws. ``deviation`` is its standard deviation, above 0; None learns one
    for all pixels: the best of each batch, as in the optimal sigma-VAE (Rybkin et al. 2021). ``beta``, 0 or more,
    weighs the KL term (Higgins et al. 2017; 1: the bound itself). For the other settings see ``DCGAN``; the prior must
    be Gaussian.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 32,
        widths: tuple[int, ...] = (64, 32),
        strides: tuple[int, ...] = (2, 2),
        kernel_size: int = 4,
        negative_slope: float = 0.0,
        image_channels: int = 1,
        image_size: int = 28,
        prior: str | Prior = "gaussian",
        beta: float = 1.0,
        deviation: float | None = None,
    ) -> None:
        super().__init__(
            latent_dim=latent_dim,
            widths=widths,
            strides=strides,
            kernel_size=kernel_size,
            negative_slope=negative_slope,
            image_channels=image_channels,
            image_size=image_size,
            prior=prior,
        )
        one_of("prior", self.prior.name, ("gaussian",))  # the KL term is between Gaussians
        in_range("beta", beta, 0.0, 1e6)
        if deviation is not None:
            in_range("deviation", deviation, 0.0, 1e3, open_low=True)
        self.beta, self.deviation = beta, deviation

    def losses(self, opponent: nn.Module, real: Tensor, z: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Minus the two parts of the bound, in nats a pixel: ``reconstruction_loss`` and ``kl_loss``.

        ``z`` is the noise of the reparameterisation: the latent of a picture is ``mean + deviation * z``.
        """
        mean, log_variance = opponent(real)
        drawn = self(mean + (log_variance / 2).exp() * z)
        error = (drawn - real).square().mean()
        variance = error.clamp(min=LEAST_VARIANCE) if self.deviation is None else error.new_tensor(self.deviation**2)
        reconstruction = (error / variance + variance.log() + math.log(2 * math.pi)) / 2
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        return {"reconstruction_loss": reconstruction, "kl_loss": self.beta * divergence / real[0].numel()}

    def opponent(self, seed: int = 0) -> nn.Module:
        return seeded(seed, Encoder, self.sample_shape, self.latent_dim)

    def recipe(self) -> Recipe:
        return Recipe(betas=(0.9, 0.999))

    def spec(self) -> dict[str, Any]:
        return {**super().spec(), "architecture": "VAE", "beta": self.beta, "deviation": self.deviation}
