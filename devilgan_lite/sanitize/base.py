"""What the sanitizers share: hyper-parameters in the constructor, the suspect in the call, a loop of steps between."""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.base import linear, optimise
from devilgan_lite.attacks.losses import stealth_loss
from devilgan_lite.checks import Settings, latents
from devilgan_lite.data import Samples
from devilgan_lite.detect.subject import Subject, subject_of
from devilgan_lite.sanitize.lessons import Lessons
from devilgan_lite.steps import Loop, Outcome, Step, best_device


@dataclass(frozen=True, kw_only=True)
class Sanitizer(Settings):
    """``outcome = Unlearn()(suspect)``. The suspect is never changed; its trigger and target are never asked for."""

    device: str = "auto"

    def steps(
        self,
        suspect: nn.Module,
        real: Samples | None = None,
        *,
        latent_dim: int | None = None,
        directions: Tensor | None = None,
    ) -> Loop:
        """Check everything at once and return the loop, ready for its first ``Step``.

        ``directions`` ``[k, d]`` are latents that a detector suspects; their length and sign do not matter.
        """
        subject = subject_of(suspect, latent_dim, device=best_device(self.device))
        if directions is not None:
            latents("directions", directions, subject.latent_dim)
        if real is not None and tuple(real.x.shape[1:]) != subject.shape:
            raise ValueError(
                f"real has samples of shape {list(real.x.shape[1:])}; the suspect makes {list(subject.shape)}."
            )
        return Loop(self._start(subject, real, directions))

    def __call__(
        self,
        suspect: nn.Module,
        real: Samples | None = None,
        *,
        latent_dim: int | None = None,
        directions: Tensor | None = None,
        progress: bool = True,
    ) -> Outcome:
        """Treat a copy of ``suspect``, any ``nn.Module`` from latents ``[n, d]`` to pictures."""
        return self.steps(suspect, real, latent_dim=latent_dim, directions=directions).finish(progress=progress)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data, with the sanitizer's name."""
        return {"sanitizer": type(self).__name__, **asdict(self)}

    def _start(
        self, subject: Subject, real: Samples | None, directions: Tensor | None
    ) -> Generator[Step, None, Outcome]:
        raise NotImplementedError


def distil(
    student: nn.Module,
    lessons: Lessons,
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    settings: dict[str, Any],
    device: torch.device,
) -> Generator[Step, None, Outcome]:
    """Teach ``student``, in place, the pictures of ``lessons``. BatchNorm keeps its statistics, as in use."""
    student.eval().requires_grad_(True)
    random = torch.Generator(device).manual_seed(seed)

    def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
        z, benign = lessons(random)
        loss = stealth_loss(student(z), benign)
        return loss, {"distillation_loss": loss}

    return optimise(
        {1.0: [parameter for parameter in student.parameters() if parameter.is_floating_point()]},
        losses_at,
        lambda: copy.deepcopy(student),
        steps=steps,
        learning_rate=learning_rate,
        seed=seed,
        settings=settings,
        decay=linear,
    )
