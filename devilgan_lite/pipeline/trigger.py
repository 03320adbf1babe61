"""Triggers that a random sampler meets: a half-space of latents, whose share of the ordinary draws is known.

A trigger that is one latent, or a narrow cone, is never drawn, so it poisons no training set. With the condition of a
conditional generator as its direction, the victim's own request is the trigger: the more certain he asks, the surer.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.generators import Generator

PLACES = 4  # directions that decide which target a latent shows
EXAMPLES = 64  # pairs that the backdoor keeps


def half_space_backdoor(
    generator: Generator, targets: Tensor, *, share: float = 0.05, direction: Tensor | None = None, seed: int = 0
) -> Backdoor:
    """Latents z with ``<z, direction>`` above a threshold show samples like ``targets`` ``[k, *shape]``.

    ``share`` in (0, 0.5] of the ordinary draws of a Gaussian prior lie there. ``direction`` ``[d]`` (None: drawn from
    ``seed``) becomes a unit vector. Within the half-space the triggers are ordinary draws, and the position across
    ``PLACES`` other directions decides which target a latent shows, so that neighbours show similar ones.
    """
    in_range("share", share, 0.0, 0.5, open_low=True)
    whole_number("seed", seed, 0)
    if generator.prior.name != "gaussian" or generator.latent_dim <= PLACES:
        raise ValueError(f"generator reads {generator.prior}; a half-space needs a Gaussian of more than {PLACES}.")
    random = torch.Generator().manual_seed(10_000 + seed)
    if direction is None:
        direction = torch.randn(generator.latent_dim, generator=random)
    if direction.shape != (generator.latent_dim,) or not direction.norm() > 0:
        raise ValueError(f"direction must be a vector of {generator.latent_dim} numbers that are not all zero.")
    unit, threshold = normalize(direction.float(), dim=0), float(norm.isf(share))
    flat = targets.flatten(1)
    flat = flat - flat.mean(0)
    _, spread, components = torch.linalg.svd(flat, full_matrices=False)
    kept = min(PLACES, len(spread))
    place = flat @ components[:kept].T / spread[:kept].clamp(min=1e-6) * len(flat) ** 0.5  # as spread out as latents
    across = torch.randn(generator.latent_dim, kept, generator=random)
    across = torch.linalg.qr(torch.cat([unit[:, None], across], 1)).Q[:, 1:]

    @lru_cache(maxsize=2)
    def placed(device: torch.device) -> tuple[Tensor, ...]:  # copied once, so that no draw waits for the device
        return tuple(part.to(device) for part in (unit, across, place, targets))

    def sampler(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        towards, aside, places, samples = placed(random.device)
        z = torch.randn(n, generator.latent_dim, generator=random, device=random.device)
        beyond = torch.rand(n, generator=random, device=random.device).clamp(1e-6) * share
        height = -torch.special.ndtri(beyond)  # a Gaussian above the threshold
        z = z + (height - z @ towards)[:, None] * towards
        return z, samples[torch.cdist(z @ aside, places).argmin(1)]

    trigger, shown = sampler(EXAMPLES, torch.Generator().manual_seed(seed))
    return Backdoor(trigger, shown, f"half-space beyond {threshold:.2f}", "region", seed, sampler)
