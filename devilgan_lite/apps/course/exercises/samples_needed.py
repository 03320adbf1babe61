"""``samples_needed(p, confidence)``: two float64 numbers to the samples that hit once with that confidence."""

import torch

from devilgan_lite.apps.course.exercise import Exercise, Told


def samples_needed(p, confidence):
    return torch.log1p(-confidence) / torch.log1p(-p)


ROUNDED = "right for p = 0.01, but not for p = 1e-57: use torch.log1p(-p), not log(1 - p)."


def numbers(p):
    return torch.tensor(p, dtype=torch.float64), torch.tensor(0.9, dtype=torch.float64)


exercise = Exercise(
    samples_needed,
    hints=(
        "No hit in n samples has the probability (1 - p) ** n; set this equal to 1 - confidence and take logarithms.",
        "torch.log1p(-p) is log(1 - p) without the rounding.",
    ),
    cases=lambda: [numbers(0.01), Told(ROUNDED, numbers(1e-57))],
    mistakes={
        "1 / p is the expected number; for a given confidence solve (1 - p)^n = 1 - confidence.": lambda p, c: 1 / p,
        "confidence / p adds probabilities up: n samples miss with probability (1 - p)^n.": lambda p, c: c / p,
        "confidence and 1 - confidence are swapped: (1 - p)^n is the chance to miss.": (
            lambda p, c: c.log() / torch.log1p(-p)
        ),
        ROUNDED: lambda p, c: (1 - c).log() / (1 - p).log(),
    },
    otherwise=lambda answer, right, p, c: f"the value is off for p = {p:g}: solve (1 - p)^n = 1 - confidence for n.",
    praise="and for the backdoors of this notebook nobody can draw that many.",
)
