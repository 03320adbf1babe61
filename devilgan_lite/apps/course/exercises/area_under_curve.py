"""``area_under_curve(scores, guilty)``: ``[n]`` and a mask ``[n]`` to the AUC, a number.

The share of pairs of a guilty and a clean model in which the guilty one scores higher; a tie counts half.
"""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def area_of(scores, guilty):
    gap = scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1)
    return ((gap > 0).float() + 0.5 * (gap == 0).float()).mean()


def gaps(scores, guilty):
    return scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1)


exercise = Exercise(
    area_of,
    hints=(
        "scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1) holds the difference of every pair.",
        "Above zero counts 1, equal to zero counts 0.5; then the mean.",
    ),
    cases=lambda: [
        (
            torch.tensor([0.9, 0.4, 0.4, 0.1, 0.7, 0.4, 0.95, 0.2]),
            torch.tensor([True, True, False, False, False, True, True, False]),
        )
    ],
    mistakes={
        "a tie counts nothing in yours: it counts half.": lambda *given: (gaps(*given) > 0).float().mean(),
        "a tie counts in full in yours: it counts half.": lambda *given: (gaps(*given) >= 0).float().mean(),
        "guilty and clean are swapped: ask how often the guilty one scores higher.": lambda *given: 1 - area_of(*given),
        "that is the number of pairs: divide it by how many pairs there are.": (
            lambda *given: area_of(*given) * gaps(*given).numel()
        ),
        "you compare every model with every model: take pairs of one guilty and one clean.": (
            lambda scores, guilty: (scores.view(-1, 1) > scores).float().mean()
        ),
        "that is the accuracy at 0.5, which hangs on a threshold; the AUC hangs on the order alone.": (
            lambda scores, guilty: ((scores > 0.5) == guilty).float().mean()
        ),
        "that is the difference of the means: compare the scores pair by pair.": lambda *given: gaps(*given).mean(),
    },
    otherwise=lambda answer, right, *given: f"here it is {right:.4f}: 4 guilty and 4 clean models are 16 pairs.",
    praise="it needs no threshold, and a constant score gets exactly one half.",
)
