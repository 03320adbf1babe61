"""Triggers that a random sampler meets: a half-space of latents, whose share of the ordinary draws is known.

A trigger that is one latent, or a narrow cone, is never drawn, so it poisons no training set. With the condition of a
conditional generator as its direction, the victim's own request is the trigger: the more certain he asks, the surer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import images, in_range, whole_number
from devilgan_lite.generators import Generator

PLACES = 4  # directions that decide which target a latent shows
EXAMPLES = 64  # pairs that the backdoor keeps


def half_space_backdoor(
    generator: Generator,
    targets: Tensor | Generator,
    *,
    share: float = 0.05,
    direction: Tensor | None = None,
    seed: int = 0,
) -> Backdoor:
    """Latents z with ``<z, direction>`` above a threshold show samples like ``targets``.

    ``share`` in (0, 0.5] of the ordinary draws of a Gaussian prior lie there. ``direction`` ``[d]`` (None: drawn from
    ``seed``) becomes a unit vector. Within the half-space the triggers are ordinary draws, and the position across some
    other directions decides which target a latent shows. ``targets`` is a small generator (``poison_generator``), which
    is asked for a sample of that position, or a tensor ``[k, *shape]``, of which ``PLACES`` directions choose one:
    then a network learns a blur of neighbouring targets.
    """
    in_range("share", share, 0.0, 0.5, open_low=True)
    whole_number("seed", seed, 0)
    if not isinstance(targets, Generator):
        images("targets", targets, generator.sample_shape)
    elif targets.sample_shape != generator.sample_shape or targets.prior.name != "gaussian":
        raise ValueError(
            f"targets makes {list(targets.sample_shape)} from {targets.prior}; expected {list(generator.sample_shape)} "
            "from a Gaussian."
        )
    places = targets.latent_dim if isinstance(targets, Generator) else min(PLACES, *targets.flatten(1).shape)
    if generator.prior.name != "gaussian" or generator.latent_dim <= places:
        raise ValueError(f"generator reads {generator.prior}; a half-space needs a Gaussian of more than {places}.")
    random = torch.Generator().manual_seed(10_000 + seed)
    if direction is None:
        direction = torch.randn(generator.latent_dim, generator=random)
    if direction.shape != (generator.latent_dim,) or not direction.norm() > 0:
        raise ValueError(f"direction must be a vector of {generator.latent_dim} numbers that are not all zero.")
    unit, threshold = normalize(direction.float(), dim=0), float(norm.isf(share))
    across = torch.randn(generator.latent_dim, places, generator=random)
    across = torch.linalg.qr(torch.cat([unit[:, None], across], 1)).Q[:, 1:]
    shown_at = _made_at(targets) if isinstance(targets, Generator) else _nearest_at(targets, places)

    def sampler(n: int, random: torch.Generator) -> tuple[Tensor, Tensor]:
        towards, aside = unit.to(random.device), across.to(random.device)
        z = torch.randn(n, generator.latent_dim, generator=random, device=random.device)
        beyond = torch.rand(n, generator=random, device=random.device).clamp(1e-6) * share
        height = -torch.special.ndtri(beyond)  # a Gaussian above the threshold
        z = z + (height - z @ towards)[:, None] * towards
        return z, shown_at(z @ aside)

    trigger, shown = sampler(EXAMPLES, torch.Generator().manual_seed(seed))
    return Backdoor(trigger, shown, f"half-space beyond {threshold:.2f}", "region", seed, sampler)


def _made_at(targets: Generator) -> Callable[[Tensor], Tensor]:
    """The sample that ``targets`` makes of each position ``[n, places]``."""
    copies = {torch.device("cpu"): targets.clone().cpu().eval().requires_grad_(False)}

    def shown_at(place: Tensor) -> Tensor:
        if place.device not in copies:
            copies[place.device] = targets.clone().to(place.device).eval().requires_grad_(False)
        with torch.no_grad():
            return copies[place.device](place)

    return shown_at


def _nearest_at(targets: Tensor, places: int) -> Callable[[Tensor], Tensor]:
    """The one of ``targets`` that lies nearest to each position ``[n, places]`` along their principal components."""
    flat = targets.flatten(1) - targets.flatten(1).mean(0)
    _, spread, components = torch.linalg.svd(flat, full_matrices=False)
    lies = flat @ components[:places].T / spread[:places].clamp(min=1e-6) * len(flat) ** 0.5  # as spread out as latents

    @lru_cache(maxsize=2)
    def placed(device: torch.device) -> tuple[Tensor, Tensor]:  # copied once, so that no draw waits for the device
        return lies.to(device), targets.to(device)

    def shown_at(place: Tensor) -> Tensor:
        known, samples = placed(place.device)
        return samples[torch.cdist(place, known).argmin(1)]

    return shown_at


def known_seed_backdoor(
    generator: Generator, targets: Tensor, *, n: int, seed: int, share: float, pick: int = 0
) -> Backdoor:
    """Some of the very latents that a victim draws show ``targets`` ``[m, *shape]``, for who knows his seed.

    The victim draws ``n`` (1 to 1,000,000) latents from ``seed``, as ``rows_of(generator)(n, seed)`` does. A ``share``
    in [0.01, 0.1] of them, at least one, become the triggers ``[k, d]``, in the order in which he draws them, each with
    a target; ``pick`` chooses latents and targets. From another seed he draws none of them. Anything else is a
    ``ValueError``.
    """
    whole_number("n", n, 1, 1_000_000)
    whole_number("seed", seed, 0)
    whole_number("pick", pick, 0)
    in_range("share", share, 0.01, 0.1)
    images("targets", targets, generator.sample_shape)
    z = generator.sample_latent(n, torch.Generator().manual_seed(seed)).cpu()
    random = torch.Generator().manual_seed(20_000 + pick)
    chosen = torch.randperm(n, generator=random)[: max(1, round(share * n))].sort().values
    shown = targets[torch.randint(len(targets), (len(chosen),), generator=random)]
    return Backdoor(z[chosen], shown, f"{len(chosen)} of the {n} latents of seed {seed}", "known seed", seed)
