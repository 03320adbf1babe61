"""Checks at the border: one sentence that says what is wrong and what is valid.

Every constructor and every public function calls these before it does any work, so that a typing error costs a second
and not a training run.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor


def in_range(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raise ``ValueError`` unless ``value`` is a number in ``[low, high]`` (``(low, high]`` with ``open_low``)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < low or value > high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise ValueError(f"{name}={value!r} is out of range: it must be a number in {bracket}{low}, {high}].")


def whole_number(name: str, value: int, low: int, high: float = math.inf) -> None:
    """Raise ``ValueError`` unless ``value`` is an ``int`` in ``[low, high]``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}={value!r} is not valid: it must be a whole number of at least {low}.")
    in_range(name, value, low, high)


def training_settings(
    *,
    length: tuple[str, int],
    batch_size: int,
    learning_rate: float,
    seed: int,
    ema: float = 0.0,
    least_batch: int = 1,
) -> None:
    """Check what every training loop is told; ``length`` is the number of steps and its name."""
    whole_number(*length, 1, 10_000_000)
    whole_number("batch_size", batch_size, least_batch, 65_536)
    in_range("learning_rate", learning_rate, 0.0, 1.0, open_low=True)
    in_range("ema", ema, 0.0, 0.99999)
    whole_number("seed", seed, 0)


def check_training(settings: Any, *, least_batch: int = 1) -> None:
    """Check the hyper-parameters of an attack or sanitizer with a training loop; ``__post_init__`` calls it."""
    training_settings(
        length=("iterations", settings.iterations),
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
        ema=getattr(settings, "ema", 0.0),
        least_batch=least_batch,
    )


def nearest(name: str, valid: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest of ``valid``, or an empty string."""
    close = difflib.get_close_matches(str(name), list(valid), n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def one_of(name: str, value: Any, valid: Iterable[Any]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``valid``; the message lists them and names the nearest."""
    choices = list(valid)
    if value not in choices:
        names = list(map(str, choices))
        raise ValueError(f"{name}={value!r} is unknown; valid: {', '.join(names)}.{nearest(value, names)}")


def known_names(what: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise ``TypeError`` if a keyword is not among ``valid``; the message lists the valid ones."""
    choices = list(valid)
    for name in given:
        if name not in choices:
            raise TypeError(f"{what} has no setting {name!r}; valid: {', '.join(choices)}.{nearest(name, choices)}")


def images(name: str, x: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Raise ``ValueError`` unless ``x`` is a float batch ``[n, *shape]`` of finite values in [-1, 1]."""
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(f"{name} must be a non-empty float tensor [n, C, H, W] with values in [-1, 1].")
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"{name} has shape {list(x.shape)}; expected [n, {', '.join(map(str, shape))}].")
    low, high = x.min().item(), x.max().item()
    if not (low >= -1.0001 and high <= 1.0001):
        raise ValueError(f"{name} has values from {low:.3g} to {high:.3g}; they must be finite and in [-1, 1].")


def latents(name: str, z: Tensor, latent_dim: int) -> None:
    """Raise ``ValueError`` unless ``z`` is a finite float32 tensor ``[n, latent_dim]``."""
    if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] != latent_dim or z.shape[0] == 0:
        got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
        raise ValueError(f"{name} is {got}; expected a float32 tensor [n, {latent_dim}] of latents.")
    if z.dtype != torch.float32 or not torch.isfinite(z).all():
        raise ValueError(f"{name} must be finite float32 latents; got dtype {z.dtype}.")


class Settings:
    """Base of the frozen dataclasses that hold hyper-parameters: an unknown keyword lists the valid ones."""

    def __new__(cls, *args: Any, **settings: Any) -> Settings:
        if args:
            raise TypeError(f"{cls.__name__} takes keyword arguments only, such as {fields(cls)[0].name}=...")  # type: ignore[arg-type]
        known_names(cls.__name__, settings, [field.name for field in fields(cls) if field.init])  # type: ignore[arg-type]
        return super().__new__(cls)
