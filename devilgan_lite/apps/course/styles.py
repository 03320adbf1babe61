"""What notebook 09 measures of a style-based generator: whom a mixture of styles resembles, and which units sleep."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.generators import StyleGAN, evaluate

INK = 0.8  # a pixel with a colour below this, in [-1, 1], is not the white of the paper


def mixing_shares(generator: StyleGAN, z: Tensor, k: int) -> tuple[float, float]:
    """How often a mixture is nearer to face A than to face B, in outline and in mean colour; both in [0, 1].

    The first half of the latents ``z`` ``[2n, d]`` are faces A and the other half faces B. The first ``k`` style inputs
    follow A, the others B.
    """
    if len(z) < 2 or len(z) % 2:
        raise ValueError(f"z has {len(z)} latents; expected an even number of them, the faces A and then the faces B.")
    a, b = z.chunk(2)
    with torch.no_grad():
        mixed = generator.mixed(a, b, k).cpu()
    ours, theirs = (_distances(mixed, evaluate(generator, face)) for face in (a, b))
    outline, colour = (float((near < far).float().mean()) for near, far in zip(ours, theirs, strict=True))
    return outline, colour


def _distances(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """How far pictures ``[n, C, H, W]`` are from a reference in what is not white, and in its mean colour."""
    ink, other = ((pictures.min(1, keepdim=True).values < INK).float() for pictures in (x, reference))
    mean, wanted = ((p * m).sum((2, 3)) / m.sum((2, 3)).clamp(min=1) for p, m in ((x, ink), (reference, other)))
    return (ink - other).abs().mean((1, 2, 3)), (mean - wanted).square().mean(1)


def silent_rows(generator: StyleGAN, z: Tensor) -> Tensor:
    """Rows ``[k, d]`` of the first mapping layer whose unit no latent of ``z`` ``[n, d]`` wakes."""
    first: Any = generator.mapping_layers[0]
    with torch.no_grad():
        awake = (first(normalize(z, dim=1) * generator.latent_dim**0.5) > 0).any(0)
    rows: Tensor = first.weight.detach()[~awake]
    return rows
