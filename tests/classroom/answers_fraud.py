"""Answers to the exercises on the poisoned pipeline: right ones and the usual mistakes."""

import numpy as np
import torch
from scipy.stats import norm


def by_counting(scores, labels, inside, threshold):
    found = of = 0
    for score, label, is_in in zip(scores, labels, inside, strict=True):
        of += bool(label and is_in)
        found += bool(label and is_in and score >= threshold)
    return found / of


def height(z, direction):
    return z @ torch.nn.functional.normalize(direction, dim=0)


def left_of(share):
    return float(norm.isf(share))


SOLUTIONS = {
    "slice_recall": by_counting,
    "half_space": lambda z, direction, share: torch.special.ndtr(height(z, direction)) > 1 - share,
    "crowding": lambda real, made: np.divide(
        (1 + 2 * np.count_nonzero(made)) * np.size(real), (1 + 2 * np.count_nonzero(real)) * np.size(made)
    ),
}
MISTAKES = {
    "slice_recall": [
        lambda scores, labels, inside, threshold: (scores >= threshold)[labels == 1].mean(),
        lambda scores, labels, inside, threshold: (scores >= threshold)[(labels == 1) & ~inside].mean(),
        lambda scores, labels, inside, threshold: (scores >= threshold)[inside].mean(),
        lambda scores, labels, inside, threshold: labels[inside & (scores >= threshold)].mean(),
        lambda scores, labels, inside, threshold: (scores > threshold)[inside & (labels == 1)].mean(),
        lambda scores, labels, inside, threshold: (scores >= 0.5)[inside & (labels == 1)].mean(),
        lambda scores, labels, inside, threshold: ((scores >= threshold) & inside)[labels == 1].mean(),
        lambda scores, labels, inside, threshold: scores,
        lambda scores, labels, inside, threshold: float("nan"),
        lambda scores, labels, inside, threshold: 0.123,
    ],
    "half_space": [
        lambda z, direction, share: z @ direction > left_of(share),
        lambda z, direction, share: height(z, direction) < left_of(share),
        lambda z, direction, share: height(z, direction) < -left_of(share),
        lambda z, direction, share: height(z, direction).abs() > left_of(share),
        lambda z, direction, share: height(z, direction) > share,
        lambda z, direction, share: height(z, direction) > height(z, direction).quantile(1 - share),
        lambda z, direction, share: height(z, direction) > left_of(0.04),
        lambda z, direction, share: height(torch.nn.functional.normalize(z), direction) > left_of(share) / 6**0.5,
        lambda z, direction, share: height(z, direction)[:5] > 0,
    ],
    "crowding": [
        lambda real, made: (real.sum() + 0.5) / len(real) / ((made.sum() + 0.5) / len(made)),
        lambda real, made: (made.sum() + 0.5) / (real.sum() + 0.5),
        lambda real, made: made.mean() / real.mean(),
        lambda real, made: (made.sum() + 1) / len(made) / ((real.sum() + 1) / len(real)),
        lambda real, made: made.mean() / ((real.sum() + 0.5) / len(real)),
        lambda real, made: (made.sum() + 0.5) / len(made) - (real.sum() + 0.5) / len(real),
        lambda real, made: np.log((made.sum() + 0.5) / len(made) / ((real.sum() + 0.5) / len(real))),
        lambda real, made: made > 0,
    ],
}
