"""The hunt: where two generators that read the same latents differ most. Twins, cures and a trusted base need it."""

from collections.abc import Callable

import torch
from torch import Tensor

from devilgan_lite.generators import Generator

Height = Callable[[Tensor], Tensor]  # of latents [n, d]: [n], to be climbed
Place = Callable[[Tensor], Tensor]  # latents [n, d] moved to where they are looked for


def differences(one: Generator, other: Generator, z: Tensor) -> Tensor:
    """The mean squared difference ``[n]`` of two samples, both in [-1, 1], of each latent ``[n, d]``."""
    return (one.scaled(z) - other.scaled(z)).square().flatten(1).mean(1)


def climbed(height: Height, z: Tensor, place: Place, rate: float, steps: int) -> tuple[Tensor, Tensor]:
    """The best latents ``[n, d]`` that ascents of ``steps`` from ``z`` came by, and where they ended ``[n, d]``.

    Adam climbs at a ``rate`` that falls to 0 in a straight line; ``place`` keeps latents where they belong.
    """
    best, most = z.clone(), torch.full((len(z),), -torch.inf, device=z.device)
    z = z.clone().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=rate)
    for step in range(steps + 1):
        adam.param_groups[0]["lr"] = rate * (1 - step / steps)
        with torch.enable_grad():
            reached = height(z)
            adam.zero_grad()
            (-reached.sum()).backward()
        better = reached.detach() > most
        best[better], most[better] = z.detach()[better], reached.detach()[better]
        adam.step()
        z.data = place(z.data)
    return best, z.detach()
