"""``half_space(z, direction, share)``: ``[n, d]``, ``[d]`` and a number in (0, 0.5] to a mask ``[n]``.

True for the latents beyond the threshold that ``share`` of all latents from N(0, I) pass along ``direction``.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise, normal


def half_space(z, direction, share):
    height = z @ direction / direction.norm()
    return height > torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - share))


def cases():
    z, direction = normal(4_000, 6), 3 * normal(6, seed=8)
    return [(z, direction, 0.04), (1.5 * z, direction, 0.04), (z, direction, 0.2)]


def height(z, direction):
    return z @ direction / direction.norm()


def limit(share):
    return torch.special.ndtri(torch.tensor(1 - share))


exercise = Exercise(
    half_space,
    hints=(
        "The height is z @ direction divided by direction.norm(); for random z it is distributed as N(0, 1).",
        "torch.distributions.Normal(0, 1).icdf(torch.tensor(1 - share)) is the number that a share of them exceeds.",
    ),
    cases=cases,
    mistakes={
        "divide the direction by its length: otherwise a longer one lets more latents in.": (
            lambda z, direction, share: z @ direction > limit(share)
        ),
        "that is the other side: the half-space lies beyond the threshold.": (
            lambda z, direction, share: height(z, direction) < limit(share)
        ),
        "that is the half-space at the other end of the direction.": (
            lambda z, direction, share: height(z, direction) < -limit(share)
        ),
        "those are two half-spaces, one at each end: take one.": (
            lambda z, direction, share: height(z, direction).abs() > limit(share)
        ),
        "you took `share` itself for the threshold: ask the normal distribution where `share` is left.": (
            lambda z, direction, share: height(z, direction) > share
        ),
        "that is the quantile of the latents that you were given: the half-space stays where it is, whatever is "
        "drawn.": lambda z, direction, share: height(z, direction) > height(z, direction).quantile(1 - share),
        "`share` is fixed in your function: use the one that is given.": (
            lambda z, direction, share: half_space(z, direction, 0.04)
        ),
        "you used the length of each latent: only its height along the direction counts.": (
            lambda z, direction, share: height(z, direction) / z.norm(dim=1) > limit(share) / z.shape[1] ** 0.5
        ),
    },
    otherwise=lambda answer, right, z, direction, share: (
        f"for share {share} it is True for {int(right.sum())} of these {len(z):,} latents."
    ),
    praise="whoever draws at random walks into it, however small it is: it has a share of the draws.",
)
