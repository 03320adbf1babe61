"""Answers to the exercises on pruning: right ones, other than the notebook's, and the usual mistakes."""

import torch
from torch import Tensor


def share(x: Tensor) -> Tensor:
    """How often each unit is on."""
    return (x > 0).sum(0) / len(x)


def sizes(kernel: Tensor) -> Tensor:
    return kernel.abs().flatten(1).sum(1)


def means(x: Tensor) -> Tensor:
    return x.transpose(0, 1).flatten(1).mean(1)


SOLUTIONS = {
    "dormant_units": lambda x, t, limit: torch.logical_and(share(x) <= limit, t > 0),
    "channel_worth": lambda x, kernel: means(x) * sizes(kernel),
    "smaller_kernel": lambda kernel, before, after: kernel.index_select(0, before).index_select(1, after),
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
}
