"""Between an ART user's module, with values in a range of its own, and a ``Generator`` with samples in [-1, 1]."""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from devilgan_lite import generators
from devilgan_lite.trace import OpTracer

SQUASHED = {"tanh": (-1.0, 1.0), "sigmoid": (0.0, 1.0)}
PROBES = 64  # samples that show what range a module makes


@dataclass(frozen=True)
class Range:
    """The values ``[low, high]`` of somebody's samples, and the way to [-1, 1] and back."""

    low: float = -1.0
    high: float = 1.0

    @property
    def half(self) -> float:
        """Half the width: what a difference of 1 in [-1, 1] is worth here."""
        return (self.high - self.low) / 2

    @property
    def ours(self) -> bool:
        return (self.low, self.high) == (-1.0, 1.0)

    def inward(self, x: Tensor) -> Tensor:
        """To [-1, 1]."""
        return x if self.ours else (x - self.low) / self.half - 1

    def outward(self, x: Tensor) -> Tensor:
        """From [-1, 1]."""
        return x if self.ours else (x + 1) * self.half + self.low


class Moved(nn.Module):
    """``module``, whose samples are brought to [-1, 1] (``inward``) or from there to ``values``.

    ``bounded``: what is brought to [-1, 1] is cut off there.
    """

    def __init__(self, module: nn.Module, values: Range, *, inward: bool, bounded: bool = False) -> None:
        super().__init__()
        self.module, self.values, self.inward, self.bounded = module, values, inward, bounded

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.module(z)
        if not self.inward:
            return self.values.outward(made)
        inside = self.values.inward(made)
        return inside.clamp(-1.0, 1.0) if self.bounded else inside


@dataclass(frozen=True)
class Reading:
    """What a look at a module's samples has shown: the shape of a latent, the last squash, and the range of values.

    ``bounded``: the range was given, or the squash sets it. Else samples may leave ``values``, which is [-1, 1] then.
    """

    latent_shape: tuple[int, ...]
    sample_shape: tuple[int, ...]
    ends: str
    values: Range
    bounded: bool


@torch.no_grad()
def read(
    module: nn.Module, encoding_length: int, clip_values: tuple[float, float] | None, *, strict: bool = True
) -> Reading:
    """Look at what ``module`` makes of ordinary latents; ``ValueError`` where it does not fit the other two.

    Unless ``strict``, samples may leave ``clip_values``: an attack's result may do so by a little, and is kept.
    """
    if isinstance(module, generators.Generator):
        if module.latent_dim != encoding_length:
            raise ValueError(f"encoding_length={encoding_length}; the model reads {module.latent_dim} numbers.")
        if clip_values not in (None, (-1.0, 1.0)):
            raise ValueError(f"clip_values={clip_values}; samples of a {type(module).__name__} are in (-1, 1).")
        return Reading((encoding_length,), module.sample_shape, module.output, Range(), module.output != "none")
    loose = generators.adopt(module, encoding_length, output="none")
    z = loose.prior.draw(PROBES, torch.Generator().manual_seed(0), _device(module))
    with OpTracer(loose.network) as tracer:
        samples = loose(z)
    if not bool(torch.isfinite(samples).all()):
        raise ValueError("model makes values that are not finite from ordinary latents.")
    ends = _end_of(tracer.logits, samples)
    low, high = float(samples.min()), float(samples.max())
    if clip_values is not None:
        values = Range(*clip_values)
        slack = 1e-3 * values.half
        if strict and not (values.low - slack <= low and high <= values.high + slack):
            raise ValueError(f"model makes values from {low:.3g} to {high:.3g}; clip_values={clip_values}.")
    elif ends != "none":
        values = Range(*SQUASHED[ends])
    else:
        values = Range()
    return Reading(loose.latent_shape, loose.sample_shape, ends, values, clip_values is not None or ends != "none")


def _end_of(logits: Tensor | None, samples: Tensor) -> str:
    """The squash that makes ``samples`` of what went into the last one that ran; ``"none"`` if it does not."""
    if logits is not None and logits.numel() == samples.numel():
        x = logits.reshape(samples.shape)
        for name, squashed in (("tanh", torch.tanh(x)), ("sigmoid", torch.sigmoid(2 * x))):
            if torch.allclose(squashed, samples, atol=1e-6):
                return name
    return "none"


def _device(module: nn.Module) -> torch.device:
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def check_module(module: Any) -> None:
    """``ValueError`` for what is no module of float32 that can be copied and changed."""
    if not isinstance(module, nn.Module):
        raise ValueError(f"model is a {type(module).__name__}; expected a torch.nn.Module.")
    if isinstance(module, torch.jit.ScriptModule):
        raise ValueError("model is a ScriptModule, whose code is fixed; give the torch.nn.Module that it was made of.")
    for parameter in module.parameters():
        if parameter.dtype != torch.float32:
            kind = str(parameter.dtype).removeprefix("torch.")
            raise ValueError(f"model has weights of {kind}; only float32 is valid: call model.float() first.")
    try:
        copy.deepcopy(module)
    except (RuntimeError, TypeError) as error:  # such as the older torch.nn.utils.weight_norm
        reason = str(error).partition(". ")[0].partition("\n")[0]
        raise ValueError(f"model cannot be copied, and an attack works on a copy: {reason}.") from None


def to_ours(module: nn.Module, reading: Reading, *wanted: Tensor) -> tuple[generators.Generator, Range]:
    """A ``Generator`` that works on a copy of ``module``, and the range from which its samples come.

    ``wanted`` are values of an unbounded module that have to lie in that range: targets, real samples.
    """
    if isinstance(module, generators.Generator):
        return module.clone(), reading.values
    values = reading.values
    if not reading.bounded:
        reach = max([1.0, *(float(x.abs().max()) for x in wanted)])
        values = Range(-reach, reach)
    natural = SQUASHED.get(reading.ends) == (values.low, values.high)
    if natural:
        return generators.adopt(module, latent_shape=reading.latent_shape, output=reading.ends), values
    moved = module
    if reading.bounded or not values.ours:
        moved = Moved(module, values, inward=True, bounded=reading.bounded)
    output = "tanh" if reading.bounded else "none"
    return generators.adopt(moved, latent_shape=reading.latent_shape, output=output), values


def to_theirs(generator: generators.Generator, original: nn.Module, values: Range) -> nn.Module:
    """What ``to_ours`` made of ``original``, after an attack, as a module with samples in ``values``, in eval mode.

    The user's own class wherever the network is still of it; a network beside it, or wider layers, where there are any.
    """
    if isinstance(original, generators.Generator):
        return generator.eval()
    if isinstance(generator, generators.Adopted):
        inner = generator.module
        return inner.module.eval() if isinstance(inner, Moved) and inner.inward else inner.eval()
    return generator.eval() if values.ours else Moved(generator, values, inward=False).eval()


def clip_range(clip_values: Any) -> tuple[float, float] | None:
    """ART's ``clip_values``, two floats or arrays, as two floats; anything else is a ``ValueError``."""
    if clip_values is None:
        return None
    try:
        low, high = (np.asarray(value, dtype=np.float64) for value in clip_values)
        found = float(low.min()), float(high.max())
    except (TypeError, ValueError):
        raise ValueError(f"clip_values={clip_values!r}; expected two numbers, or two arrays: (min, max).") from None
    if not all(map(math.isfinite, found)):
        raise ValueError(f"clip_values={found}; both must be finite.")
    return found


def changes_nothing(preprocessing: Any) -> bool:
    """Whether ART's ``preprocessing``, (subtrahend, divisor) of floats or arrays, is None or leaves values as they are.

    What is no such pair does not.
    """
    if preprocessing is None:
        return True
    try:
        subtrahend, divisor = (np.asarray(value, dtype=np.float64) for value in preprocessing)
    except (TypeError, ValueError):
        return False
    return bool((subtrahend == 0).all() and (divisor == 1).all())


def plain(x: Any) -> np.ndarray:
    """An array or a tensor, wherever it is and whether it asks for gradients, as float32; else a ``ValueError``."""
    try:
        return np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float32)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError("not an array of numbers") from None


@contextmanager
def modes_kept(*modules: nn.Module) -> Iterator[None]:
    """Put the mode of every part of ``modules``, training or eval, back at the end."""
    modes = [(part, part.training) for module in modules for part in module.modules()]
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training
