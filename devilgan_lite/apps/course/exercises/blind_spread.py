"""``blind_spread(guilty, clean)``: two numbers of models to the standard deviation of a blind guess's AUC."""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def spread_of_a_blind_guess(m, n):
    return ((m + n + 1) / (12 * m * n)).sqrt()


exercise = Exercise(
    spread_of_a_blind_guess,
    hints=("Write the formula as it stands; sqrt comes last.", "((m + n + 1) / (12 * m * n)) ** 0.5"),
    cases=lambda: [tuple(torch.tensor([guilty, clean])) for guilty, clean in ((6.0, 6.0), (3.0, 9.0), (100.0, 100.0))],
    mistakes={
        "that is the variance: take the root.": lambda m, n: (m + n + 1) / (12 * m * n),
        "the 1 is missing: it is m + n + 1 above the line.": lambda m, n: ((m + n) / (12 * m * n)).sqrt(),
        "the 12 is missing: ranks are spread evenly, and an even spread has variance 1/12.": (
            lambda m, n: ((m + n + 1) / (m * n)).sqrt()
        ),
        "below the line stands the number of pairs, m * n, and not m + n.": (
            lambda m, n: ((m + n + 1) / (12 * (m + n))).sqrt()
        ),
        "that is 1 / sqrt(m + n): the number of pairs counts, and how even the two groups are.": (
            lambda m, n: (m + n) ** -0.5
        ),
        "that is the upside-down fraction.": lambda m, n: (12 * m * n / (m + n + 1)).sqrt(),
    },
    otherwise=lambda answer, right, m, n: f"for {m:.0f} guilty and {n:.0f} clean models it is {right:.4f}.",
    praise="with six of each, a blind guess has an AUC above 0.66 once in six times.",
)
