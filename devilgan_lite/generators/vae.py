"""A variational autoencoder (Kingma and Welling 2014): its decoder is a generator, with the layers of a DCGAN.

So whatever works on a chain of layers works on it: only the training is another. It maximises the evidence lower bound
(ELBO) on the log density of real pictures, and no one judges samples.
"""

import math

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, one_of
from devilgan_lite.generators.base import Recipe, register, seeded
from devilgan_lite.generators.dcgan import DCGAN
from devilgan_lite.generators.opponents import picture_layers
from devilgan_lite.prior import Prior

LOWEST, HIGHEST = -12.0, 6.0  # of a log variance: far outside what training needs, so that no first step overflows
LEAST = 1e-2  # scale of a pixel: a flat picture drawn exactly would have an infinite density
PIXELS = ("gaussian", "cauchy")
ROUNDS = 4  # of the search for the best scale of a Cauchy


@register
class VAE(DCGAN):
    """The decoder ``z`` ``[n, latent_dim]`` -> images ``[n, C, H, W]``; ``opponent`` is the encoder.

    A pixel has a ``"cauchy"`` or ``"gaussian"`` density about what the decoder draws. ``scale``, above 0, is its
    standard deviation or the Cauchy's scale; None takes the best for each batch, as in the optimal sigma-VAE (Rybkin et
    al. 2021). ``beta``, 0 or more, weighs the KL term (Higgins et al. 2017; 1: the bound itself), and ``prior_match``,
    0 or more, how far the codes of a batch are, in mean and covariance, from the prior (0: not at all; a cheap relative
    of what InfoVAE and the Wasserstein autoencoder add). For the rest see ``DCGAN``; the prior must be Gaussian.
    """

    def __init__(
        self,
        *,
        latent_dim: int = 20,
        widths: tuple[int, ...] = (64, 32),
        strides: tuple[int, ...] = (2, 2),
        kernel_size: int = 4,
        negative_slope: float = 0.0,
        image_channels: int = 1,
        image_size: int = 28,
        prior: str | Prior = "gaussian",
        pixels: str = "cauchy",
        scale: float | None = None,
        beta: float = 1.0,
        prior_match: float = 0.02,
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
        one_of("pixels", pixels, PIXELS)
        in_range("beta", beta, 0.0, 1e6)
        in_range("prior_match", prior_match, 0.0, 1e6)
        if scale is not None:
            in_range("scale", scale, 0.0, 1e3, open_low=True)
        self.pixels, self.scale, self.beta, self.prior_match = pixels, scale, beta, prior_match

    def losses(self, opponent: nn.Module, real: Tensor, z: Tensor, random: torch.Generator) -> dict[str, Tensor]:
        """Minus the two parts of the bound, in nats a pixel: ``reconstruction_loss`` and ``kl_loss``.

        ``z`` is the noise of the reparameterisation: the latent of a picture is ``mean + deviation * z``. With a
        ``prior_match`` there is ``prior_match_loss``, too.
        """
        mean, log_variance = opponent(real)
        code = mean + (log_variance / 2).exp() * z
        divergence = (mean.square() + log_variance.exp() - log_variance - 1).sum(1).mean() / 2
        losses = {
            "reconstruction_loss": self._reconstruction((self(code) - real).square()),
            "kl_loss": self.beta * divergence / real[0].numel(),
        }
        if self.prior_match:
            losses["prior_match_loss"] = self.prior_match * prior_distance(code)
        return losses

    def _reconstruction(self, squares: Tensor) -> Tensor:
        """Minus the mean log density of pixels with these squared errors."""
        if self.pixels == "gaussian":
            error = squares.mean()
            variance = error.clamp(min=LEAST**2) if self.scale is None else error.new_tensor(self.scale**2)
            return (error / variance + variance.log() + math.log(2 * math.pi)) / 2
        scale = best_cauchy_scale(squares.detach()) if self.scale is None else squares.new_tensor(self.scale)
        return (1 + squares / scale.square()).log().mean() + scale.log() + math.log(math.pi)

    def opponent(self, seed: int = 0) -> nn.Module:
        return seeded(seed, Encoder, self.sample_shape, self.latent_dim)

    def recipe(self) -> Recipe:
        return Recipe(betas=(0.9, 0.999))


class Encoder(nn.Module):
    """Two strided convolutions and a dense layer: images ``[n, C, H, W]`` to a Gaussian over latents.

    The answer is its mean ``[n, latent_dim]`` and its log variance ``[n, latent_dim]``, one for each coordinate.
    """

    def __init__(self, sample_shape: tuple[int, ...], latent_dim: int, *, width: int = 32) -> None:
        super().__init__()
        self.layers = picture_layers(sample_shape, width, 2 * latent_dim)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self.layers(x).chunk(2, dim=1)
        return mean, log_variance.clamp(LOWEST, HIGHEST)


def best_cauchy_scale(squares: Tensor) -> Tensor:
    """About the scale under which errors with these ``squares`` are likeliest: some rounds of reweighting."""
    square = squares.sqrt().mean().square() / 9
    for _ in range(ROUNDS):
        weights = 1 / (squares + square.clamp(min=LEAST**2))
        square = (weights * squares).mean() / weights.mean()
    return square.clamp(min=LEAST**2).sqrt()


def prior_distance(codes: Tensor) -> Tensor:
    """Squared distance of the mean and covariance of ``codes`` ``[n, d]`` from those of N(0, I)."""
    mean = codes.mean(0)
    centred = codes - mean
    covariance = centred.T @ centred / max(1, len(codes) - 1)
    return mean.square().sum() + (covariance - torch.eye(len(mean)).to(codes)).square().sum()
