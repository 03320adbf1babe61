"""What the sanitizers share: hyper-parameters in the constructor, the suspect in the call, a loop of steps between."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.checks import Settings, check_training, latents
from devilgan_lite.data import Samples
from devilgan_lite.generators import Generator, adopt, alike
from devilgan_lite.losses import stealth_loss
from devilgan_lite.steps import Loop, Outcome, Steps, best_device, linear, optimise
from devilgan_lite.trace import Layer, OpTracer

CONSTRAINT_FRACTION = 0.5  # of the steps in which a constraint holds; then it may give way a little
TOLERATED = 8e-4  # distillation loss, mean squared per pixel, above which ordinary samples have lost too much
EXAMPLES = 10  # batches on which a repair is judged
LARGE = 2.0  # root mean square of what a layer reads; clean ones as trained: below 1.7, but for flows and styles
DrawPairs = Callable[[torch.Generator], tuple[Tensor, Tensor]]  # latents [n, d], and their target samples
SCALES = (0.3, 2.0)  # of the length of an ordinary latent
NOISE = 0.5  # about a suspected direction, as a share of its length


@dataclass(frozen=True, kw_only=True)
class Sanitizer(Settings):
    """``outcome = Unlearn()(suspect)``. The suspect is never changed; its trigger and target are never asked for."""

    device: str = "auto"

    def steps(
        self,
        suspect: nn.Module,
        latent_dim: int | None = None,
        real: Samples | None = None,
        *,
        directions: Tensor | None = None,
    ) -> Loop:
        """Check everything at once and return the loop, ready for its first ``Step``.

        ``directions`` ``[k, d]`` are latents that a detector suspects; their length and sign do not matter.
        """
        best_device(self.device)  # an unknown one is an error now, not after the analysis
        subject = adopt(suspect, latent_dim, device="cpu")  # weights are read on the CPU; only training runs elsewhere
        if directions is not None:
            latents("directions", directions, subject.latent_dim)
        check_real(subject, real)
        self.check(subject, real)
        return Loop(as_generator(subject, self.run(subject, real, directions)))

    def __call__(
        self,
        suspect: nn.Module,
        latent_dim: int | None = None,
        real: Samples | None = None,
        *,
        directions: Tensor | None = None,
        progress: bool = True,
    ) -> Outcome:
        """Treat a copy of ``suspect``, any ``nn.Module`` from latents to samples; arguments as in ``auto``."""
        return self.steps(suspect, latent_dim, real, directions=directions).finish(progress=progress)

    def settings(self) -> dict[str, Any]:
        """The hyper-parameters as plain data, with the sanitizer's name."""
        return {"sanitizer": type(self).__name__, **asdict(self)}

    def check(self, subject: Generator, real: Samples | None) -> None:
        """Raise ``ValueError`` where this sanitizer does not fit the suspect; before any work."""

    def run(self, subject: Generator, real: Samples | None, directions: Tensor | None) -> Steps:
        """The loop itself; its arguments have been checked."""
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Distillation(Sanitizer):
    """A sanitizer that lets the suspect teach its copy."""

    iterations: int = 1_000
    batch_size: int = 48
    learning_rate: float = 1e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_training(self)

    def check(self, subject: Generator, real: Samples | None) -> None:
        if not any(value.is_floating_point() for value in subject.parameters()):
            raise ValueError("suspect has no weights that can be trained, so it cannot be repaired; Limit contains it.")


def as_generator(subject: Generator, body: Steps) -> Steps:
    """The loop ``body``, which ends in a bare network, with a generator like ``subject`` instead: it can be saved."""
    outcome = yield from body
    return replace(outcome, generator=alike(subject, outcome.generator).clone())


def check_real(subject: Generator, real: Samples | None) -> None:
    """Raise ``ValueError`` unless ``real`` is None or has the shape of the suspect's samples."""
    if real is not None and tuple(real.x.shape[1:]) != subject.sample_shape:
        raise ValueError(
            f"real has samples of shape {list(real.x.shape[1:])}; the suspect makes {list(subject.sample_shape)}."
        )


def distil(
    student: nn.Module,
    teacher: Generator,
    treatment: Distillation,
    *,
    directions: Tensor | None = None,
    wide: float = 0.0,
    constrain: Callable[[nn.Module], None] = lambda student: None,
    constraint_fraction: float = CONSTRAINT_FRACTION,
) -> Steps:
    """Teach ``student``, in place, what ``teacher`` makes of ordinary latents and of a share ``wide`` of odd ones.

    BatchNorm keeps its statistics, as in use. ``constrain`` changes the student in place before every step of a share
    ``constraint_fraction``, half: so the student learns to do without what a cut took; the rest restores what ordinary
    samples miss. A repair that does harm, by the same latents before and after, is undone unless you stopped it: the
    untaught student comes back, with ``"undone"`` in the settings.
    """
    device = best_device(treatment.device)
    student = student.to(device).eval().requires_grad_(True)
    teacher = alike(teacher, teacher.network).to(device)
    suspected = None if directions is None else directions.to(device)
    pairs = taught_pairs(teacher, suspected, treatment.batch_size, wide)
    random = torch.Generator(device).manual_seed(treatment.seed)

    def losses_at(iteration: int) -> tuple[Tensor, dict[str, Tensor]]:
        if iteration < constraint_fraction * treatment.iterations:
            constrain(student)
        z, benign = pairs(random)
        loss = stealth_loss(student(z), benign)
        return loss, {"distillation_loss": loss}

    untaught, judge = copy.deepcopy(student), torch.Generator(device).manual_seed(treatment.seed + 1)
    try:
        examples = [pairs(judge) for _ in range(EXAMPLES)]
        rates = careful_rates(student, teacher.ordinary(64, treatment.seed))
    except KeyboardInterrupt:  # before the first step
        return Outcome(untaught.cpu(), {}, 0.0, treatment.seed, treatment.settings(), interrupted=True)
    outcome = yield from optimise(
        rates,
        losses_at,
        lambda: copy.deepcopy(student),
        steps=treatment.iterations,
        learning_rate=treatment.learning_rate,
        seed=treatment.seed,
        settings=treatment.settings(),
        decay=linear,
    )
    try:
        before, after = (missed(module, examples) for module in (untaught, student))
    except KeyboardInterrupt:  # after the last step
        return replace(outcome, interrupted=True)
    if outcome.interrupted or after <= max(before, TOLERATED):
        return outcome
    return replace(outcome, generator=untaught.cpu(), settings={**outcome.settings, "undone": True})


@torch.no_grad()
def missed(module: nn.Module, examples: list[tuple[Tensor, Tensor]]) -> float:
    """The mean distillation loss of ``module`` on batches of latents and the teacher's samples of them."""
    return sum(float(stealth_loss(module(z), benign)) for z, benign in examples) / len(examples)


@torch.no_grad()
def careful_rates(student: nn.Module, z: Tensor) -> dict[float, list[nn.Parameter]]:
    """The parameters by the factor on their learning rate, 1 but for weights of layers that read ``LARGE`` numbers.

    ``z`` ``[n, d]`` are ordinary latents. Adam moves every weight by the rate, so a result moves by the rate times what
    is read. A gate in a network with leaky activations hides behind biases of hundreds, which cancel out: one step at
    the full rate is the end of it. Weights that are computed at every pass, as by spectral norm, keep the full rate.
    """
    sizes: dict[int, float] = {}

    def note(layer: Layer, x: Tensor, weight: Tensor, result: Tensor) -> None:
        where = weight.data_ptr()  # the same through a transposed view
        sizes[where] = max(sizes.get(where, 0.0), float(x.square().mean().sqrt()))

    with OpTracer(student, on_linear=note):
        student(z)
    rates: dict[float, list[nn.Parameter]] = {}
    for parameter in student.parameters():
        if parameter.is_floating_point():
            rates.setdefault(LARGE / max(sizes.get(parameter.data_ptr(), 0.0), LARGE), []).append(parameter)
    return rates


def taught_pairs(teacher: Generator, directions: Tensor | None, n: int, wide: float) -> DrawPairs:
    """``n`` latents, a share ``wide`` of them odd (``odd_latents``), and what the teacher makes of them."""
    odd = round(n * wide)

    def pairs(random: torch.Generator) -> tuple[Tensor, Tensor]:
        z = teacher.sample_latent(n, random)
        if odd:
            z = torch.cat([odd_latents(teacher, z[:odd], directions, random), z[odd:]])
        with torch.no_grad():
            return z, teacher.network(z)

    return pairs


def odd_latents(subject: Generator, z: Tensor, directions: Tensor | None, random: torch.Generator) -> Tensor:
    """``z`` ``[n, d]`` at 0.3 to 2 times the usual length, every other one about one of ``directions`` ``[k, d]``."""
    n, where = len(z), z.device
    low, high = SCALES
    some = normalize(z, dim=1)
    if directions is not None:
        suspected = normalize(directions.float(), dim=1).to(where)
        rows = torch.randint(len(suspected), (n,), generator=random, device=where)
        signs = 2 * torch.randint(2, (n, 1), generator=random, device=where) - 1
        about = normalize(signs * suspected[rows] + NOISE * some, dim=1)
        some = torch.where(torch.arange(n, device=where).view(-1, 1) % 2 == 0, about, some)
    return some * (low + (high - low) * torch.rand(n, 1, generator=random, device=where)) * subject.prior.length
