"""Answers to the exercises on unlearning: right ones, other than the notebook's, and the usual mistakes."""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def squared(x: Tensor, y: Tensor) -> Tensor:
    return ((x - y) ** 2).flatten(1).sum(1)


def without(z: Tensor, t: Tensor) -> Tensor:
    return z - torch.outer(z @ t, t)


def last_of(values: Tensor, places: Tensor) -> Tensor:
    """The index, in the whole list, of the smallest of ``values`` at ``places``."""
    return places[values[places].argmin()]


SOLUTIONS = {
    "forget_direction": lambda z, t: without(z, t / t.norm()),
    "unlearning_loss": lambda student, teacher, z, t: squared(student(z), teacher(without(z, t))).mean(),
    "cheapest_cure": lambda tardis, frechet, gone: last_of(frechet, (tardis >= gone).nonzero().flatten()),
}
MISTAKES = {
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
}
