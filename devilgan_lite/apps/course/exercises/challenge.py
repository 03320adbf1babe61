"""The exercises of the notebook on the challenge; see ``exercises``."""

import torch

from devilgan_lite.apps.course.exercises.judge import Learner, call, judge


def area_under_curve(learner: Learner) -> str:
    """``area_under_curve(scores, guilty)``: ``[n]`` and a mask ``[n]`` to the AUC, a number.

    The share of pairs of a guilty and a clean model in which the guilty one scores higher; a tie counts half.
    """
    scores = torch.tensor([0.9, 0.4, 0.4, 0.1, 0.7, 0.4, 0.95, 0.2])
    guilty = torch.tensor([True, True, False, False, False, True, True, False])
    answer = call(learner, scores, guilty, shape=())
    gap = scores[guilty].view(-1, 1) - scores[~guilty].view(1, -1)
    higher, tied = (gap > 0).double(), (gap == 0).double()
    every = (scores.view(-1, 1) > scores.view(1, -1)).double()
    mistakes = {
        "a tie counts nothing in yours: it counts half.": higher.mean(),
        "a tie counts in full in yours: it counts half.": (higher + tied).mean(),
        "guilty and clean are swapped: ask how often the guilty one scores higher.": 1 - (higher + tied / 2).mean(),
        "that is the number of pairs: divide it by how many pairs there are.": (higher + tied / 2).sum(),
        "you compare every model with every model: take pairs of one guilty and one clean.": every.mean(),
        "that is the accuracy at 0.5, which hangs on a threshold; the AUC hangs on the order alone.": (
            ((scores > 0.5) == guilty).double().mean()
        ),
        "that is the difference of the means: compare the scores pair by pair.": gap.double().mean(),
    }
    right = (higher + tied / 2).mean()
    judge(answer, right, mistakes, f"here it is {float(right):.4f}: 4 guilty and 4 clean models are 16 pairs.")
    return "it needs no threshold, and a constant score gets exactly one half."


def blind_spread(learner: Learner) -> str:
    """``blind_spread(guilty, clean)``: two numbers of models to the standard deviation of a blind guess's AUC."""
    for guilty, clean in ((6, 6), (3, 9), (100, 100)):
        m, n = torch.tensor(float(guilty)), torch.tensor(float(clean))
        answer = call(learner, m, n, shape=())
        right = ((m + n + 1) / (12 * m * n)).sqrt()
        mistakes = {
            "that is the variance: take the root.": (m + n + 1) / (12 * m * n),
            "the 1 is missing: it is m + n + 1 above the line.": ((m + n) / (12 * m * n)).sqrt(),
            "the 12 is missing: ranks are spread evenly, and an even spread has variance 1/12.": (
                (m + n + 1) / (m * n)
            ).sqrt(),
            "below the line stands the number of pairs, m * n, and not m + n.": ((m + n + 1) / (12 * (m + n))).sqrt(),
            "that is 1 / sqrt(m + n): the number of pairs counts, and how even the two groups are.": (m + n) ** -0.5,
            "that is the upside-down fraction.": (12 * m * n / (m + n + 1)).sqrt(),
        }
        otherwise = f"for {guilty} guilty and {clean} clean models it is {float(right):.4f}."
        judge(answer, right, mistakes, otherwise)
    return "with six of each, a blind guess has an AUC above 0.66 once in six times."


def called_backdoored(learner: Learner) -> str:
    """``called_backdoored(p_values, level)``: ``[n]`` and a number to a mask ``[n]``.

    True where p is small enough that the chance of one false alarm or more in the whole round is at most ``level``.
    """
    p = torch.tensor([0.001, 0.04, 0.005, 0.3, 0.0101, 0.9, 0.02, 0.005, 0.11, 0.007])
    for level in (0.05, 0.1):
        answer = call(learner, p, level, shape=(10,)).double()
        limit = level / len(p)
        mistakes = {
            "that is the level for one model: among n clean ones you would raise n times as many false alarms.": (
                p <= level
            ),
            "the limit itself still counts: take <=, not <.": p < limit,
            "those are the others: a small p-value speaks against a model.": p > limit,
            "you multiplied the level by n: divide it, so that each model gets its share.": p <= level * len(p),
            "you divided by the number of small p-values: each of the n models that you look at takes its share.": (
                p <= level / (p <= level).sum()
            ),
        }
        if level != 0.05:
            mistakes["the level is fixed in your function: use `level`."] = p <= 0.05 / len(p)
        right = p <= limit
        otherwise = f"at level {level} it is True for models {right.nonzero().flatten().tolist()}, counted from 0."
        judge(answer, right.double(), {text: wrong.double() for text, wrong in mistakes.items()}, otherwise)
    return "you may look at many models, if you ask more of each."
