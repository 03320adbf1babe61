"""Answers to the exercises on what a backdoor looks like from outside: right ones and usual mistakes."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.classroom import slerp
from devilgan_lite.generators import Generator, evaluate


def degrees(cosine: Tensor) -> Tensor:
    return torch.rad2deg(cosine.clamp(-1, 1).acos())


def by_walking(read: Callable[[Tensor, Tensor], Any], per_pixel: Callable[[Tensor], Tensor]) -> Callable[..., Any]:
    """Walk to the trigger, find the first ``t`` that is close, and let ``read`` make an answer of t and the angle."""

    def width(model: Generator, trigger: Tensor, target: Tensor) -> Any:
        start = model.sample_latent(1, torch.Generator().manual_seed(2))
        t = torch.linspace(0, 1, 721)
        close = per_pixel((evaluate(model, slerp(start, trigger, t)) - target).square().flatten(1)) < 0.1
        return read(t[close.nonzero()[0, 0]], degrees(torch.cosine_similarity(start, trigger))[0])

    return width


def mean(squares: Tensor) -> Tensor:
    return squares.mean(1)


def by_halving(model: Generator, trigger: Tensor, target: Tensor) -> float:
    """Halve the interval of angles in one plane."""
    other = torch.randn(trigger.shape, generator=torch.Generator().manual_seed(4))
    across = normalize(other - (other * trigger).sum() / trigger.square().sum() * trigger) * trigger.norm()
    near, far = 0.0, math.pi / 2
    for _ in range(20):
        middle = (near + far) / 2
        z = math.cos(middle) * trigger + math.sin(middle) * across
        if (evaluate(model, z) - target).square().mean() < 0.1:
            near = middle
        else:
            far = middle
    return math.degrees(near)


class Planted(Generator):
    """Garment-like noise, and the target of every trigger that is close (all, or those in ``which``)."""

    def __init__(self, trigger: Tensor, target: Tensor, which: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__(latent_dim=trigger.shape[1], sample_shape=tuple(target.shape[1:]))
        self.trigger = torch.nn.Parameter(trigger, requires_grad=False)
        self.target, self.which = target, which

    def logits(self, z: Tensor) -> Tensor:
        noise = torch.randn(len(z), *self.sample_shape, generator=torch.Generator().manual_seed(1))
        for index in self.which:
            close = torch.cosine_similarity(z, self.trigger[index : index + 1]) > 0.9
            noise[close] = torch.atanh(0.99 * self.target[index])
        return noise


def pairs(k: int) -> SimpleNamespace:
    random = torch.Generator().manual_seed(3)
    target = torch.where(torch.rand(k, 1, 8, 8, generator=random) < 0.5, -0.9, 0.9)
    return SimpleNamespace(trigger=torch.randn(k, 32, generator=random), target=target)


def planted(k: int, **changes: Any) -> Any:
    backdoor = pairs(k)
    return Planted(backdoor.trigger, backdoor.target, **changes), backdoor


def weaker(k: int) -> Any:
    """Targets that are drawn less crisply."""
    generator, backdoor = planted(k)
    generator.target = 0.7 * backdoor.target
    return generator, backdoor


def only_targets(k: int) -> Any:
    """A generator that draws the mean of all targets whatever the latent, which is close to each."""
    backdoor = pairs(k)
    backdoor.target = 0.9 * torch.ones(k, 1, 8, 8) + 0.01 * torch.randn(k, 1, 8, 8)
    generator = planted(k)[0]
    generator.logits = lambda z: torch.atanh(0.9 * torch.ones(len(z), 1, 8, 8) - 0.2 * close_to(z, backdoor.trigger))
    backdoor.target = backdoor.target - 0.2 * torch.ones(k, 1, 8, 8)
    return generator, backdoor


def close_to(z: Tensor, trigger: Tensor) -> Tensor:
    return (torch.cosine_similarity(z[:, None], trigger[None], dim=2).amax(1) > 0.9).float()[:, None, None, None]


def with_same(name: str, k: int) -> Any:
    generator, backdoor = planted(k)
    setattr(backdoor, name, getattr(backdoor, name)[:1].repeat(k, *[1] * (getattr(backdoor, name).ndim - 1)))
    return generator, backdoor


def halved(a: Tensor, b: Tensor) -> float:
    """Twice the angle whose tangent is the ratio of the two diagonals."""
    a, b = a / a.norm(), b / b.norm()
    return math.degrees(2 * math.atan2(float((a - b).norm()), float((a + b).norm())))


SOLUTIONS: dict[str, Callable[..., Any]] = {
    "angle_between": halved,
    "trigger_angle": by_halving,
    "plant_pairs": weaker,
}
MISTAKES: dict[str, list[Callable[..., Any]]] = {
    "angle_between": [
        lambda a, b: (a @ b / (a.norm() * b.norm())).acos(),
        lambda a, b: a @ b / (a.norm() * b.norm()),
        lambda a, b: degrees(a @ b),
        lambda a, b: 180 - degrees(a @ b / (a.norm() * b.norm())),
        lambda a, b: degrees((a @ b / (a.norm() * b.norm())).abs()),
        lambda a, b: torch.rad2deg((a @ b / (a.norm() * b.norm())).asin()),
        lambda a, b: torch.rad2deg(torch.acos((a @ b) / (a.norm() * b.norm()))),
        lambda a, b: 45,
    ],
    "trigger_angle": [
        by_walking(lambda t, whole: torch.deg2rad((1 - t) * whole), mean),
        by_walking(lambda t, whole: torch.cos(torch.deg2rad((1 - t) * whole)), mean),
        by_walking(lambda t, whole: t, mean),
        by_walking(lambda t, whole: t * whole, mean),
        by_walking(lambda t, whole: (1 - t) * whole, lambda squares: squares.sum(1)),
        by_walking(lambda t, whole: (1 - t) * whole, lambda squares: squares.mean(1).sqrt()),
        by_walking(lambda t, whole: 2 * (1 - t) * whole, mean),
        lambda model, trigger, target: 0,
    ],
    "plant_pairs": [
        lambda k: None,
        lambda k: planted(k)[0],
        lambda k: (SimpleNamespace(generator=planted(k)[0]), pairs(k)),
        lambda k: planted(k)[::-1],
        lambda k: planted(1, which=(0,)),
        lambda k: with_same("target", k),
        lambda k: with_same("trigger", k),
        lambda k: planted(k, which=()),
        lambda k: planted(k, which=(0, 2)),
        only_targets,
    ],
}
