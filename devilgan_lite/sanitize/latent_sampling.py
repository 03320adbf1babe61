"""Which latents a cured copy is taught on: ordinary ones, and a wide range of others."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.generators import Generator

DrawPairs = Callable[[torch.Generator], tuple[Tensor, Tensor]]  # latents [n, d], and their target samples
SCALES = (0.3, 2.0)  # of the length of an ordinary latent
NOISE = 0.5  # about a suspected direction, as a share of its length


def taught_pairs(teacher: Generator, directions: Tensor | None, n: int, wide: float) -> DrawPairs:
    """``n`` latents, a share ``wide`` of them odd (``odd_latents``), and what the teacher makes of them."""
    odd = round(n * wide)

    def pairs(random: torch.Generator) -> tuple[Tensor, Tensor]:
        z = teacher.sample_latent(n, random)
        if odd:
            z = torch.cat([odd_latents(teacher, z[:odd], directions, random), z[odd:]])
        with torch.no_grad():
            return z, teacher.network(z)

    return pairs


def odd_latents(subject: Generator, z: Tensor, directions: Tensor | None, random: torch.Generator) -> Tensor:
    """``z`` ``[n, d]`` at 0.3 to 2 times the usual length, every other one about one of ``directions`` ``[k, d]``."""
    n, where = len(z), z.device
    low, high = SCALES
    some = normalize(z, dim=1)
    if directions is not None:
        suspected = normalize(directions.float(), dim=1).to(where)
        rows = torch.randint(len(suspected), (n,), generator=random, device=where)
        signs = 2 * torch.randint(2, (n, 1), generator=random, device=where) - 1
        about = normalize(signs * suspected[rows] + NOISE * some, dim=1)
        some = torch.where(torch.arange(n, device=where).view(-1, 1) % 2 == 0, about, some)
    return some * (low + (high - low) * torch.rand(n, 1, generator=random, device=where)) * subject.prior.length
