"""``crowding(real, made)``: masks ``[n]`` and ``[m]``, which rows lie in a slice, to a number.

How many times its share of the real rows the slice has among the rows made; half a row is added to both counts.
"""

import numpy as np

from devilgan_lite.apps.course.exercise import Exercise


def crowding(real, made):
    return ((made.sum() + 0.5) / len(made)) / ((real.sum() + 0.5) / len(real))


def cases():
    random = np.random.default_rng(7)
    shares = ((0.02, 0.1), (0.0, 0.05), (0.3, 0.1))
    return [(random.random(900) < of_real, random.random(400) < of_made) for of_real, of_made in shares]


exercise = Exercise(
    crowding,
    hints=(
        "(made.sum() + 0.5) / len(made) is the share among the rows made.",
        "Divide that share by the one among the real rows.",
    ),
    cases=cases,
    mistakes={
        "that is the upside-down fraction: the share among the rows made comes first.": (
            lambda real, made: crowding(made, real)
        ),
        "those are counts: divide each by the number of rows of its table.": (
            lambda real, made: (made.sum() + 0.5) / (real.sum() + 0.5)
        ),
        "the half row is missing: without it an empty slice of real rows divides by zero.": (
            lambda real, made: made.mean() / max(real.mean(), 1e-12)
        ),
        "you added a whole row: add half a row to each count.": (
            lambda real, made: (made.sum() + 1) / len(made) / ((real.sum() + 1) / len(real))
        ),
        "you added the half row to one of the two counts only.": (
            lambda real, made: made.mean() / ((real.sum() + 0.5) / len(real))
        ),
        "that is the difference of the shares: take their quotient.": (
            lambda real, made: (made.sum() + 0.5) / len(made) - (real.sum() + 0.5) / len(real)
        ),
        "that is the logarithm: give the quotient itself.": lambda real, made: np.log(crowding(real, made)),
    },
    otherwise=lambda answer, right, real, made: (
        f"with {real.sum()} of {len(real)} real rows and {made.sum()} of {len(made)} made it is {right:.2f}."
    ),
    praise="a slice that is crowded deserves a look, whatever the reason is.",
)
