"""What a page computes, as data: ``Plan`` is the steps of one generator, ``Made`` is what a step has made."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from devilgan_lite.checks import cut


@dataclass(frozen=True)
class Made:
    """What a step has made: numbers of the value ``at``, at the places ``index`` (None: as they are; -1: a zero)."""

    at: int
    shape: tuple[int, ...]
    index: Tensor | None = None


@dataclass
class Plan:
    """The ``steps`` of one generator; they name ``tensors`` by number. Value 0 is the latent, ``result`` the sample."""

    tensors: list[Tensor]
    latent: int
    steps: list[dict[str, Any]] = field(default_factory=list)
    values: int = 1
    result: Any = None

    def emit(self, op: str, shape: Sequence[int], **settings: Any) -> Made:
        """Add a step that makes a value of this shape."""
        step = {"op": op, **settings, "out": self.values, "length": math.prod(shape)}
        self.steps.append(step)
        self.values += 1
        return Made(step["out"], tuple(shape))

    def tensor(self, value: Tensor) -> dict[str, int]:
        self.tensors.append(value.detach().float().contiguous())
        return {"t": len(self.tensors) - 1}

    def operand(self, value: Any) -> Any:
        """How a step names what it reads: ``None``, a number, a tensor, or a value of an earlier step."""
        if value is None or isinstance(value, (int, float)):
            return value
        if isinstance(value, Tensor):
            return float(value) if value.numel() == 1 else self.tensor(value)
        if value.index is not None:
            value = self.emit("gather", value.shape, x={"v": value.at}, index=self.tensor(value.index.flatten()))
        return {"v": value.at}


def unknown(name: str) -> ValueError:
    return ValueError(
        f"the page cannot compute the operator {cut(name, 80)}: it knows dense layers, convolutions, batch norm, "
        "resizing, sums, and what acts on each number alone."
    )


def binary(plan: Plan, name: str, a: Any, b: Any, shape: tuple[int, ...]) -> Made:
    """A step with broadcasting: number i of the result reads number ``i // inner % count`` of each side."""

    def pattern(value: Any) -> tuple[Any, list[int]]:
        own = () if isinstance(value, (int, float)) else tuple(value.shape)
        own = (1,) * (len(shape) - len(own)) + own
        wide = [axis for axis, size in enumerate(own) if size > 1]
        count = math.prod(own)
        inner = math.prod(shape[wide[-1] + 1 :]) if wide else 1
        covered = not wide or own[wide[0] : wide[-1] + 1] == shape[wide[0] : wide[-1] + 1]
        if not covered:
            raise unknown(f"{name} of {list(own)} spread over {list(shape)}")
        return plan.operand(value), [inner, count]

    (left, an), (right, bn) = pattern(a), pattern(b)
    return plan.emit("binary", shape, name=name, a=left, b=right, an=an, bn=bn)
