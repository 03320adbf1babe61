"""What the exercises on training steps share: a step runs twice, is watched line by line, and is told from mistakes.

Plain gradient descent takes the place of Adam, so that what a step did to the weights can be compared with what the
usual mistakes would have done. A line that never ends, makes a number that is not finite, or changes what must stay as
it is, gets named.
"""

import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet
from devilgan_lite.apps.course.loops import OwnStep, failed, place

SECONDS = 5.0  # that a step on a tiny network may take
RATE = 0.1
Made = tuple[list[nn.Module], list[nn.Module], tuple[Any, ...]]  # what learns, what must stay, all arguments
Case = Callable[[bool], Made]  # with optimisers that can be told not to forget gradients


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


def judged(learner: Learner, right: OwnStep, case: Case, mistakes: dict[str, OwnStep], otherwise: str) -> None:
    """Raise the sentence of the first mistake that does to the weights what the learner's step does."""
    mine, wanted = watched(learner, case), twice(right, case)

    def alike(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> bool:
        return all(torch.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(one, other, strict=True))

    if alike(mine, wanted):
        return
    start = state_of(case(False)[0])
    if torch.equal(mine[0], start):
        raise NotYet("no weight has moved: call backward() on the loss, then step() of the optimiser.")
    if alike(mine, twice(right, case, deaf=True)):
        raise NotYet("the gradients of the step before are still there: call zero_grad() before backward().")
    for sentence, wrong in mistakes.items():
        if alike(mine, twice(wrong, case)):
            raise NotYet(sentence)
    raise NotYet(otherwise)
