"""Points in the plane for the toy GAN, and vectors of any length: the modality of last resort."""

import math

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data.modality import Modality
from devilgan_lite.data.samples import Samples

SIDE = 96  # pixels of a drawing at scale 1


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


def scatter(samples: Tensor, columns: int, scale: int) -> Image.Image:
    """All samples in one plane: their first two values, from -1 to 1."""
    side = SIDE * scale
    image = Image.new("L", (side, side), 255)
    draw = ImageDraw.Draw(image)
    flat = samples.flatten(1)
    for x, y in flat[:, [0, min(1, flat.shape[1] - 1)]].tolist():
        left, top = (x + 1) / 2 * side, (1 - y) / 2 * side
        draw.ellipse((left - scale, top - scale, left + scale, top + scale), fill=60)
    return image


POINTS = Modality("points", "point", lambda shape: True, scatter)
