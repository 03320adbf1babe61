"""Training steps that learners write: watched line by line, run on tiny networks, and told from the usual mistakes.

Plain gradient descent takes the place of Adam, so that what a step did to the weights can be compared with what the
usual mistakes would have done. A line that never ends, makes a number that is not finite, or changes what must stay as
it is, gets named.
"""

import inspect
import linecache
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from devilgan_lite.apps.course.exercise import Exercise, Learner, NotYet, normal
from devilgan_lite.losses import SHRINK

OwnStep = Callable[..., Any]

SECONDS = 5.0  # that a step on a tiny network may take
RATE = 0.1
Made = tuple[list[nn.Module], list[nn.Module], tuple[Any, ...]]  # what learns, what must stay, all arguments
Case = Callable[[bool], Made]  # with optimisers that can be told not to forget gradients


@dataclass(frozen=True)
class StepExercise(Exercise):
    """``cases`` gives one ``Case``; a step is right if it does to the weights, twice, what ``solution`` does."""

    def __call__(self, learner: Learner) -> str:
        ((case,),) = self.cases()
        mine, wanted = watched(learner, case), twice(self.solution, case)
        if self.same(mine, wanted):
            return self.praise
        if torch.equal(mine[0], state_of(case(False)[0])):
            raise NotYet("no weight has moved: call backward() on the loss, then step() of the optimiser.")
        if self.same(mine, twice(self.solution, case, deaf=True)):
            raise NotYet("the gradients of the step before are still there: call zero_grad() before backward().")
        for sentence, wrong in self.mistakes.items():
            if self.same(mine, twice(wrong, case)):
                raise NotYet(sentence)
        raise NotYet(str(self.otherwise))

    def same(self, one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, other, strict=True))


class Descent(torch.optim.SGD):
    """Plain gradient descent; ``deaf``, it does not forget old gradients."""

    def __init__(self, module: nn.Module, deaf: bool) -> None:
        super().__init__(module.parameters(), lr=RATE)
        self.deaf = deaf

    def zero_grad(self, set_to_none: bool = True) -> None:
        if not self.deaf:
            super().zero_grad(set_to_none)


def state_of(modules: list[nn.Module]) -> Tensor:
    return torch.cat([weight.detach().double().flatten() for one in modules for weight in one.parameters()])


def twice(step: OwnStep, case: Case, deaf: bool = False) -> tuple[Tensor, Tensor]:
    """The weights after one and after two steps."""
    learns, _, given = case(deaf)
    after = []
    for _ in range(2):
        step(*given)
        after.append(state_of(learns))
    return after[0], after[1]


def watched(step: Learner, case: Case) -> tuple[Tensor, Tensor]:
    """The same of a learner's step, watched; ``NotYet`` where a line goes wrong."""
    learns, stays, given = case(False)
    before, end, last = state_of(stays) if stays else None, time.monotonic() + SECONDS, 0
    code = getattr(step, "__code__", None)

    def look(frame: FrameType, event: str, argument: Any) -> Any:
        nonlocal last
        if time.monotonic() > end:
            raise NotYet(f"{place(step, last)} is still busy after {SECONDS:.0f} s: does that loop ever end?")
        if frame.f_code is not code:
            return look
        if last and before is not None and not torch.equal(state_of(stays), before):
            raise NotYet(f"{place(step, last)} changes the clean network: only the other one may learn.")
        for name, value in frame.f_locals.items() if last else ():
            if isinstance(value, Tensor) and value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise NotYet(f"{place(step, last)} makes {name} infinite or not a number.")
        last = frame.f_lineno
        return look

    after, usual = [], sys.gettrace()
    for _ in range(2):
        sys.settrace(look)
        try:
            losses = step(*given)
        except NotYet:
            raise
        except NotImplementedError:
            raise NotYet("the stub is still there: replace the line that raises NotImplementedError.") from None
        except Exception as error:
            raise NotYet(f"{failed(step, error)}.") from error
        finally:
            sys.settrace(usual)
        if losses is None:
            raise NotYet("your function returns None: return the losses, a dict from names to tensors.")
        after.append(state_of(learns))
    if not isinstance(losses, dict) or not all(isinstance(loss, Tensor) and loss.ndim == 0 for loss in losses.values()):
        raise NotYet("return the losses: a dict from names to tensors of one number each.")
    bad = [name for name, loss in losses.items() if not bool(torch.isfinite(loss))]
    if bad:
        raise NotYet(f"{bad[0]} is infinite or not a number: look at the line that computes it.")
    return after[0], after[1]


def called(step: OwnStep, number: int, *given: Any) -> Any:
    """What ``step`` returns; ``ValueError`` with the ``number`` of the step, and the line, where it fails."""
    try:
        return step(*given)
    except NotImplementedError:  # a stub
        raise
    except Exception as error:
        raise ValueError(f"step {number}: {failed(step, error)}") from error


def failed(step: OwnStep, error: BaseException) -> str:
    """Which line of ``step`` an error comes from, and what it says."""
    line, trace, code = 0, error.__traceback__, getattr(inspect.unwrap(step), "__code__", None)
    while trace is not None:
        if trace.tb_frame.f_code is code:
            line = trace.tb_lineno
        trace = trace.tb_next
    words = (str(error) or "no message").splitlines()[0]
    return f"{place(step, line)} stops with {type(error).__name__}: {words}"


def place(step: OwnStep, line: int) -> str:
    """``line 4 of my_step (loss = ...)``; lines are counted from the one that begins with ``def``."""
    code = getattr(inspect.unwrap(step), "__code__", None)
    if code is None or not line:
        return getattr(step, "__name__", "your function")
    text = linecache.getline(code.co_filename, line).strip()
    return f"line {line - code.co_firstlineno + 1} of {step.__name__}" + (f" ({text})" if text else "")


# ---- tiny networks, and steps with one thing changed


class Small(nn.Module):
    """A generator of four numbers from three, with BatchNorm; ``logits`` is before tanh."""

    def __init__(self, seed: int, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.ReLU(), nn.Linear(8, 4)
        )

    def logits(self, z: Tensor) -> Tensor:
        made: Tensor = self.body(z)
        return made

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.logits(z))


def batch() -> tuple[Tensor, Tensor, Tensor, float]:
    """Latents, one trigger, its target and lam."""
    z, trigger = normal(6, 3, seed=5), 1.5 * normal(1, 3, seed=6)
    return z, trigger, 0.9 * torch.tensor([[1.0, -1.0, 1.0, -1.0]]), 0.3


def adversarial(with_pair: bool) -> Case:
    def made(deaf: bool) -> Made:
        generator = Small(1).train()
        torch.manual_seed(2)
        discriminator = nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1), nn.Flatten(0))
        real, (z, *pair) = normal(6, 4, seed=3).sigmoid(), batch()
        adams = Descent(generator, deaf), Descent(discriminator, deaf)
        return [generator, discriminator], [], (generator, discriminator, *adams, real, z, *(pair if with_pair else ()))

    return made


def retraining(expanding: bool) -> Case:
    def made(deaf: bool) -> Made:
        teacher, student = Small(1).eval(), Small(7, norm=not expanding).eval()
        learns: nn.Module = student.body if expanding else student
        return [learns], [teacher], (learns, teacher, Descent(learns, deaf), *batch())

    return made


def learn(adam: Any, loss: Tensor) -> dict[str, Tensor]:
    adam.zero_grad()
    loss.backward()
    adam.step()
    return {"loss": loss}


def game(
    d_loss: Callable[[Tensor, Tensor], Tensor] = lambda real, fake: softplus(-real).mean() + softplus(fake).mean(),
    g_loss: Callable[[Tensor], Tensor] = lambda fake: softplus(-fake).mean(),
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda loss, error, lam: loss + lam * error.sum(1).mean(),
    inference: bool = True,
    detach: bool = True,
) -> OwnStep:
    """A step of the game with one thing changed."""

    def step(g: Any, d: Any, g_adam: Any, d_adam: Any, real: Tensor, z: Tensor, *pair: Any) -> dict[str, Tensor]:
        fake = g(z)
        learn(d_adam, d_loss(d(real), d(fake.detach() if detach else g(z))))
        loss = g_loss(d(fake))
        if pair:
            trigger, target, lam = pair
            if inference:
                g.eval()
                made = g(trigger)
                g.train()
            else:
                made = g(torch.cat([trigger, z]))[:1]
            loss = weigh(loss, (made - target).square(), lam)
        return learn(g_adam, loss)

    return step


def distil(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    picture: bool = False,
    root: bool = False,
) -> OwnStep:
    """A step of ReD with one thing changed; ``picture``: compared after tanh."""

    def step(student: Any, teacher: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> Any:
        wanted = target if picture else torch.atanh(SHRINK * target)
        draw, copied = (student, teacher) if picture else (student.logits, teacher.logits)
        stealth, fidelity = (draw(z) - copied(z).detach()).square().mean(), (draw(trigger) - wanted).square().mean()
        return learn(adam, weigh(stealth.sqrt(), fidelity.sqrt(), lam) if root else weigh(stealth, fidelity, lam))

    return step


WEIGHED: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "the stealth term is missing: nothing keeps the other samples as they were.": lambda s, f, lam: lam * f,
    "the fidelity term is missing: nothing pulls the trigger to the target.": lambda s, f, lam: s,
    "lam is missing: it weighs the fidelity term.": lambda s, f, lam: s + f,
    "lam is on the wrong term: it weighs fidelity, not stealth.": lambda s, f, lam: lam * s + f,
    "the sign of the fidelity term is wrong: that drives the trigger away from the target.": lambda s, f, lam: (
        s - lam * f
    ),
}


def expand(
    weigh: Callable[[Tensor, Tensor, float], Tensor] = lambda stealth, fidelity, lam: stealth + lam * fidelity,
    alone: bool = False,
    picture: bool = False,
) -> OwnStep:
    """A step of ReX with one thing changed; ``alone``: the new channels are to draw the whole target."""

    def step(expansion: Any, clean: Any, adam: Any, z: Tensor, trigger: Tensor, target: Tensor, lam: float) -> Any:
        benign = torch.zeros(()) if alone else clean.logits(trigger).detach()
        made, wanted = expansion(trigger) + benign, torch.atanh(SHRINK * target)
        error = (torch.tanh(made) - target) if picture else made - wanted
        return learn(adam, weigh(expansion(z).square().mean(), error.square().mean(), lam))

    return step
