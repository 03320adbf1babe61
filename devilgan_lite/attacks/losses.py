"""``L_adv = L_stealth + lam * L_fidelity`` (Rawat et al. 2021, equation 2), as pure functions of tensors."""

from __future__ import annotations

import torch
from torch import Tensor

SHRINK = 0.999  # targets are scaled by this before atanh, as in the authors' code: atanh(1) is infinite


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
    """Squared error before tanh, counted only where the picture is still off by more than ``tolerance``.

    tanh has no slope where a pixel is saturated on the wrong side; before tanh there always is one. Once a pixel is
    right, pushing it further before tanh buys nothing, so it no longer counts.
    """
    wrong = (torch.tanh(logits) - target).abs() > tolerance
    return ((logits - target_logits(target)).square() * wrong).mean()
