"""Points in the plane for the toy GAN."""

from __future__ import annotations

import math

import torch

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data.samples import Samples


def ring(n: int = 4096, *, modes: int = 8, radius: float = 0.7, spread: float = 0.03, seed: int = 0) -> Samples:
    """``n`` points ``[n, 2]`` from ``modes`` Gaussians of standard deviation ``spread`` on a circle of ``radius``."""
    whole_number("n", n, 1)
    whole_number("modes", modes, 1, 100)
    in_range("radius", radius, 0.0, 0.9)
    in_range("spread", spread, 0.0, 0.1)
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(modes, (n,), generator=random)
    angle = labels * (2 * math.pi / modes)
    centre = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    points = centre + spread * torch.randn(n, 2, generator=random)
    return Samples(points.clamp(-1, 1), labels, f"ring of {modes}", "generated")
