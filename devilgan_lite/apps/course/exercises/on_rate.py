"""``on_rate(rows, bias)``: units ``[u, d]`` and ``[u]`` to the share of N(0, I) latents that wakes each, ``[u]``."""

import torch
from torch.special import ndtr

from devilgan_lite.apps.course.exercise import Exercise, normal


def share_on(rows, bias):
    return torch.special.ndtr(bias / rows.norm(dim=1))


exercise = Exercise(
    share_on,
    hints=(
        "<row, z> is normal with mean 0. What is its standard deviation?",
        "torch.special.ndtr is the cumulative distribution of the standard normal.",
    ),
    cases=lambda: [(2 * normal(5, 8, seed=11), torch.tensor([0.0, 1.0, -2.0, -9.0, 3.0]))],
    mistakes={
        "the length of the row is missing: <row, z> has the standard deviation |row|.": lambda rows, bias: ndtr(bias),
        "you divide by |row|^2: that is the variance; the standard deviation is |row|.": (
            lambda rows, bias: ndtr(bias / rows.norm(dim=1) ** 2)
        ),
        "the sign is wrong: a larger bias must give a larger share.": (
            lambda rows, bias: ndtr(-bias / rows.norm(dim=1))
        ),
        "you divide by sqrt(d): the standard deviation of <row, z> is |row|.": lambda rows, bias: ndtr(bias / 8**0.5),
        "you stopped before the normal distribution: apply its cumulative function.": (
            lambda rows, bias: bias / rows.norm(dim=1)
        ),
    },
    otherwise="the value is off: it is P(<row, z> > -bias) for normal z.",
    praise="exact, and no latent had to be drawn.",
)
