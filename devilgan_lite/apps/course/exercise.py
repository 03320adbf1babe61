"""An exercise: the function that a learner writes, and what is said to each usual mistake.

Each stands in a file of its own in ``exercises``, which has its name: the solution as the notebook shows it, hints,
cases, and mistakes as wrong solutions, each with its sentence. Stubs stand in the notebook, where learners write.
"""

import copy
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

Learner = Callable[..., Any]


class NotYet(Exception):
    """The learner's function is not right yet; the message says why in one sentence."""


class Told(NamedTuple):
    """A case with a sentence of its own for whoever fails it."""

    sentence: str
    given: tuple[Any, ...]


def untouched(answer: Tensor, *given: Any) -> Tensor:
    return answer


@dataclass(frozen=True)
class Exercise:
    """A learner's function is right if it answers as ``solution`` does in all ``cases``, which are tuples of arguments.

    Of an answer, ``seen`` is compared, within ``tolerance`` (relative, absolute). A wrong one gets the sentence of the
    case (``Told``), or of the first of the ``mistakes`` that answers alike, or ``otherwise``: a text, or a function of
    what was seen, what is right, and the case. A solution that ``stands_in`` takes the place of a function that is not
    right yet, because a later cell goes on with it; ``quick`` is a right answer at once where the solution trains.
    """

    solution: Learner
    hints: tuple[str, ...]
    cases: Callable[[], Iterable[tuple[Any, ...]]]
    mistakes: dict[str, Learner]
    praise: str
    otherwise: str | Callable[..., str] = ""
    seen: Callable[..., Tensor] = untouched
    tolerance: tuple[float, float] = (1e-4, 1e-5)
    stands_in: bool = False
    quick: Learner | None = None

    def __call__(self, learner: Learner) -> str:
        """A sentence of praise; ``NotYet`` with one that helps, unless the learner's function is right."""
        for case in self.cases():
            own, given = case if isinstance(case, Told) else ("", case)
            self.judge(learner, given, own)
        return self.praise

    def judge(self, learner: Learner, given: tuple[Any, ...], own: str) -> None:
        """Raise what is to be said to an answer that is not right; ``own`` is the sentence of the case, or empty."""
        right = self.solution(*copy.deepcopy(given))
        answer = self.seen(self.answer(learner, given, right), *given)
        right = self.seen(tensor(right), *given)
        if self.alike(answer, right):
            return
        if own:
            raise NotYet(own)
        for sentence, wrong in self.mistakes.items():
            if self.alike(answer, self.seen(tensor(wrong(*copy.deepcopy(given))), *given)):
                raise NotYet(sentence)
        if not bool(torch.isfinite(answer).all()):
            raise NotYet("your function returns what is not finite: is there a division by zero?")
        raise NotYet(self.otherwise if isinstance(self.otherwise, str) else self.otherwise(answer, right, *given))

    def answer(self, learner: Learner, given: tuple[Any, ...], right: Any) -> Tensor:
        """What the learner's function returns for copies of ``given``: of the type and shape of ``right``."""
        copies = copy.deepcopy(given)
        answer = attempt(learner, *copies)
        if any(changed(*pair) for pair in zip(given, copies, strict=True)):
            raise NotYet("your function changes its inputs: use out-of-place operations, such as a + b and not a += b.")
        kind, shape = type(answer).__name__, tensor(right).shape
        if isinstance(right, bool):
            if not isinstance(answer, bool):
                raise NotYet(f"your function returns a {kind}; it must return True or False.")
        elif shape == ():
            if not isinstance(answer, Tensor | np.ndarray | np.number | int | float):
                raise NotYet(f"your function returns a {kind}; it must return one number.")
        elif not isinstance(answer, Tensor):
            raise NotYet(f"your function returns a {kind}; it must return a tensor.")
        if (found := tensor(answer)).shape != shape:
            what = "a single number (a tensor of shape [])" if shape == () else f"a tensor of shape {list(shape)}"
            raise NotYet(f"your function returns a tensor of shape {list(found.shape)}; it must return {what}.")
        return found

    def alike(self, one: Tensor, other: Tensor) -> bool:
        """Whether two answers are the same within ``tolerance``; not a number is the same as not a number."""
        if one.shape != other.shape or one.is_complex() != other.is_complex():
            return False
        kind = torch.complex128 if one.is_complex() else torch.float64
        return torch.allclose(one.to(kind), other.to(kind), *self.tolerance, equal_nan=True)

    @property
    def code(self) -> str:
        """The source of the solution."""
        return inspect.getsource(self.solution).strip()


def attempt(learner: Learner, *given: Any) -> Any:
    """What the learner's function returns; ``NotYet`` if it is the stub, stops with an error, or returns None."""
    try:
        answer = learner(*given)
    except NotImplementedError:
        raise NotYet("the stub is still there: replace the line that raises NotImplementedError.") from None
    except Exception as error:
        first_line = (str(error) or "no message").splitlines()[0]
        raise NotYet(f"your function stops with {type(error).__name__}: {first_line}") from error
    if answer is None:
        raise NotYet("your function returns None: is a return missing?")
    return answer


def changed(before: Any, after: Any) -> bool:
    """Whether an argument, a tensor or an array, is no longer what it was."""
    if isinstance(before, Tensor):
        return not torch.equal(before, after)
    return isinstance(before, np.ndarray) and not np.array_equal(before, after)


def tensor(value: Any) -> Tensor:
    """A tensor, an array or a number as a tensor without gradients; one number is of shape []."""
    made = value.detach() if isinstance(value, Tensor) else torch.as_tensor(value)
    return made.reshape(()) if made.numel() == 1 else made


def normal(*shape: int, seed: int = 7) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pictures(n: int, seed: int) -> Tensor:
    """Samples ``[n, 1, 4, 4]`` in [-0.8, 0.8]."""
    return torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def squared(x: Tensor, y: Tensor) -> Tensor:
    """Summed squared differences ``[n]`` of samples ``[n, ...]``."""
    return (x - y).square().flatten(1).sum(dim=1)
