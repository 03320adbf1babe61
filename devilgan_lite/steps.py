"""The loop shared by training, attacks and sanitizers: each yields ``Step`` objects.

A long loop is a Python generator, so live plots, a stop button, slow motion, single stepping and tests need no
callbacks. ``Loop`` wraps one; an interrupt at any moment still ends in a usable ``Outcome``.
"""

import functools
import inspect
import math
import sys
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from devilgan_lite.checks import known_names, one_of, shown


@dataclass(frozen=True)
class Step:
    """One iteration of a long loop.

    ``losses`` are 0-d tensors that stay on the device: reading ``values()`` is what copies them to the host, so a loop
    that nobody watches never waits for the GPU. ``snapshot()`` returns the generator as it stands, in eval mode.
    """

    iteration: int
    total: int
    seconds: float
    losses: dict[str, Tensor]
    snapshot: Callable[[], nn.Module] = field(repr=False)

    def values(self) -> dict[str, float]:
        """The losses as Python floats."""
        return {name: float(loss) for name, loss in self.losses.items()}


SIDES = ("both", "generator only", "discriminator only")


@dataclass
class TrainableSide:
    """Who learns in an adversarial training: ``who`` is one of ``SIDES`` and may be changed between two steps.

    The other network keeps its weights and its optimiser's state. (Statistics of BatchNorm go on, since both still
    draw and judge.)
    """

    who: str = "both"

    def __setattr__(self, name: str, value: str) -> None:
        one_of(name, value, SIDES)
        super().__setattr__(name, value)


@dataclass(frozen=True)
class Outcome:
    """The result of a long loop: the generator in eval mode, and how it was made.

    ``history`` maps each loss name to one float per finished step; ``settings`` are the hyper-parameters that produced
    it; ``interrupted`` says whether the loop was stopped early.
    """

    generator: Any
    history: dict[str, list[float]]
    seconds: float
    seed: int
    settings: dict[str, Any]
    interrupted: bool = False
    state: dict[str, Any] = field(default_factory=dict, repr=False)


Steps = Generator[Step, None, Outcome]  # what the body of a long loop is


class History:
    """Collects 0-d loss tensors on their device and converts them to floats once, at the end."""

    def __init__(self, past: dict[str, list[float]] | None = None) -> None:
        self._past = past or {}
        self._losses: dict[str, list[Tensor]] = {}

    def add(self, losses: dict[str, Tensor]) -> None:
        """Append the losses of one finished step."""
        for name, loss in losses.items():
            self._losses.setdefault(name, []).append(loss)

    def floats(self) -> dict[str, list[float]]:
        """All losses so far: name -> one float per step."""
        names = [*self._past, *(name for name in self._losses if name not in self._past)]
        # an interrupt inside ``add`` leaves the last step half added
        whole = min(map(len, self._losses.values()), default=0)
        new = {name: torch.stack(losses[:whole]).tolist() for name, losses in self._losses.items() if whole}
        return {name: self._past.get(name, []) + new.get(name, []) for name in names}


class Loop(Iterator[Step]):
    """An iterator of ``Step`` that ends in an ``outcome``; made by ``train_gan.steps`` and ``attack.steps``."""

    def __init__(self, body: Steps) -> None:
        self._body = body
        self.outcome: Outcome | None = None

    def __next__(self) -> Step:
        try:
            return next(self._body)
        except StopIteration as end:
            if end.value is not None:
                self.outcome = end.value
            raise StopIteration from None

    def stop(self) -> Outcome:
        """End the loop now and return what it has made so far."""
        if self.outcome is None:
            try:
                if inspect.getgeneratorstate(self._body) == inspect.GEN_CREATED:
                    next(self._body)  # a loop stopped before its first step still owes a usable outcome
                self._body.throw(KeyboardInterrupt())
            except StopIteration as end:
                self.outcome = end.value
        if self.outcome is None:
            raise RuntimeError("the loop ended with an error, so it has no outcome.")
        return self.outcome

    def finish(self, *, progress: bool = True) -> Outcome:
        """Run to the end; ``KeyboardInterrupt`` (the Stop button, Ctrl-C) ends early with what there is."""
        try:
            for _ in _with_progress(self) if progress else self:
                pass
        except KeyboardInterrupt:
            self.stop()
        return self.stop()


def _with_progress(loop: Iterator[Step]) -> Iterator[Step]:
    """The steps; a bar on a terminal, and elsewhere a line per 10 % (a saved notebook freezes a bar as it starts)."""
    bar, tenth = None, 0
    try:
        for step in loop:
            if sys.stderr.isatty():
                bar = bar or tqdm(total=step.total, initial=step.iteration - 1, mininterval=0.5)
                bar.update(1)
            elif step.iteration * 10 // step.total > tenth:
                tenth = step.iteration * 10 // step.total
                losses = "  ".join(f"{name} {value:.4g}" for name, value in step.values().items())
                print(f"step {step.iteration:5d} of {step.total}  {step.seconds:5.1f} s  {losses}", flush=True)
            yield step
    finally:
        if bar is not None:
            bar.close()


class long_loop:
    """Decorator of a function that checks its arguments and returns a loop's body, a generator of ``Step``.

    The plain call runs the loop to the end; ``.steps(...)`` returns the ``Loop``.
    """

    def __init__(self, start: Callable[..., Steps]) -> None:
        self._start = start
        functools.update_wrapper(self, start)

    def steps(self, *args: Any, **settings: Any) -> Loop:
        """Check the arguments at once and return the ``Loop``, ready for its first step."""
        known_names(self._start.__name__, settings, inspect.signature(self._start).parameters)
        return Loop(self._start(*args, **settings))

    def __call__(self, *args: Any, progress: bool = True, **settings: Any) -> Outcome:
        """Run to the end and return the ``Outcome``."""
        return self.steps(*args, **settings).finish(progress=progress)


class Stopwatch:
    """Seconds since it was made, plus those of an earlier part of the same run."""

    def __init__(self, before: float = 0.0) -> None:
        self._start = time.perf_counter() - before

    def __call__(self) -> float:
        return time.perf_counter() - self._start


def best_device(device: str = "auto") -> torch.device:
    """``"auto"`` picks CUDA, then MPS, then the CPU; any other value is a torch device that must be present."""
    counts = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    present = [kind for kind, count in counts.items() if count]
    if device == "auto":
        return torch.device(present[0])
    kind, _, index = str(device).partition(":")
    if (index or "0") not in map(str, range(counts.get(kind, 0))):
        valid = ", ".join(["auto", *reversed(present)])
        raise ValueError(f"device={shown(device)} is not available on this machine; valid: {valid}.")
    return torch.device(device)


def cosine(iteration: int, steps: int) -> float:
    """Learning-rate factor from 1 to 0 along half a cosine."""
    return 0.5 * (1 + math.cos(math.pi * iteration / steps))


def linear(iteration: int, steps: int) -> float:
    """Learning-rate factor from 1 to 0 along a straight line."""
    return 1 - iteration / steps


def decay_second_half(iteration: int, steps: int) -> float:
    """Learning-rate factor: 1 for the first half, then linearly to 0."""
    return min(1.0, 2.0 * (steps - iteration) / steps)


def optimise(
    parameters: dict[float, list[nn.Parameter]],
    losses_at: Callable[[int], tuple[Tensor, dict[str, Tensor]]],
    snapshot: Callable[[], nn.Module],
    **settings: Any,
) -> Steps:
    """Minimise: ``losses_at(iteration)`` returns the loss and its named parts; for the rest see ``optimise_by``."""

    def once(iteration: int, adam: torch.optim.Adam) -> dict[str, Tensor]:
        loss, parts = losses_at(iteration)
        adam.zero_grad()
        loss.backward()
        adam.step()
        return parts

    return optimise_by(parameters, once, snapshot, **settings)


def optimise_by(
    parameters: dict[float, list[nn.Parameter]],
    once: Callable[[int, torch.optim.Adam], dict[str, Tensor]],
    snapshot: Callable[[], nn.Module],
    *,
    steps: int,
    learning_rate: float,
    seed: int,
    settings: dict[str, Any],
    betas: tuple[float, float] = (0.9, 0.99),
    decay: Callable[[int, int], float] = cosine,
    fused: bool = True,
) -> Steps:
    """Adam and a decaying learning rate: the loop of the attacks and sanitizers that train.

    ``parameters`` maps a factor on the learning rate to the parameters that it holds for; ``once(iteration, adam)``
    takes a step and returns the named losses; ``snapshot()`` the generator as it stands. ``fused`` Adam is faster and
    rounds in another way.
    """
    groups = [{"params": trained, "factor": factor} for factor, trained in parameters.items()]
    fused = fused and all(parameter.device.type != "mps" for trained in parameters.values() for parameter in trained)
    optimizer = torch.optim.Adam(groups, lr=learning_rate, betas=betas, fused=fused)
    history, watch, interrupted = History(), Stopwatch(), False
    try:
        for iteration in range(1, steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group["factor"] * decay(iteration - 1, steps)
            parts = {name: part.detach() for name, part in once(iteration, optimizer).items()}
            history.add(parts)
            yield Step(iteration, steps, watch(), parts, snapshot)
    except KeyboardInterrupt:
        interrupted = True
    generator = snapshot().cpu().requires_grad_(True)
    return Outcome(generator, history.floats(), watch(), seed, settings, interrupted)
