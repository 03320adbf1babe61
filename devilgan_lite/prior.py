"""``Prior``: the distribution P_sample from which a generator's latents are drawn, as one object.

Gaussian N(0, I), or uniform on the cube [-1, 1]^d. It draws latents and gives their typical length, their log density
and how far out they are, so that no other file needs to know which of the two it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.checks import latent_size, one_of

PRIORS = ("gaussian", "uniform")
VARIANCE = {"gaussian": 1.0, "uniform": 1 / 3}  # of one coordinate
LENGTH_SPREAD = {"gaussian": 0.5**0.5, "uniform": 15**-0.5}  # standard deviation of a latent's length


@dataclass(frozen=True)
class Prior:
    """P_sample over latents ``[n, dim]``; ``name`` is ``"gaussian"`` or ``"uniform"``, ``dim`` 1 to 65,536."""

    name: str
    dim: int

    def __post_init__(self) -> None:
        one_of("prior", self.name, PRIORS)
        latent_size(self.dim)

    @classmethod
    def gaussian(cls, dim: int) -> Self:
        """N(0, I)."""
        return cls("gaussian", dim)

    @classmethod
    def uniform(cls, dim: int) -> Self:
        """Uniform on the cube [-1, 1]^dim."""
        return cls("uniform", dim)

    @classmethod
    def of(cls, prior: str | Prior, dim: int) -> Prior:
        """``prior`` as an object: a name, or a ``Prior`` that must have ``dim`` dimensions."""
        if not isinstance(prior, Prior):
            return cls(prior, dim)
        if prior.dim != dim:
            raise ValueError(f"prior has {prior.dim} dimensions; latent_dim={dim}: they must be equal.")
        return prior

    @property
    def variance(self) -> float:
        """The variance of one coordinate: 1, or 1/3."""
        return VARIANCE[self.name]

    @property
    def length(self) -> float:
        """The root mean square length of a latent."""
        return (self.dim * self.variance) ** 0.5

    def draw(self, n: int, random: torch.Generator | None = None, device: torch.device | str = "cpu") -> Tensor:
        """``n`` latents float32 ``[n, dim]`` on ``device``, drawn where ``random`` lives (None: torch's global one)."""
        where = device if random is None else random.device
        if self.name == "gaussian":
            return torch.randn((n, self.dim), generator=random, device=where).to(device)
        return (torch.rand((n, self.dim), generator=random, device=where) * 2 - 1).to(device)

    def log_density(self, z: Tensor) -> Tensor:
        """The log density ``[n]`` at latents ``[n, dim]``; minus infinity outside the cube of a uniform prior."""
        if self.name == "gaussian":
            return -0.5 * (z.square().sum(1) + self.dim * math.log(2 * math.pi))
        inside = (z.abs() <= 1).all(1)
        return torch.where(inside, -self.dim * math.log(2.0), -math.inf)

    def far_out(self, z: Tensor) -> Tensor:
        """How far the length of each latent is from the typical one, in standard deviations ``[n]``.

        Infinite outside the cube of a uniform prior. Ordinary latents stay below 4.
        """
        spread = (z.norm(dim=1) - self.length).abs() / LENGTH_SPREAD[self.name]
        return spread if self.name == "gaussian" else spread.masked_fill((z.abs() > 1).any(1), math.inf)

    def typical(self, z: Tensor, deviations: float = 3.0) -> Tensor:
        """Latents ``[n, dim]`` moved to an ordinary place: a length within some deviations, or into the cube."""
        if self.name == "uniform":
            return z.clamp(-1, 1)
        spread, length = deviations * LENGTH_SPREAD["gaussian"], z.norm(dim=1, keepdim=True)
        return normalize(z, dim=1) * length.clamp(max(0.0, self.length - spread), self.length + spread)
