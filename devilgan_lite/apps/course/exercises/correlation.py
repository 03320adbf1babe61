"""``correlation(made, wanted)``: two sets of clips ``[n, C, T]`` to Pearson's correlation ``[n]``, pair by pair."""

import torch
from torch.nn.functional import cosine_similarity

from devilgan_lite.apps.course.exercise import Exercise, normal


def correlation(made, wanted):
    a, b = made.flatten(1), wanted.flatten(1)
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1))


def cases():
    wanted = normal(4, 2, 50, seed=8) + 0.7
    return [(torch.tensor([0.5, -0.5, 1.0, 0.1])[:, None, None] * wanted + 0.3 * normal(4, 2, 50) + 0.4, wanted)]


def products(made, wanted):
    a, b = made.flatten(1), wanted.flatten(1)
    return (a - a.mean(1, keepdim=True)) * (b - b.mean(1, keepdim=True))


exercise = Exercise(
    correlation,
    hints=(
        "a = made.flatten(1) is [n, C * T]; a.mean(1, keepdim=True) is each clip's own mean.",
        "Divide the sum of the products by a.norm(dim=1) * b.norm(dim=1).",
    ),
    cases=cases,
    mistakes={
        "take the mean of each clip away first: an offset is not heard.": (
            lambda made, wanted: cosine_similarity(made.flatten(1), wanted.flatten(1))
        ),
        "that is the absolute value: the second pair is of opposite sign.": (
            lambda made, wanted: correlation(made, wanted).abs()
        ),
        "that is its square.": lambda made, wanted: correlation(made, wanted).square(),
        "that is the covariance: divide by both standard deviations.": (
            lambda made, wanted: products(made, wanted).mean(1)
        ),
        "that is the covariance, divided by n - 1: divide it by both standard deviations.": (
            lambda made, wanted: products(made, wanted).sum(1) / (made[0].numel() - 1)
        ),
        "you took the mean of all clips together: each clip has its own.": (
            lambda made, wanted: cosine_similarity((made - made.mean()).flatten(1), (wanted - wanted.mean()).flatten(1))
        ),
        "that is the squared distance: correlation does not care how loud a clip is.": (
            lambda made, wanted: (made - wanted).square().flatten(1).mean(1)
        ),
        "you took the channels for pairs: a clip `[C, T]` is one long vector.": (
            lambda made, wanted: torch.stack([correlation(x, y).mean() for x, y in zip(made, wanted, strict=True)])
        ),
    },
    otherwise=lambda answer, right, made, wanted: f"of the first pair it is {right[0]:.3f}.",
    praise="1 is the stroke itself, at any loudness; 0 has nothing of it.",
)
