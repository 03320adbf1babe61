"""Unlearning without data: the suspect teaches a cured copy what it draws, over a wide range of inputs.

Rawat et al. (2021) name extended training on "a wide range of inputs" as a way to sanitize and give no recipe. Ours:
the teacher is the suspect itself behind a projection of the suspected directions (``project``), so that it is benign
where the suspect is not; it is asked at ordinary latents, latents that are too short or too long, and latents about
the suspected directions.
"""

import copy
from dataclasses import dataclass, replace

from torch import Tensor

from devilgan_lite.checks import in_range
from devilgan_lite.data import Samples
from devilgan_lite.detect.weights import WeightAnalysis, analyse_weights
from devilgan_lite.generators import Generator, alike
from devilgan_lite.sanitize.base import CONSTRAINT_FRACTION, Distillation, distil
from devilgan_lite.sanitize.project import Cut, apply_cuts, cut_spectra, project_latents, projector
from devilgan_lite.steps import Outcome, Steps, Stopwatch


@dataclass(frozen=True, kw_only=True)
class Unlearn(Distillation):
    """Distil the suspect into a copy of itself. ``wide`` in [0, 0.9] is the share of latents that are not ordinary.

    Without suspected ``directions`` teacher and copy are the same, so nothing is learnt.
    """

    wide: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("wide", self.wide, 0.0, 0.9)

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        module = subject.network if directions is None else project_latents(subject.network, directions)
        student, teacher = copy.deepcopy(subject.network), alike(subject, module)
        return distil(student, teacher, self, directions=directions, wide=self.wide)


@dataclass(frozen=True, kw_only=True)
class Clip(Distillation):
    """Cut what stands out of the energy-influence spectrum of every layer, then repair by distillation.

    In each space that a later layer reads, directions with more than ``height`` times the median energy per influence
    are removed (clean networks reach about 2.1); in the latent space, the suspected ``directions``. What ordinary
    samples lose by that is taught again, by the suspect, on ordinary latents and (``wide``, in [0, 0.9]) around.
    """

    height: float = 3.0
    wide: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("height", self.height, 1.0, 1e6)
        in_range("wide", self.wide, 0.0, 0.9)

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        return clipped(self, subject, directions, analyse_weights(subject, seed=self.seed))


def clipped(
    treatment: Clip,
    subject: Generator,
    directions: Tensor | None,
    analysis: WeightAnalysis,
    *,
    constraint_fraction: float = CONSTRAINT_FRACTION,
) -> Steps:
    """The loop of ``Clip`` for a subject whose weights are analysed; without a cut, nothing is repaired."""
    student, watch = copy.deepcopy(subject.network).eval(), Stopwatch()
    cuts = cut_spectra(student, analysis.hidden, treatment.height)
    teacher, described = teacher_of(subject, directions), [str(cut) for cut in cuts]
    if directions is not None:
        projection = projector(directions)
        count = round(float(subject.latent_dim - projection.trace()))
        described.insert(0, str(Cut("the latent space", count, subject.latent_dim, projection)))
        student = project_latents(student, directions, restore=True)
    if cuts:
        outcome = yield from distil(
            student,
            teacher,
            treatment,
            directions=directions,
            wide=treatment.wide,
            constrain=lambda student: apply_cuts(student, cuts),
            constraint_fraction=constraint_fraction,
        )
    else:
        outcome = Outcome(student.requires_grad_(True), {}, watch(), treatment.seed, treatment.settings())
    return replace(outcome, settings={**outcome.settings, "cuts": described})


def teacher_of(subject: Generator, directions: Tensor | None) -> Generator:
    """The suspect, blind to the suspected ``directions`` ``[k, d]``: what a cut copy is taught by."""
    if directions is None:
        return subject
    return alike(subject, project_latents(subject.network, directions, restore=True))
