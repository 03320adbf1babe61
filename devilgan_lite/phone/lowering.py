"""A generator written down for the page: a list of steps on flat arrays, one latent at a time, and their tensors.

``torch.export`` gives the graph of any module. What does not depend on the latent is computed here, once; what only
moves numbers (views, slices, transposes) becomes a table of places, or nothing; layers, activations and resizing stay.
``engine.js`` does the same steps. An operator that it does not know is one sentence here, when the page is built.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from devilgan_lite.checks import cut
from devilgan_lite.phone.fusing import fused

MOVES = frozenset(
    "view reshape _unsafe_view unflatten flatten expand expand_as numpy_T slice split split_with_sizes chunk unbind "
    "select permute transpose t unsqueeze squeeze dropout feature_dropout contiguous detach alias to _to_copy clone "
    "repeat pad constant_pad_nd reflection_pad2d replication_pad2d pixel_shuffle flip narrow getitem cat stack".split()
)
UNARY = frozenset("relu elu tanh sigmoid silu softplus exp sqrt rsqrt square abs neg sin cos reciprocal".split())
CLAMPS = frozenset("clamp clamp_min clamp_max hardtanh leaky_relu".split())
BINARY = frozenset("add sub mul div pow maximum minimum".split())


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


def lowered(module: nn.Module, latent_shape: tuple[int, ...], tensors: list[Tensor]) -> Plan:
    """The steps of ``module``, which maps latents ``[n, *latent_shape]`` to pictures; ``tensors`` grows by its own.

    ``ValueError`` names what the page cannot compute.
    """
    module = module.cpu().eval()
    try:
        with torch.no_grad():
            exported = torch.export.export(module, (torch.zeros(1, *latent_shape),))
    except Exception as error:  # an exporter raises anything
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise ValueError(f"torch.export cannot read the generator ({cut(first, 120)}).") from error
    signature = exported.graph_signature
    stored: dict[str, Any] = {**exported.state_dict, **exported.constants}
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    plan = Plan(tensors, math.prod(latent_shape))
    known: dict[fx.Node, Any] = {}
    for node in exported.graph.nodes:
        if node.op == "placeholder":
            known[node] = stored[names[node.name]].detach() if node.name in names else Made(0, (1, *latent_shape))
        elif node.op == "call_function":
            args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), known.__getitem__)
            with torch.no_grad():
                known[node] = _lower(plan, node, args, kwargs)
        elif node.op == "output":
            (made,) = fx.node.map_arg(node.args[0], known.__getitem__)
            if not isinstance(made, Made):
                raise ValueError("the generator makes the same of every latent.")
            plan.result = plan.operand(made)
    plan.steps = fused(plan.steps, plan.tensors, plan.result)
    return plan


def _depends(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_depends, value.values()))
    return any(map(_depends, value)) if isinstance(value, (list, tuple)) else isinstance(value, Made)


def _lower(plan: Plan, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    target: Any = node.target
    name = getattr(target, "_opname", getattr(target, "__name__", str(target))).removesuffix("_")
    if not _depends((args, kwargs)):
        return target(*args, **kwargs)
    if name in MOVES:
        return _moved(plan, target, name, args, kwargs)
    shape = tuple(node.meta["val"].shape)
    if name in BINARY and not kwargs:
        return binary(plan, name, args[0], args[1], shape)
    if name in UNARY and (name in ("elu", "softplus") or len(args) == 1):
        if len(args) > 1 and name == "softplus":
            raise _unknown("softplus with settings")
        return plan.emit("unary", shape, name=name, x=plan.operand(args[0]), settings=list(args[1:2]))
    if name in CLAMPS:
        settings = list(args[1:])
        if name == "hardtanh":
            settings = settings or [-1.0, 1.0]
        settings = [None, *settings] if name == "clamp_max" else settings
        kind = "leaky_relu" if name == "leaky_relu" else "clamp"
        return plan.emit("unary", shape, name=kind, x=plan.operand(args[0]), settings=settings)
    if name in LAYERS:
        return LAYERS[name](plan, shape, *args, **kwargs)
    raise _unknown(name)


def _unknown(name: str) -> ValueError:
    known = ", ".join(sorted(name for name in LAYERS if not name.startswith("_")))
    return ValueError(
        f"the page cannot compute the operator {cut(name, 60)}: it knows {known}, and what acts on each number alone."
    )


def _moved(plan: Plan, target: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do to places in an array what the operator does to numbers; places start at 1, so that 0 is what is filled in."""
    if name in ("cat", "stack"):
        parts = [part if isinstance(part, Made) else plan.emit("concat", part.shape, parts=[plan.operand(part)])
                 for part in args[0]]  # fmt: skip
        whole = plan.emit("concat", (sum(math.prod(p.shape) for p in parts),), parts=[plan.operand(p) for p in parts])
        source, start, places = whole.at, 1, []
        for part in parts:
            places.append(torch.arange(start, start + math.prod(part.shape)).view(part.shape))
            start += math.prod(part.shape)
        moved = target(places, *args[1:], **kwargs)
    elif name == "getitem":
        return args[0][args[1]]
    else:
        value = args[0]
        if name in ("to", "_to_copy", "clone"):
            return value
        if name in ("pad", "constant_pad_nd") and any(args[2:]) and (args[2:3] != ("constant",) or any(args[3:])):
            raise _unknown("pad with something else than zeros")
        length = math.prod(value.shape)
        index = torch.arange(length).view(value.shape) if value.index is None else value.index
        source = value.at
        rest = [torch.empty(one.shape) if isinstance(one, Made) else one for one in args[1:]]
        floats = name.endswith("pad2d")  # reflection is not written for whole numbers
        moved = target(index.double() + 1 if floats else index + 1, *rest, **kwargs)
    lengths = {0: plan.latent} | {step["out"]: step["length"] for step in plan.steps}

    def place(index: Tensor) -> Made:
        index = index.long() - 1
        same = index.numel() == lengths[source] and torch.equal(index.flatten(), torch.arange(index.numel()))
        return Made(source, tuple(index.shape), None if same else index)

    return place(moved) if isinstance(moved, Tensor) else [place(one) for one in moved]


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
            raise _unknown(f"{name} of {list(own)} spread over {list(shape)}")
        return plan.operand(value), [inner, count]

    (left, an), (right, bn) = pattern(a), pattern(b)
    return plan.emit("binary", shape, name=name, a=left, b=right, an=an, bn=bn)


def _linear(plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any = None) -> Made:
    if not isinstance(x, Made) or not isinstance(weight, Tensor) or isinstance(bias, Made):
        raise _unknown("a product of two values that depend on the latent")
    settings = {"rows": math.prod(shape[:-1]), "inputs": weight.shape[1], "outputs": weight.shape[0]}
    given = {"x": plan.operand(x), "w": plan.tensor(weight), "b": None if bias is None else plan.tensor(bias)}
    return plan.emit("linear", shape, **given, **settings)


def _matmul(plan: Plan, shape: tuple[int, ...], x: Any, weight: Any) -> Made:
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise _unknown("a product of two values that depend on the latent")
    return _linear(plan, shape, x, weight.T)


def _einsum(plan: Plan, shape: tuple[int, ...], equation: str, operands: list[Any], **_: Any) -> Made:
    if equation.replace(" ", "") != "ni,io->no":
        raise _unknown(f"einsum {equation}")
    return _matmul(plan, shape, *operands)


def _batch_norm(
    plan: Plan, shape: tuple[int, ...], x: Any, weight: Any, bias: Any, mean: Any, variance: Any, *rest: Any
) -> Made:
    if mean is None or rest[0]:
        raise _unknown("batch_norm in training mode")
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
        raise _unknown("conv2d with a stride")
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
        raise _unknown("a convolution in groups, or with weights that depend on the latent")
    phases = [
        [row, column, [[ky, kx, dy, dx] for ky, dy in down for kx, dx in along]]
        for row, down in enumerate(taps[0])
        for column, along in enumerate(taps[1])
    ]
    if not all(phase[2] for phase in phases):
        raise _unknown("a transposed convolution whose stride is larger than its kernel")
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


def _between(size: int, made: int, scale: float | None, corners: bool) -> list[list[float]]:
    """For each of ``made`` rows: the two rows that it lies between, and its share of the second (bilinear)."""
    ratio = (size - 1) / max(1, made - 1) if corners else (1 / scale if scale else size / made)
    low, high, share = [], [], []
    for index in range(made):
        at = index * ratio if corners else max(0.0, (index + 0.5) * ratio - 0.5)
        low.append(min(size - 1, int(at)))
        high.append(min(size - 1, low[-1] + 1))
        share.append(at - low[-1] if high[-1] > low[-1] else 0.0)
    return [low, high, share]


def _bilinear(
    plan: Plan, shape: tuple[int, ...], x: Any, size: Any, corners: bool, *scales: Any
) -> Made:
    given = scales[0] if len(scales) == 1 and isinstance(scales[0], (list, tuple)) else scales
    factors = list(given or ()) or [None, None]
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
                raise _unknown("a norm of another order than 2")
            args = args[1:]
        axes = sorted(axis % len(x.shape) for axis in (args[0] if args and args[0] is not None else range(len(x.shape))))
        if axes != list(range(axes[0], axes[-1] + 1)):
            raise _unknown(f"{name} over separate dimensions")
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
