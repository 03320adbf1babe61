"""The operators with weights or with a size of their own, as steps: what ``LAYERS`` lists by its name."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from devilgan_lite.apps.show.phone.plan import Made, Plan, binary, unknown


def _linear(plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None) -> Made:
    if not isinstance(x, Made) or not isinstance(weight, Tensor) or isinstance(bias, Made):
        raise unknown("a product of two values that depend on the latent")
    settings = {"rows": math.prod(shape[:-1]), "inputs": weight.shape[1], "outputs": weight.shape[0]}
    given = {"x": plan.operand(x), "w": plan.tensor(weight), "b": None if bias is None else plan.tensor(bias)}
    return plan.emit("linear", shape, **given, **settings)


def _matmul(plan: Plan, shape: tuple[int, ...], x: Any, weight: Any) -> Made:
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise unknown("a product of two values that depend on the latent")
    return _linear(plan, shape, x, weight.T)


def _einsum(plan: Plan, shape: tuple[int, ...], equation: str, operands: list[Any], **_: Any) -> Made:
    if equation.replace(" ", "") != "ni,io->no":
        raise unknown(f"einsum {equation}")
    return _matmul(plan, shape, *operands)


def _batch_norm(
    plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> Made:
    if mean is None or rest[0]:
        raise unknown("batch_norm in training mode")
    scale = (variance.double() + rest[2]).rsqrt() * (1.0 if weight is None else weight.double())
    shift = (0.0 if bias is None else bias.double()) - mean.double() * scale
    tail = (1,) * (len(shape) - 2)
    scaled = binary(plan, "mul", x, scale.float().view(-1, *tail), shape)
    return binary(plan, "add", scaled, shift.float().view(-1, *tail), shape)


def _pair(value: Any) -> tuple[int, int]:
    one = list(value) if isinstance(value, (list, tuple)) else [value]
    return one[0], one[-1]


def _conv(
    plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> Made:  # fmt: skip
    if _pair(stride) != (1, 1) or isinstance(padding, str):
        raise unknown("conv2d with a stride")
    sizes = zip(weight.shape[2:], _pair(dilation), _pair(padding), strict=True)
    taps = [[[(k, k * d - p) for k in range(size)]] for size, d, p in sizes]
    return _tapped(plan, shape, x, weight, bias, groups, (1, 1), taps, False)


def _transposed(
    plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Made:  # fmt: skip
    """Each of ``stride^2`` phases of the output is a convolution of its own, with the taps that reach it."""
    step = _pair(stride)
    taps = []
    for size, s, p, d in zip(weight.shape[2:], step, _pair(padding), _pair(dilation), strict=True):
        reach = [[(k, (phase + p - k * d) // s) for k in range(size) if (phase + p - k * d) % s == 0]
                 for phase in range(s)]  # fmt: skip
        taps.append(reach)
    return _tapped(plan, shape, x, weight, bias, groups, step, taps, True)


def _tapped(
    plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any, groups: int, step: tuple[int, int],
    taps: list[list[list[tuple[int, int]]]], transposed: bool,
) -> Made:  # fmt: skip
    if groups != 1 or isinstance(weight, Made) or isinstance(bias, Made):
        raise unknown("a convolution in groups, or with weights that depend on the latent")
    phases = [
        [row, column, [[ky, kx, dy, dx] for ky, dy in down for kx, dx in along]]
        for row, down in enumerate(taps[0])
        for column, along in enumerate(taps[1])
    ]
    if not all(phase[2] for phase in phases):
        raise unknown("a transposed convolution whose stride is larger than its kernel")
    settings = {
        "size": list(x.shape[1:]),
        "made": list(shape[1:]),
        "grid": [-(-shape[2] // step[0]), -(-shape[3] // step[1])],
        "kernel": list(weight.shape[2:]),
        "step": list(step),
        "transposed": transposed,
        "phases": phases,
    }
    epilogue = {"pre": None, "scale": None, "shift": None, "slope": 1.0, "gain": 1.0}
    epilogue["shift"] = None if bias is None else plan.operand(bias)
    return plan.emit("conv", shape, x=plan.operand(x), w=plan.tensor(weight), **settings, **epilogue)


def _between(size: int, made: int, scale: float | None, corners: bool) -> list[list[Any]]:
    """For each of ``made`` rows: the two rows that it lies between, and its share of the second (bilinear)."""
    ratio = (size - 1) / max(1, made - 1) if corners else (1 / scale if scale else size / made)
    low: list[int] = []
    high: list[int] = []
    share: list[float] = []
    for index in range(made):
        at = index * ratio if corners else max(0.0, (index + 0.5) * ratio - 0.5)
        low.append(min(size - 1, int(at)))
        high.append(min(size - 1, low[-1] + 1))
        share.append(at - low[-1] if high[-1] > low[-1] else 0.0)
    return [low, high, share]


def _bilinear(plan: Plan, shape: tuple[int, ...], x: Any, size: Any, corners: bool, *scales: Any) -> Made:
    given = scales[0] if len(scales) == 1 else scales
    factors = list(given) if given else [None, None]
    tables = [_between(x.shape[a], shape[a], factors[a - 2], corners) for a in (2, 3)]
    return _resized(plan, shape, x, tables)


def _nearest(plan: Plan, shape: tuple[int, ...], x: Any, size: Any, *scales: Any) -> Made:
    tables = []
    for axis in (2, 3):
        rows = [min(x.shape[axis] - 1, index * x.shape[axis] // shape[axis]) for index in range(shape[axis])]
        tables.append([rows, rows, [0.0] * len(rows)])
    return _resized(plan, shape, x, tables)


def _resized(plan: Plan, shape: tuple[int, ...], x: Any, tables: list[Any]) -> Made:
    settings = {"planes": shape[1], "size": list(x.shape[2:]), "rows": tables[0], "columns": tables[1]}
    return plan.emit("resize", shape, x=plan.operand(x), **settings)


def _reduced(name: str) -> Callable[..., Made]:
    def reduce(plan: Plan, shape: tuple[int, ...], x: Any, *args: Any, **_: Any) -> Made:
        if name == "norm":
            if args and args[0] != 2:
                raise unknown("a norm of another order than 2")
            args = args[1:]
        axes = sorted(
            axis % len(x.shape) for axis in (args[0] if args and args[0] is not None else range(len(x.shape)))
        )
        if axes != list(range(axes[0], axes[-1] + 1)):
            raise unknown(f"{name} over separate dimensions")
        count, inner = math.prod(x.shape[axes[0] : axes[-1] + 1]), math.prod(x.shape[axes[-1] + 1 :])
        return plan.emit("reduce", shape, name=name, x=plan.operand(x), count=count, inner=inner)

    return reduce


LAYERS: dict[str, Callable[..., Made]] = {
    "linear": _linear,
    "matmul": _matmul,
    "mm": _matmul,
    "addmm": lambda plan, shape, bias, x, weight: _linear(plan, shape, x, weight.T, bias),
    "einsum": _einsum,
    "batch_norm": _batch_norm,
    "conv2d": _conv,
    "conv_transpose2d": _transposed,
    "upsample_bilinear2d": _bilinear,
    "upsample_nearest2d": _nearest,
    "sum": _reduced("sum"),
    "mean": _reduced("mean"),
    "linalg_vector_norm": _reduced("norm"),
}
