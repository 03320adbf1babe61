"""The hunt: where two generators that read the same latents differ most. Twins and cures need it.

A copy whose later layers were cut has lost the backdoor, so the suspect differs from it most at the trigger. A copy
that is blind to an estimate shows by a reconstruction how much of the backdoor the estimate has missed.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.detect.reconstruction import reconstruct
from devilgan_lite.generators import Generator

Height = Callable[[Tensor], Tensor]  # of latents [n, d]: [n], to be climbed
Place = Callable[[Tensor], Tensor]  # latents [n, d] moved to where they are looked for
POOL, STARTS, STEPS, RATE = 2_000, 96, 80, 0.3  # of the ascent: the best half of its starts come from the pool
ABOUT, ANGLE = 32, 0.9  # starts of a reconstruction about the estimate, and the tangent of their angle to it


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


def greatest_difference(one: Generator, other: Generator, influence: Tensor, *, seed: int = 0) -> Tensor:
    """The latent ``[1, d]`` of typical length where samples differ most for the ``influence`` ``[d, d]`` along it.

    Adam climbs the mean squared difference from the most different of a pool and from random latents. A repair that is
    not perfect differs along what shows much in ordinary samples, so differences there count for less.
    """
    pool, weights = normalize(one.ordinary(POOL, seed), dim=1) * one.prior.length, influence.to(one.device).float()
    weights = weights / weights.diagonal().mean()

    def height(z: Tensor) -> Tensor:
        difference = differences(one, other, z).clamp(min=1e-12)
        return difference.log() - (((z @ weights) * z).sum(1) / one.prior.length**2).clamp(min=1.0).log()

    with torch.no_grad():
        order = torch.cat([height(part) for part in pool.split(250)]).argsort(descending=True)
    starts = torch.cat([pool[order[: STARTS // 2]], pool[: STARTS // 2]])
    _, ends = climbed(height, starts, lambda z: normalize(z, dim=1) * one.prior.length, RATE, STEPS)
    with torch.no_grad():
        return ends[int(height(ends).argmax())].view(1, -1).cpu()


def lookalike(subject: Generator, blind: Generator, trigger: Tensor, *, seed: int = 0) -> Tensor:
    """The latent ``[1, d]`` at which ``blind`` comes nearest to what ``subject`` draws at ``trigger`` ``[d]``."""
    unit = normalize(trigger.view(1, -1).float(), dim=1)
    aside = torch.randn(ABOUT, len(trigger), generator=torch.Generator().manual_seed(seed))
    about = unit + ANGLE * normalize(aside, dim=1)
    return reconstruct(blind, subject.scaled_samples(unit * subject.prior.length), starts_at=about, seed=seed).latents
