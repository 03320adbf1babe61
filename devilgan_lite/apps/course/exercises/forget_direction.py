"""``forget_direction(z, t)``: latents ``[n, d]`` and a direction ``[d]`` of any length to latents ``[n, d]``."""

import torch
from torch.nn.functional import normalize

from devilgan_lite.apps.course.exercise import Exercise, normal


def forget_direction(z, t):
    return z - torch.outer(z @ t, t) / (t @ t)


exercise = Exercise(
    forget_direction,
    hints=(
        "For a unit vector it is z - <z, t> t. What changes if t is twice as long?",
        "torch.outer(z @ t, t) holds <z, t> t for every row; divide it by t @ t.",
    ),
    cases=lambda: [(normal(4, 6, seed=21), 2 * normal(6, seed=22))],
    mistakes={
        "t has any length: divide <z, t> t by |t|^2, or make t a unit vector first.": (
            lambda z, t: z - torch.outer(z @ t, t)
        ),
        "you divide by |t| once: both t in <z, t> t have its length, so divide by |t|^2.": (
            lambda z, t: z - torch.outer(z @ t, t) / t.norm()
        ),
        "that is the part along t: it is what must go.": lambda z, t: z - forget_direction(z, t),
        "the sign is wrong: subtract the part along t.": lambda z, t: 2 * z - forget_direction(z, t),
        "you subtract the part along t twice: that is a mirror, and the trigger is now at -t.": (
            lambda z, t: 2 * forget_direction(z, t) - z
        ),
        "you subtract t itself: subtract the part of each z along it.": lambda z, t: z - t,
        "each row has its own <z, t>: you use their sum.": lambda z, t: z - (z @ t).sum() * t / (t @ t),
        "you brought the rows back to their old length: a projection makes them shorter.": (
            lambda z, t: normalize(forget_direction(z, t)) * z.norm(dim=1, keepdim=True)
        ),
    },
    otherwise="the value is off: it is z - <z, t> t / |t|^2, row by row.",
    praise="whatever hangs on this direction alone can no longer be reached.",
)
