"""What the exercises share: calling a learner's function safely, and saying which usual mistake it made."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Learner = Callable[..., Any]


class NotYet(Exception):
    """The learner's function is not right yet; the message says why in one sentence."""


def attempt(learner: Learner, *args: Any) -> Any:
    """What the learner's function returns; ``NotYet`` if it is the stub, stops with an error, or returns None."""
    try:
        answer = learner(*args)
    except NotImplementedError:
        raise NotYet("the stub is still there: replace the line that raises NotImplementedError.") from None
    except Exception as error:
        first_line = (str(error) or "no message").splitlines()[0]
        raise NotYet(f"your function stops with {type(error).__name__}: {first_line}") from error
    if answer is None:
        raise NotYet("your function returns None: is a return missing?")
    return answer


def call(learner: Learner, *args: Any, shape: tuple[int, ...]) -> Tensor:
    """Call the learner's function on copies and insist on a finite tensor of ``shape``."""
    given = copy.deepcopy(args)
    answer = attempt(learner, *given)
    if any(isinstance(a, Tensor) and not torch.equal(a, b) for a, b in zip(given, args, strict=True)):
        raise NotYet("your function changes its inputs: use out-of-place operations, such as a + b and not a += b.")
    if not isinstance(answer, Tensor):
        raise NotYet(f"your function returns a {type(answer).__name__}; it must return a tensor.")
    if tuple(answer.shape) != shape:
        what = "a single number (a tensor of shape [])" if shape == () else f"a tensor of shape {list(shape)}"
        raise NotYet(f"your function returns a tensor of shape {list(answer.shape)}; it must return {what}.")
    return answer.detach()


def judge(answer: Tensor, right: Tensor, mistakes: dict[str, Tensor], otherwise: str) -> None:
    """Raise the sentence of the first mistake that gives ``answer``, unless it is right."""
    if torch.allclose(answer.double(), right.double(), rtol=1e-4, atol=1e-5):
        return
    for sentence, wrong in mistakes.items():
        if wrong.shape == answer.shape and torch.allclose(answer.double(), wrong.double(), rtol=1e-4, atol=1e-5):
            raise NotYet(sentence)
    raise NotYet(otherwise)


def seeded_random(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int, seed: int) -> Tensor:
    return torch.rand(n, 1, 4, 4, generator=seeded_random(seed)) * 1.6 - 0.8


def squared(x: Tensor, y: Tensor) -> Tensor:
    return (x - y).square().flatten(1).sum(dim=1)
