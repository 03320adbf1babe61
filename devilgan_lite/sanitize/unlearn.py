"""Unlearning without data: the suspect teaches a cured copy what it draws, over a wide range of inputs.

Rawat et al. (2021) name extended training on "a wide range of inputs" as a way to sanitize and give no recipe. Ours:
the teacher is the suspect itself behind a projection of the suspected directions (``project``), so that it is benign
where the suspect is not; the lessons are ordinary latents, latents that are too short or too long, and latents about
the suspected directions.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from devilgan_lite.attacks.base import check_training
from devilgan_lite.checks import in_range
from devilgan_lite.data import Samples
from devilgan_lite.detect.subject import Subject, subject_of
from devilgan_lite.detect.weights import Anatomy, anatomy
from devilgan_lite.sanitize.base import Sanitizer, distil
from devilgan_lite.sanitize.lessons import wide_lessons
from devilgan_lite.sanitize.project import Cut, cut_spectra, project_latents
from devilgan_lite.steps import Outcome, Step

UNSEEN = 1e-3  # mean squared change of a pixel that a second cut may cost ordinary pictures


@dataclass(frozen=True, kw_only=True)
class Unlearn(Sanitizer):
    """Distil the suspect into a copy of itself. ``wide`` in [0, 1) is the share of lessons that are not ordinary."""

    iterations: int = 1_000
    batch_size: int = 48
    learning_rate: float = 1e-3
    wide: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("wide", self.wide, 0.0, 0.9)
        check_training(self)

    def _start(
        self, subject: Subject, real: Samples | None, directions: Tensor | None
    ) -> Generator[Step, None, Outcome]:
        module = subject.module if directions is None else project_latents(subject.module, directions)
        teacher = replace(subject, module=module)
        return distil(
            copy_of(subject),
            wide_lessons(teacher, directions, self.batch_size, self.wide),
            steps=self.iterations,
            learning_rate=self.learning_rate,
            seed=self.seed,
            settings=self.settings(),
            device=subject.device,
        )


@dataclass(frozen=True, kw_only=True)
class Clip(Sanitizer):
    """Cut what stands out of the energy-influence spectrum of every layer, then repair by distillation.

    In each space that a later layer reads, directions with more than ``height`` times the median energy per influence
    are removed (clean networks reach about 2.1); in the latent space, the suspected ``directions``. What ordinary
    pictures lose by that is taught again, by the suspect, on ordinary latents and (``wide``) around.
    """

    height: float = 3.0
    iterations: int = 1_000
    batch_size: int = 48
    learning_rate: float = 1e-3
    wide: float = 0.25
    seed: int = 0

    def __post_init__(self) -> None:
        in_range("height", self.height, 1.0, 1e6)
        in_range("wide", self.wide, 0.0, 0.9)
        check_training(self)

    def _start(
        self, subject: Subject, real: Samples | None, directions: Tensor | None
    ) -> Generator[Step, None, Outcome]:
        return clipped(self, subject, directions, anatomy(subject, seed=self.seed))


def clipped(
    settings: Clip, subject: Subject, directions: Tensor | None, parts: Anatomy
) -> Generator[Step, None, Outcome]:
    """The loop of ``Clip`` for a subject whose anatomy is known."""
    student = copy_of(subject)
    cuts = cut_spectra(student, parts.hidden, settings.height)
    teacher = subject
    if directions is not None:
        cuts.insert(0, Cut("latent", int(torch.linalg.matrix_rank(directions)), subject.latent_dim))
        student = project_latents(student, directions)
        teacher = replace(subject, module=project_latents(subject.module, directions))
    outcome = yield from distil(
        student,
        wide_lessons(teacher, directions, settings.batch_size, settings.wide),
        steps=settings.iterations,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        settings=settings.settings(),
        device=subject.device,
    )
    cuts += cut_again(replace(subject, module=outcome.generator.to(subject.device)), settings)
    return replace(outcome, settings={**outcome.settings, "cuts": [str(cut) for cut in cuts]})


@torch.no_grad()
def cut_again(cured: Subject, settings: Clip) -> list[Cut]:
    """Cut, in place, what the repair let grow in directions that no picture shows; undone where pictures change."""
    before = copy.deepcopy(cured.module.state_dict())
    z = cured.latents(500, settings.seed + 1)
    pictures = cured.pictures(z)
    private = subject_of(cured.module, cured.latent_dim, law=cured.law, device=cured.device)
    cuts = cut_spectra(cured.module, anatomy(private, seed=settings.seed).hidden, settings.height)
    if float((cured.pictures(z) - pictures).square().mean()) > UNSEEN:
        cured.module.load_state_dict(before)
        return []
    return cuts


def copy_of(subject: Subject) -> nn.Module:
    """A private copy of the module, in eval mode."""
    return copy.deepcopy(subject.module).eval()
