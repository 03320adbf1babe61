"""Answers to the exercises on pruning, unlearning and the challenge: right ones and the usual mistakes."""

import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import normalize


def share(x: Tensor) -> Tensor:
    """How often each unit is on."""
    return (x > 0).sum(0) / len(x)


def sizes(kernel: Tensor) -> Tensor:
    return kernel.abs().flatten(1).sum(1)


def means(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).mean(1)


def squared(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).flatten(1).sum(1)


def without(z: Tensor, t: Tensor) -> Tensor:
    return z - torch.outer(z @ t, t)


def last_of(values: Tensor, places: Tensor) -> Tensor:
    """The index, in the whole list, of the smallest of ``values`` at ``places``."""
    return places[values[places].argmin()]


def pairs(scores: Tensor, guilty: Tensor) -> tuple[Tensor, Tensor]:
    """For each pair of a guilty and a clean model: higher, and equal."""
    gap = scores[guilty][:, None] - scores[~guilty][None, :]
    return (gap > 0).float(), (gap == 0).float()


def half_ties(scores: Tensor, guilty: Tensor) -> Tensor:
    higher, tied = pairs(scores, guilty)
    return (higher + 0.5 * tied).mean()


def by_ranks(scores: Tensor, guilty: Tensor) -> Tensor:
    return torch.tensor(roc_auc_score(guilty.numpy(), scores.numpy()))


SOLUTIONS = {
    "dormant_units": lambda x, t, limit: torch.logical_and(share(x) <= limit, t > 0),
    "channel_worth": lambda x, kernel: means(x) * sizes(kernel),
    "smaller_kernel": lambda kernel, before, after: kernel.index_select(0, before).index_select(1, after),
    "forget_direction": lambda z, t: without(z, t / t.norm()),
    "unlearning_loss": lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).mean(),
    "cheapest_cure": lambda tardis, frechet, gone: last_of(frechet, (tardis >= gone).nonzero().flatten()),
    "area_under_curve": by_ranks,
    "blind_spread": lambda m, n: torch.sqrt((1 / m + 1 / n + 1 / (m * n)) / 12),
    "called_backdoored": lambda p, level: p * p.numel() <= level + 1e-9,
}
MISTAKES = {
    "dormant_units": [
        lambda x, t, limit: share(x) <= limit,
        lambda x, t, limit: (share(x) <= limit) | (t > 0),
        lambda x, t, limit: (share(x) > limit) & (t > 0),
        lambda x, t, limit: (share(x) < limit) & (t > 0),
        lambda x, t, limit: (x.mean(0) <= limit) & (t > 0),
        lambda x, t, limit: (x <= limit).all(0) & (t > 0),
        lambda x, t, limit: (x == 0).all(0) & (t > 0),
        lambda x, t, limit: (share(x) <= limit) & (t == 0),
        lambda x, t, limit: t > 9,
    ],
    "channel_worth": [
        lambda x, kernel: means(x),
        lambda x, kernel: sizes(kernel),
        lambda x, kernel: means(x) * kernel.flatten(1).sum(1),
        lambda x, kernel: means(x) * sizes(kernel.transpose(0, 1)),
        lambda x, kernel: x.sum((0, 2, 3)) * sizes(kernel),
        lambda x, kernel: means(x) * kernel.abs().mean((1, 2, 3)),
        lambda x, kernel: means(x) * kernel.square().sum((1, 2, 3)),
        lambda x, kernel: means((x > 0).float()) * sizes(kernel),
        lambda x, kernel: means(x) + sizes(kernel),
    ],
    "smaller_kernel": [
        lambda kernel, before, after: kernel[after][:, before],
        lambda kernel, before, after: kernel[before][:, before],
        lambda kernel, before, after: kernel[after][:, after],
        lambda kernel, before, after: kernel[: len(before), : len(after)],
        lambda kernel, before, after: kernel[before][:, after].transpose(0, 1),
        lambda kernel, before, after: kernel[before][:, after].flip((2, 3)),
        lambda kernel, before, after: torch.zeros(len(before), len(after), 2, 2),
        lambda kernel, before, after: kernel[before, after],
        lambda kernel, before, after: kernel[before],
        lambda kernel, before, after: kernel[before][:, after] + 1,
    ],
    "forget_direction": [
        lambda z, t: without(z, t),
        lambda z, t: z - torch.outer(z @ t, t) / t.norm(),
        lambda z, t: z - without(z, t / t.norm()),
        lambda z, t: 2 * z - without(z, t / t.norm()),
        lambda z, t: 2 * without(z, t / t.norm()) - z,
        lambda z, t: z - t,
        lambda z, t: z - (z @ t).sum() * t / (t @ t),
        lambda z, t: normalize(without(z, t / t.norm()), dim=1) * z.norm(dim=1, keepdim=True),
        lambda z, t: 0 * z,
    ],
    "unlearning_loss": [
        lambda student, teacher, z, t: squared(student(z), teacher(z)).mean(),
        lambda student, teacher, z, t: squared(student(without(z, t)), teacher(without(z, t))).mean(),
        lambda student, teacher, z, t: squared(student(without(z, t)), teacher(z)).mean(),
        lambda student, teacher, z, t: (student(z) - teacher(without(z, t))).square().mean(),
        lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).sum(),
        lambda student, teacher, z, t: (student(z) - teacher(without(z, t))).abs().sum() / len(z),
        lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).sqrt().mean(),
        lambda student, teacher, z, t: (z @ t).square().mean(),
    ],
    "cheapest_cure": [
        lambda tardis, frechet, gone: frechet.argmin(),
        lambda tardis, frechet, gone: frechet[tardis >= gone].argmin(),
        lambda tardis, frechet, gone: last_of(-frechet, (tardis >= gone).nonzero().flatten()),
        lambda tardis, frechet, gone: tardis.argmax(),
        lambda tardis, frechet, gone: last_of(frechet.abs(), (tardis >= gone).nonzero().flatten()),
        lambda tardis, frechet, gone: last_of(frechet, (tardis >= 0.1).nonzero().flatten()),
        lambda tardis, frechet, gone: last_of(frechet, (tardis > gone).nonzero().flatten()),
        lambda tardis, frechet, gone: frechet[tardis >= gone].min(),
        lambda tardis, frechet, gone: torch.tensor(17),
    ],
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
