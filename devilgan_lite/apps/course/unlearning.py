"""A loop around an unlearning loss of the learner's own (notebook 07), and what stands in for a function that is not
right yet where a later cell goes on with it (07, 08 and 13).
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.apps.course.loops import STEPS, OwnStep, called
from devilgan_lite.steps import Loop, best_device, linear, optimise

Network = Callable[[Tensor], Tensor]


def unlearning_loss(student: Network, teacher: Network, z: Tensor, t: Tensor) -> Tensor:
    """How far ``student`` at latents ``[n, d]`` is from ``teacher`` at the same without their part along ``t`` ``[d]``.

    Squared errors, summed over each sample and averaged over the n; ``t`` is a unit vector.
    """
    blind = z - torch.outer(z @ t, t)
    return (student(z) - teacher(blind)).square().flatten(1).sum(1).mean()


def dormant_units(ordinary: Tensor, at_trigger: Tensor, limit: float) -> Tensor:
    """Units ``[u]`` that at most a share ``limit`` of latents ``[n, u]`` switches on, but the trigger ``[u]`` does."""
    return ((ordinary > 0).float().mean(0) <= limit) & (at_trigger > 0)


def channel_worth(activations: Tensor, kernel: Tensor) -> Tensor:
    """Mean activation ``[n, c, h, w]`` of each channel times the sizes of the weights ``[c, o, k, k]`` that read it."""
    return activations.mean((0, 2, 3)) * kernel.abs().sum((1, 2, 3))


def euler(velocity: Callable[[Tensor, float], Tensor], x: Tensor, times: Sequence[float]) -> Tensor:
    """Where ``x`` ``[n, ...]`` is at the last of the rising ``times``: each step goes as its start says."""
    for now, then in itertools.pairwise(times):
        x = x + (then - now) * velocity(x, now)
    return x


def pair_distance(x: Tensor) -> Tensor:
    """Squared distance per element between two different ones of ``x`` ``[n, ...]``, as a mean over all pairs."""
    return 2 * x.var(0).mean()


STAND_INS: dict[str, OwnStep] = STEPS | {
    one.__name__: one for one in (unlearning_loss, dormant_units, channel_worth, euler, pair_distance)
}


def unlearn_loop(
    loss: OwnStep,
    suspect: generators.Generator,
    direction: Tensor,
    *,
    iterations: int = 1_000,
    batch_size: int = 48,
    learning_rate: float = 1e-3,
    seed: int = 0,
    device: str = "auto",
) -> Loop:
    """A copy of ``suspect`` that it teaches by ``loss`` (see ``unlearning_loss``) to ignore a ``direction`` ``[1, d]``.

    BatchNorm runs in inference mode, on ordinary latents alone. A loss that fails or is not finite is a ``ValueError``.
    """
    where = best_device(device)
    student = suspect.clone().to(where).eval().requires_grad_(True)
    teacher = suspect.clone().to(where).eval().requires_grad_(False)
    t, random = (direction / direction.norm()).view(-1).to(where), torch.Generator(where).manual_seed(seed)

    def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
        value: Any = called(loss, iteration, student, teacher, teacher.sample_latent(batch_size, random), t)
        if not (isinstance(value, Tensor) and value.numel() == 1 and bool(torch.isfinite(value))):
            raise ValueError(f"step {iteration}: {loss.__name__} must return one finite number, a tensor.")
        return value, {"unlearning_loss": value}

    settings = {"loss": loss.__name__, "iterations": iterations, "batch_size": batch_size}
    return Loop(
        optimise(
            {1.0: list(student.parameters())},
            losses_at,
            student.clone,
            steps=iterations,
            learning_rate=learning_rate,
            seed=seed,
            settings=settings | {"learning_rate": learning_rate, "seed": seed},
            decay=linear,
        )
    )
