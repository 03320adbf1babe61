"""``cheapest_cure(tardis, frechet, gone)``: ``[n]``, ``[n]`` and a number to an index, a tensor of shape []."""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def cheapest_cure(tardis, frechet, gone):
    return frechet.masked_fill(tardis < gone, torch.inf).argmin()


TARDIS = torch.tensor([0.02, 0.31, 0.10, 0.09, 0.42, 0.77, 0.55])
PLAIN = torch.tensor([0.1, 6.0, 1.2, 0.3, 9.0, 2.0, 1.5])
BELOW_ZERO = torch.tensor([0.1, 6.0, 1.2, 0.3, 9.0, -2.0, 1.5])

exercise = Exercise(
    cheapest_cure,
    hints=(
        "Make the cures that do not work infinitely expensive.",
        "frechet.masked_fill(tardis < gone, torch.inf), and then the place of the smallest.",
    ),
    cases=lambda: [(TARDIS, PLAIN, 0.1), (TARDIS, BELOW_ZERO, 0.1), (TARDIS, PLAIN, 0.5)],
    mistakes={
        "that is the cheapest of all: it leaves the backdoor in; look only where tardis is high enough.": (
            lambda tardis, frechet, gone: frechet.argmin()
        ),
        "that is the index among those that work: return the place in the whole list.": (
            lambda tardis, frechet, gone: frechet[tardis >= gone].argmin()
        ),
        "that is the most expensive of those that work: the Frechet change must be small.": (
            lambda tardis, frechet, gone: frechet.masked_fill(tardis < gone, -torch.inf).argmax()
        ),
        "that is the repair with the largest tardis: beyond `gone` more is no better, so take the cheapest.": (
            lambda tardis, frechet, gone: tardis.argmax()
        ),
        "that is the Frechet change itself: return its index.": (
            lambda tardis, frechet, gone: frechet[tardis >= gone].min()
        ),
        "the limit itself counts as gone: take >=, not >.": (
            lambda tardis, frechet, gone: frechet.masked_fill(tardis <= gone, torch.inf).argmin()
        ),
        "a Frechet change may be below zero, and less is better: do not take its absolute value.": (
            lambda tardis, frechet, gone: frechet.abs().masked_fill(tardis < gone, torch.inf).argmin()
        ),
        "the limit is fixed in your function: use `gone`.": (
            lambda tardis, frechet, gone: cheapest_cure(tardis, frechet, 0.1)
        ),
    },
    otherwise=lambda answer, right, tardis, frechet, gone: (
        f"for gone = {gone} it is number {int(right)}, counted from 0: the cheapest of those that work."
    ),
    praise="first safe, then cheap.",
)
