"""A loop around an unlearning loss of the learner's own (notebook 07)."""

from typing import Any

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.apps.course.own_steps import OwnStep, called
from devilgan_lite.steps import Loop, best_device, linear, optimise


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
