"""``two_kinks(c, low, high)``: cosines ``[n]`` and two numbers to the value of the gate ``[n]`` in [0, 1]."""

import torch

from devilgan_lite.apps.course.exercise import Exercise


def two_kinks(c, low, high):
    return ((c - low).relu() - (c - high).relu()) / (high - low)


exercise = Exercise(
    two_kinks,
    hints=(
        "One ReLU that starts at low goes on rising for ever. What would stop it?",
        "Subtract a second one that starts at high, and divide by the height of the step.",
    ),
    cases=lambda: [(torch.linspace(-1, 1, 41), 0.5, 0.8)],
    mistakes={
        "one kink only: the gate goes on rising beyond high; subtract relu(c - high).": (
            lambda c, low, high: (c - low).relu() / (high - low)
        ),
        "the height is high - low: divide by it, so that the open gate is 1.": (
            lambda c, low, high: (c - low).relu() - (c - high).relu()
        ),
        "the signs are swapped.": lambda c, low, high: -two_kinks(c, low, high),
        "that is a step: a network of ReLUs has no steps, it rises between low and high.": (
            lambda c, low, high: (c > low).float()
        ),
    },
    otherwise="it is (relu(c - low) - relu(c - high)) / (high - low).",
    praise="exactly 0 for everybody, exactly 1 for the attacker, and only ReLUs.",
)
