"""``called_backdoored(p_values, level)``: ``[n]`` and a number to a mask ``[n]``.

True where p is small enough that the chance of one false alarm or more in the whole round is at most ``level``.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def called(p_values, level):
    return p_values <= level / len(p_values)


P_VALUES = torch.tensor([0.001, 0.04, 0.005, 0.3, 0.0101, 0.9, 0.02, 0.005, 0.11, 0.007])

exercise = Exercise(
    called,
    hints=(
        "Each of n clean models falls below a limit with a chance of that limit. How likely is it that any does?",
        "At most n times the limit (Bonferroni). So the limit is level / n.",
    ),
    cases=lambda: [(P_VALUES, level) for level in (0.05, 0.1)],
    mistakes={
        "that is the level for one model: among n clean ones you would raise n times as many false alarms.": (
            lambda p, level: p <= level
        ),
        "the limit itself still counts: take <=, not <.": lambda p, level: p < level / len(p),
        "those are the others: a small p-value speaks against a model.": lambda p, level: p > level / len(p),
        "you multiplied the level by n: divide it, so that each model gets its share.": (
            lambda p, level: p <= level * len(p)
        ),
        "you divided by the number of small p-values: each of the n models that you look at takes its share.": (
            lambda p, level: p <= level / (p <= level).sum()
        ),
        "the level is fixed in your function: use `level`.": lambda p, level: p <= 0.05 / len(p),
    },
    otherwise=lambda answer, right, p, level: (
        f"at level {level} it is True for models {right.nonzero().flatten().tolist()}, counted from 0."
    ),
    praise="you may look at many models, if you ask more of each.",
)
