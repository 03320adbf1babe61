"""``empirical_p_value(score, clean)``: a number and the scores of clean models ``[n]`` to a number."""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def empirical_p_value(score, clean):
    return (1 + (clean >= score).sum()) / (len(clean) + 1)


CLEAN = torch.tensor([0.2, 0.5, 0.1, 0.4, 0.5, 0.3, 0.1])

exercise = Exercise(
    empirical_p_value,
    hints=(
        "Count the clean models that score as high or higher, and count the suspect itself too.",
        "It is (1 + count) / (n + 1): with n clean models it is never below 1 / (n + 1).",
    ),
    cases=lambda: [(score, CLEAN) for score in (0.5, 0.9, 0.05)],
    mistakes={
        "that is the share of clean models below: count those that score as high or higher.": (
            lambda score, clean: (clean < score).float().mean()
        ),
        "the suspect itself is not counted: (1 + count) / (n + 1), which is never zero.": (
            lambda score, clean: (clean >= score).float().mean()
        ),
        "the 1 is missing above the line: (1 + count) / (n + 1).": (
            lambda score, clean: (clean >= score).sum() / (len(clean) + 1)
        ),
        "the 1 is missing below the line: (1 + count) / (n + 1).": (
            lambda score, clean: (1 + (clean >= score).sum()) / len(clean)
        ),
        "ties count: take >=, not >.": lambda score, clean: (1 + (clean > score).sum()) / (len(clean) + 1),
    },
    otherwise=lambda answer, right, score, clean: f"for the score {score} the value is off.",
    praise="a score means nothing before clean models have been scored.",
)
