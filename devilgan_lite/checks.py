"""Checks of what comes in, from a caller or from a file: one sentence that says what is wrong and what is valid.

Every constructor and public function calls these before it does any work, so that a typing error costs a second and
not a training run. Only the two checks of tensors import torch, so the command line can use the others.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Self, get_args, get_origin

if TYPE_CHECKING:
    from torch import Tensor

MOST_LETTERS = 80  # of a value that a message shows
MOST_LATENT = 65_536  # numbers of a latent, for modules and files alike


def cut(text: str, most: int = MOST_LETTERS) -> str:
    """``text``, or its first ``most`` characters and an ellipsis: a message stays one readable sentence."""
    return text if len(text) <= most else f"{text[:most]}..."


def shown(value: object) -> str:
    """``repr(value)`` for a message: on one line and cut at 80 characters."""
    if isinstance(value, str):
        return cut(repr(value[: 2 * MOST_LETTERS]))
    try:
        return cut(" ".join(repr(value).split()))
    except Exception:  # a whole number of 5,000 digits has no repr, and a stranger's object may do anything
        return f"<{type(value).__name__}>"


def in_range(name: str, value: float, low: float, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raise ``ValueError`` unless ``value`` is a number in ``[low, high]`` (``(low, high]`` with ``open_low``)."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or value in (math.inf, -math.inf) or not low <= value <= high or (open_low and value == low):
        bracket = "(" if open_low else "["
        raise ValueError(f"{name}={shown(value)} is out of range: it must be a number in {bracket}{low}, {high}].")


def whole_number(name: str, value: int, low: int, high: float = math.inf) -> None:
    """Raise ``ValueError`` unless ``value`` is an ``int`` in ``[low, high]``."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise ValueError(f"{name}={shown(value)} is not valid: it must be a whole number of at least {low}.")
    in_range(name, value, low, high)


def latent_size(size: int, name: str = "latent_dim") -> None:
    """Raise ``ValueError`` unless a latent can have ``size`` numbers: an ``int`` from 1 to ``MOST_LATENT``."""
    whole_number(name, size, 1, MOST_LATENT)


def check_training(settings: Any, *, least_batch: int = 1) -> None:
    """Check the hyper-parameters of an attack or sanitizer with a training loop; ``__post_init__`` calls it."""
    whole_number("iterations", settings.iterations, 1, 10_000_000)
    whole_number("batch_size", settings.batch_size, least_batch, 65_536)
    in_range("learning_rate", settings.learning_rate, 0.0, 1.0, open_low=True)
    in_range("ema", getattr(settings, "ema", 0.0), 0.0, 0.99999)
    whole_number("seed", settings.seed, 0)


def sentence(error: Exception) -> str:
    """What ``error`` says, with a full stop unless it ends in a question."""
    text = str(error)
    return text if text.endswith((".", "?")) else f"{text}."


def nearest(name: object, valid: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the closest of ``valid``, or an empty string."""
    close = difflib.get_close_matches(name, list(valid), n=1, cutoff=0.5) if isinstance(name, str) else []
    return f" Did you mean {close[0]!r}?" if close else ""


def one_of(name: str, value: Any, valid: Iterable[Any]) -> None:
    """Raise ``ValueError`` unless ``value`` is one of ``valid``; the message lists them and names the nearest."""
    choices = list(valid)
    if value not in choices:
        names = list(map(str, choices))
        raise ValueError(f"{name}={shown(value)} is unknown; valid: {', '.join(names)}.{nearest(value, names)}")


def known_names(what: str, given: Iterable[str], valid: Iterable[str]) -> None:
    """Raise ``TypeError`` if a keyword is not among ``valid``; the message lists the valid ones."""
    choices = list(valid)
    for name in given:
        if name not in choices:
            raise TypeError(
                f"{what} has no setting {shown(name)}; valid: {', '.join(choices)}.{nearest(name, choices)}"
            )


def images(name: str, x: Tensor, shape: tuple[int, ...] | None = None) -> None:
    """Raise ``ValueError`` unless ``x`` is a float batch ``[n, *shape]`` of finite values in [-1, 1]."""
    from torch import Tensor

    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2 or x.shape[0] == 0:
        raise ValueError(f"{name} must be a non-empty float tensor [n, C, H, W] with values in [-1, 1].")
    if shape is not None and tuple(x.shape[1:]) != tuple(shape):
        raise ValueError(f"{name} has shape {list(x.shape)}; expected [n, {', '.join(map(str, shape))}].")
    low, high = x.min().item(), x.max().item()
    if not (low >= -1.0001 and high <= 1.0001):
        raise ValueError(f"{name} has values from {low:.3g} to {high:.3g}; they must be finite and in [-1, 1].")


def latents(name: str, z: Tensor, latent_dim: int | None = None) -> None:
    """Raise ``ValueError`` unless ``z`` is a finite float32 tensor ``[n, latent_dim]`` (None: of any width)."""
    import torch

    shape = list(z.shape) if isinstance(z, torch.Tensor) else []
    if len(shape) != 2 or shape[0] == 0 or latent_dim not in (None, shape[1]):
        wrong = shape or type(z).__name__
        raise ValueError(f"{name} is {wrong}; expected a float32 tensor [n, {latent_dim or 'd'}] of latents.")
    if z.dtype != torch.float32 or not torch.isfinite(z).all():
        raise ValueError(f"{name} must be finite float32 latents; got dtype {z.dtype}.")


def printable(text: str) -> str:
    """``text`` on one line, with ``?`` for every character that is not plain: names in a stranger's file are bytes."""
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))


class Settings:
    """Base of the frozen dataclasses that hold hyper-parameters: an unknown keyword lists the valid ones."""

    __dataclass_fields__: ClassVar[dict[str, Any]]  # of the dataclass that is derived from this

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        if args:
            raise TypeError(f"{cls.__name__} takes keyword arguments only, such as {fields(cls)[0].name}=...")
        known_names(cls.__name__, settings, [field.name for field in fields(cls) if field.init])
        return super().__new__(cls)


def read_bytes(path: Path, what: str, *, most: int, missing: str = "") -> bytes:
    """The content of a file that should hold ``what``, such as ``"sealed key"``.

    ``FileNotFoundError`` (whose sentence ends in ``missing``) or, above ``most`` bytes, ``ValueError``.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, it answers for names that are too long
        raise FileNotFoundError(f"no {what} {cut(str(path))}{missing}.")
    if (size := path.stat().st_size) > most:
        raise ValueError(f"{path.name} has {size:,} bytes; at most {most:,} are accepted.")
    return path.read_bytes()


def read_json(
    path: Path,
    what: str,
    types: Mapping[str, Any],
    *,
    optional: Collection[str] = (),
    others: bool = False,
    version: int | None = None,
    most: int = 2**20,
    missing: str = "",
) -> dict[str, Any]:
    """The JSON object in a file that should hold ``what``; ``FileNotFoundError`` or ``ValueError`` in one sentence.

    ``types`` maps its keys to what their values must be: a class, ``dict[str, ...]``, or a union of those. Keys may be
    missing if ``optional`` lists them, and others than these are accepted with ``others``. Where there is a
    ``version``, the key ``format`` must hold it. More than ``most`` bytes are not read.
    """
    content = read_bytes(path, what, most=most, missing=missing)
    try:
        values = json.loads(content)
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, no object")
        if version is not None and values.get("format") != version:
            raise ValueError(f"its format is {shown(values.get('format'))}; this version reads format {version}")
        known_names("it", () if others else values, types)
        for name, kind in types.items():
            if name not in values and name not in optional:
                raise ValueError(f"it has no {name!r}")
            if name in values and not _fits(values[name], kind):
                expected = str(kind).replace("typing.", "") if get_args(kind) else kind.__name__
                raise ValueError(f"{name}={shown(values[name])} is not valid: expected {expected}")
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{cut(path.name)} is not a {what}: {sentence(error)}") from None
    return values


def _fits(value: object, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, choice) for choice in get_args(kind))
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    if get_origin(kind) is dict:
        inner = get_args(kind)[1]
        return isinstance(value, dict) and (inner is Any or all(_fits(item, inner) for item in value.values()))
    return isinstance(value, (int, float) if kind is float else kind)
