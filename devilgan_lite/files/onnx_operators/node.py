"""What a builder works with: its ``Node``, the ``Value`` of each input, and ``operator``, which registers it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.files.sniff import Refused

DTYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
DTYPES |= {4: torch.int64, 12: torch.int64, 13: torch.int64, 9: torch.bool}  # unsigned ones that torch has no sums for
DTYPES |= dict.fromkeys((10, 11, 16), torch.float32)  # float16, float64 and bfloat16 are read as float32
MOST_SETTINGS = 10_000  # numbers of a shape, or of what else a list tells an operator


@dataclass(frozen=True)
class Value:
    """A value of the graph. It is known, or it depends on the latents: then ``tensor`` is on ``meta``, a shape only."""

    name: str
    tensor: Tensor

    @property
    def live(self) -> bool:
        """Whether it depends on the latents."""
        return self.tensor.is_meta

    def like(self, tensor: Tensor) -> "Value":
        """Another known value, made of this one."""
        return Value(self.name, tensor)


@dataclass(frozen=True)
class Node:
    """An operator with its inputs; ``emit(function, *values, **settings)`` adds a step and returns what it makes.

    ``batch`` is the number of latents that runs through the graph now, and ``frozen`` the one that the file was
    exported with, where constants equal to it are to be read as "as many as there are latents".
    """

    operator: str
    opset: int
    attributes: dict[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: int
    batch: int
    frozen: int | None
    emit: Callable[..., Any]

    @property
    def x(self) -> Value:
        """The first input."""
        return self[0]

    def __getitem__(self, index: int) -> Value:
        if index >= len(self.inputs) or (value := self.inputs[index]) is None:
            raise Refused(f"operator {self.operator} lacks its input {index + 1}.")
        return value

    def optional(self, index: int) -> Value | None:
        return self.inputs[index] if index < len(self.inputs) else None

    def known(self, index: int) -> Tensor | None:
        """The input, which must not depend on the latents; None if it is left out."""
        value = self.optional(index)
        if value is not None and value.live:
            raise Refused(
                f"operator {self.operator} gets a shape or setting that depends on the values of the latents; "
                "only constants and shapes are accepted there."
            )
        return None if value is None else value.tensor

    def numbers(self, index: int, attribute: str) -> list[Any] | None:
        """A short list of numbers, which older opsets hold in an ``attribute`` and newer ones in an input."""
        found = self.known(index)
        if found is not None and found.numel() > MOST_SETTINGS:
            raise self.refuse(f"{found.numel():,} numbers as its {attribute}")
        given = self.attributes.get(attribute) if found is None else found.reshape(-1).tolist()
        return given if given is None or isinstance(given, list) else [given]

    def text(self, attribute: str, default: str) -> str:
        return str(self.attributes.get(attribute, default))

    def refuse(self, what: str) -> Refused:
        return Refused(f"operator {self.operator} with {what} is not read.")


Builder = Callable[[Node], Any]  # the value that the operator makes, or a tuple of them
OPERATORS: dict[str, Builder] = {}


def operator(*names: str) -> Callable[[Builder], Builder]:
    def register(builder: Builder) -> Builder:
        OPERATORS.update(dict.fromkeys(names, builder))
        return builder

    return register


def reshaped(node: Node, x: Value, shape: Sequence[int]) -> Value:
    made: Value = x if tuple(shape) == x.tensor.shape else node.emit(torch.reshape, x, shape=tuple(shape))
    return made


def outermost_last(pads: Sequence[int]) -> tuple[int, ...]:
    """Pads in ONNX's order (all beginnings, all ends) in torch's: last axis first, beginning and end in turn."""
    half = len(pads) // 2
    return tuple(pad for begin, end in zip(pads[:half][::-1], pads[half:][::-1], strict=True) for pad in (begin, end))


def gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    axis %= x.ndim
    flat = x.index_select(axis, index.reshape(-1).long())
    return flat.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])
