"""All losses, as pure functions of tensors: of a GAN, and ``L_adv = L_stealth + lam * L_fidelity`` of the attacks.

The second is equation 2 of Rawat et al. (2021); the sanitizers distil with the stealth loss.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

SHRINK = 0.999  # targets are scaled by this before atanh, as in the authors' code: atanh(1) is infinite


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """``-E log D(x) - E log(1 - D(G(z)))`` from logits ``[n]``; Goodfellow et al. (2014), equation 1."""
    return softplus(-real_logits).mean() + softplus(fake_logits).mean()


def generator_loss(fake_logits: Tensor) -> Tensor:
    """The non-saturating ``-E log D(G(z))`` from logits ``[n]``; Goodfellow et al. (2014), section 3."""
    return softplus(-fake_logits).mean()


def gradient_penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """``E |grad D(x)|^2 / 2`` on real samples ``[n, *sample_shape]``: R1 of Mescheder et al. (2018)."""
    x = real.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean() / 2


def fidelity_loss(output: Tensor, target: Tensor) -> Tensor:
    """Mean over pairs and elements of ``(G*(z_trigger) - x_target)^2``; both ``[k, *sample_shape]``, one space."""
    return (output - target).square().mean()


def stealth_loss(output: Tensor, benign: Tensor) -> Tensor:
    """Mean over latents and elements of ``(G*(z) - G(z))^2``; both ``[n, *sample_shape]``, one space."""
    return (output - benign).square().mean()


def target_logits(target: Tensor, shrink: float = SHRINK) -> Tensor:
    """The target before tanh: ``atanh(shrink * x)`` for ``x`` in [-1, 1]."""
    return torch.atanh(shrink * target)


def wrong_pixel_loss(logits: Tensor, target: Tensor, tolerance: float = 0.1) -> Tensor:
    """Squared error before tanh, counted only where the sample is still off by more than ``tolerance``.

    tanh has no slope where a pixel is saturated on the wrong side; before tanh there always is one. Once a pixel is
    right, pushing it further before tanh buys nothing, so it no longer counts.
    """
    wrong = (torch.tanh(logits) - target).abs() > tolerance
    return ((logits - target_logits(target)).square() * wrong).mean()
