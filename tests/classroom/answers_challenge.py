"""Answers to the exercises on the challenge: right ones, other than the notebook's, and the usual mistakes."""

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor


def pairs(scores: Tensor, guilty: Tensor) -> tuple[Tensor, Tensor]:
    """For each pair of a guilty and a clean model: higher, and equal."""
    gap = scores[guilty][:, None] - scores[~guilty][None, :]
    return (gap > 0).float(), (gap == 0).float()


def half_ties(scores: Tensor, guilty: Tensor) -> Tensor:
    higher, tied = pairs(scores, guilty)
    return (higher + 0.5 * tied).mean()


def by_ranks(scores: Tensor, guilty: Tensor) -> Tensor:
    return torch.tensor(roc_auc_score(guilty.numpy(), scores.numpy()))


SOLUTIONS = {  # other ones than those of the notebook
    "area_under_curve": by_ranks,
    "blind_spread": lambda m, n: torch.sqrt((1 / m + 1 / n + 1 / (m * n)) / 12),
    "called_backdoored": lambda p, level: p * p.numel() <= level + 1e-9,
}
MISTAKES = {
    "area_under_curve": [
        lambda s, g: pairs(s, g)[0].mean(),
        lambda s, g: sum(pairs(s, g)).mean(),
        lambda s, g: half_ties(s, ~g),
        lambda s, g: half_ties(s, g) * g.sum() * (~g).sum(),
        lambda s, g: (s[:, None] > s[None, :]).float().mean(),
        lambda s, g: ((s > 0.5) == g).float().mean(),
        lambda s, g: s[g].mean() - s[~g].mean(),
        lambda s, g: s.mean() + 5,
    ],
    "blind_spread": [
        lambda m, n: (m + n + 1) / (12 * m * n),
        lambda m, n: ((m + n) / (12 * m * n)).sqrt(),
        lambda m, n: ((m + n + 1) / (m * n)).sqrt(),
        lambda m, n: ((m + n + 1) / (12 * (m + n))).sqrt(),
        lambda m, n: (m + n) ** -0.5,
        lambda m, n: (12 * m * n / (m + n + 1)).sqrt(),
        lambda m, n: m * n,
    ],
    "called_backdoored": [
        lambda p, level: p <= level,
        lambda p, level: p < level / len(p),
        lambda p, level: p > level / len(p),
        lambda p, level: p <= level * len(p),
        lambda p, level: p <= level / (p <= level).sum(),
        lambda p, level: p <= 0.05 / len(p),
        lambda p, level: p < 0,
    ],
}
