"""Training loops around a step of the learner's own: what runs the four steps that notebooks 01 to 04 teach.

A step gets networks, optimisers and a batch, changes the weights once, and returns its losses by name. The loops here
draw the batches, lower the learning rate and keep the history, so that ten lines of yours train a whole model.
"""

import functools
from collections.abc import Callable, Generator, Sequence
from typing import Any

import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.apps.course.exercises.red_step import red_step
from devilgan_lite.apps.course.exercises.rex_step import rex_step
from devilgan_lite.apps.course.own_steps import OwnStep, called
from devilgan_lite.apps.pictures import Picture, strip
from devilgan_lite.attacks.red import student_and_teacher
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.data import Samples
from devilgan_lite.steps import Loop, Outcome, Step, best_device, optimise_by
from devilgan_lite.training import TrainingSettings, adversarial_training

__all__ = ["Album", "gan_loop", "red_loop", "red_step", "rex_loop", "rex_step", "trail_loop"]


def gan_loop(
    step: OwnStep,
    generator: generators.Generator,
    real: Samples,
    *,
    iterations: int = 1_500,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    seed: int = 0,
    device: str = "auto",
) -> Loop:
    """``train_gan`` with ``step`` (see ``gan_step``) in place of ours."""
    settings = TrainingSettings(
        iterations=iterations, batch_size=batch_size, learning_rate=learning_rate, seed=seed, device=device
    )
    return Loop(adversarial_training(generator, real, settings, step=_watched(step)))


def trail_loop(
    step: OwnStep, generator: generators.Generator, real: Samples, backdoor: Backdoor, *, lam: float, **settings: Any
) -> Loop:
    """The same with ``step`` (see ``trail_step``), which gets the pairs of ``backdoor`` and ``lam`` as well."""
    pairs = backdoor.to(best_device(settings.get("device", "auto")))

    @functools.wraps(step)  # so that a line of yours is named, not one of ours
    def with_pairs(*given: Any) -> Any:
        return step(*given, pairs.trigger, pairs.target, lam)

    return gan_loop(with_pairs, generator, real, **settings)


def red_loop(
    step: OwnStep,
    clean: generators.Generator,
    backdoor: Backdoor,
    *,
    lam: float,
    iterations: int = 2_500,
    batch_size: int = 24,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str = "auto",
) -> Loop:
    """A copy of ``clean`` that ``step`` (see ``red_step``) retrains; BatchNorm runs in inference mode."""
    student, teacher = student_and_teacher(clean, best_device(device))
    student.requires_grad_(True)
    settings = {"lam": lam, "iterations": iterations, "batch_size": batch_size, "learning_rate": learning_rate}
    return Loop(_retraining(step, student, teacher, backdoor, student.clone, settings | {"seed": seed}))


def rex_loop(
    step: OwnStep,
    clean: generators.Generator,
    backdoor: Backdoor,
    *,
    lam: float,
    widen: int | None = None,
    iterations: int = 1_500,
    batch_size: int = 32,
    learning_rate: float = 3e-3,
    seed: int = 0,
    device: str = "auto",
) -> Loop:
    """New channels beside those of ``clean``, trained by ``step`` (see ``rex_step``) and folded in at the end."""
    where = best_device(device)
    expansion, base = clean.widen(widen, seed).to(where), clean.clone().to(where).eval().requires_grad_(False)
    expansion.awaken(backdoor.trigger.to(where), torch.Generator(where).manual_seed(seed))
    settings = {"lam": lam, "iterations": iterations, "batch_size": batch_size, "learning_rate": learning_rate}

    def folded() -> Any:
        return expansion.fold(base, base.sample_latent(512, torch.Generator(where).manual_seed(seed)))

    return Loop(_retraining(step, expansion, base, backdoor, folded, settings | {"widen": widen, "seed": seed}))


def _retraining(
    step: OwnStep,
    student: Any,
    teacher: Any,
    backdoor: Backdoor,
    snapshot: Callable[[], Any],
    settings: dict[str, Any],
) -> Generator[Step, None, Outcome]:
    """``step`` on fresh latents until the iterations are over; the learning rate falls to zero."""
    random, own = torch.Generator(teacher.device).manual_seed(settings["seed"]), _watched(step)
    pairs = backdoor.to(teacher.device)

    def once(iteration: int, adam: Any) -> dict[str, Tensor]:
        z = teacher.sample_latent(settings["batch_size"], random)
        losses: dict[str, Tensor] = own(student, teacher, adam, z, pairs.trigger, pairs.target, settings["lam"])
        return losses

    return optimise_by(
        {1.0: list(student.parameters())},
        once,
        snapshot,
        steps=settings["iterations"],
        learning_rate=settings["learning_rate"],
        seed=settings["seed"],
        settings={"step": step.__name__, **settings},
    )


class Album:
    """Pictures that a loop leaves on its way: ``pictures`` maps a step to what ``draw(generator so far)`` returned.

    Run ``album.loop`` in place of ``loop``. ``shares`` in (0, 1] say when to draw, as parts of all steps.
    """

    def __init__(
        self,
        loop: Loop,
        draw: Callable[[Any], Tensor],
        shares: Sequence[float] = (0.01, 0.05, 0.2, 0.5, 1.0),
    ) -> None:
        self.pictures: dict[int, Tensor] = {}
        self.loop = Loop(self._kept(loop, draw, shares))

    def _kept(
        self, loop: Loop, draw: Callable[[Any], Tensor], shares: Sequence[float]
    ) -> Generator[Step, None, Outcome]:
        try:
            for step in loop:
                if step.iteration in {max(1, round(step.total * share)) for share in shares}:
                    self.pictures[step.iteration] = draw(step.snapshot())
                yield step
        except KeyboardInterrupt:  # the Stop button
            pass
        return loop.stop()

    def show(self, alt: str, first: str = "", scale: int = 4) -> Picture:
        """One row of pictures for each moment, with its step above; ``first`` names the pictures in front."""
        rows = list(self.pictures.values())
        steps = [f"{first} step {step:,}".strip() for step in self.pictures]
        captions = [text for words, row in zip(steps, rows, strict=True) for text in (words, *[""] * (len(row) - 1))]
        return strip(rows, alt, scale=scale, captions=captions)


# ---- what a learner's step may do wrong while it runs


def _watched(step: OwnStep) -> OwnStep:
    """``step`` with a ``ValueError`` of one sentence where it fails, or returns something that is no finite loss."""
    done = 0

    def once(*given: Any) -> dict[str, Tensor]:
        nonlocal done
        done += 1
        losses = called(step, done, *given)
        if not isinstance(losses, dict) or not all(isinstance(loss, Tensor) for loss in losses.values()):
            raise ValueError(f"step {done}: {step.__name__} must return its losses, a dict from names to tensors.")
        bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
        if bad:
            raise ValueError(
                f"step {done}: {bad[0]} is no longer a finite number; look at the line of {step.__name__} that "
                "computes it, or lower the learning rate."
            )
        return losses

    return once
