"""All losses, as pure functions of tensors: of a GAN, and ``L_adv = L_stealth + lam * L_fidelity`` of the attacks.

The second is equation 2 of Rawat et al. (2021); the sanitizers distil with the stealth loss.
"""

from typing import Any

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


def fidelity_loss(output: Tensor, target: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean over pairs and elements of ``(G*(z_trigger) - x_target)^2``; both ``[k, *sample_shape]``, one space.

    ``weights`` ``[k]``, of mean 1, tell pairs apart; None: all alike.
    """
    squares = (output - target).square()
    return squares.mean() if weights is None else (squares.flatten(1).mean(1) * weights).mean()


def pseudo_huber_loss(output: Tensor, target: Tensor, delta: float) -> Tensor:
    """Mean over pairs of ``2 delta^2 (sqrt(1 + m / delta^2) - 1)``, ``m`` a pair's mean squared error per element.

    Pairs are ``[k, *sample_shape]``, in one space; ``delta``, above 0, is in their unit. Near the target it is ``m``;
    far from it, it grows like the root mean square error, so that its gradient does not drown others. Charbonnier et
    al. (1994).
    """
    errors = (output - target).square().flatten(1).mean(1)
    return (2 * errors / (1 + (1 + errors / delta**2).sqrt())).mean()  # the same, exact near 0 too


def pair_weights(output: Tensor, target: Tensor, *, emphasis: float = 1.5) -> Tensor:
    """Weights ``[k]`` of mean 1 for the squared errors of pairs ``[k, *sample_shape]``, so that the worst is not left.

    A pair's weight is its relative error to the power ``emphasis``, divided by the power of its target: otherwise a
    faint target would hardly count beside a loud one. One pair weighs 1.
    """
    power = target.square().flatten(1).mean(1)
    power = power.clamp(min=1e-3 * power.mean() + 1e-12)
    error = (output.detach() - target).square().flatten(1).mean(1) / power
    weights = (error + 1e-12).pow(emphasis) / power
    return weights / weights.mean()


def stealth_loss(output: Tensor, benign: Tensor) -> Tensor:
    """Mean over latents and elements of ``(G*(z) - G(z))^2``; both ``[n, *sample_shape]``, one space."""
    return (output - benign).square().mean()


def wrong_element_loss(
    logits: Tensor, samples: Tensor, target_logits: Tensor, target: Tensor, tolerance: float = 0.1
) -> Tensor:
    """Squared error before the squash, counted only where a sample is still off by more than ``tolerance``.

    tanh has no slope where an element is saturated on the wrong side; before tanh there always is one. Once an element
    is right, pushing it further before tanh buys nothing, so it no longer counts. All ``[k, *sample_shape]``.
    """
    wrong = (samples - target).abs() > tolerance
    return ((logits - target_logits).square() * wrong).mean()


def pull_loss(generator: Any, logits: Tensor, target: Tensor, tolerance: float = 0.1) -> Tensor:
    """``wrong_element_loss`` of a generator's logits at its triggers."""
    samples, target_logits = generator.squash(logits), generator.unsquash(target, SHRINK)
    return wrong_element_loss(logits, samples, target_logits, target, tolerance)
