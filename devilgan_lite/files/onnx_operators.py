"""The operators of ONNX that are read, each as a few operations of torch: ``OPERATORS`` maps a name to its builder.

A builder gets a ``Node``, takes what is known of its inputs (weights, shapes, attributes) and emits operations.
Operators differ between opsets 7 and 25; where they do, the comment names the opset.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.checks import shown
from devilgan_lite.files.program import MOST_ELEMENTS, Trace, Value
from devilgan_lite.files.sniff import Refused

DTYPES = {1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64}
DTYPES |= {4: torch.int64, 12: torch.int64, 13: torch.int64, 9: torch.bool}  # unsigned ones that torch has no sums for
DTYPES |= dict.fromkeys((10, 11, 16), torch.float32)  # float16, float64 and bfloat16 are read as float32
MOST_SETTINGS = 10_000  # numbers of a shape, or of what else a list tells an operator


@dataclass(frozen=True)
class Node:
    """An operator with its inputs, in the walk that ``trace`` notes.

    ``frozen`` is the number of latents that the file was exported with, where constants equal to it are to be read as
    the number of latents in this walk.
    """

    operator: str
    opset: int
    attributes: dict[str, Any]
    inputs: tuple[Value | None, ...]
    outputs: int
    trace: Trace
    frozen: int | None = None

    @property
    def batch(self) -> int:
        """How many latents run through the graph in this walk."""
        return self.trace.batch

    @property
    def emit(self) -> Callable[..., Any]:
        """Adds an operation to the trace, ``emit(function, *operands, **settings)``; returns what it makes."""
        return self.trace.emit

    @property
    def x(self) -> Value:
        """The first input."""
        return self[0]

    @property
    def all(self) -> list[Value]:
        """Every input; none may be missing."""
        return [self[index] for index in range(len(self.inputs))]

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


def reshaped(trace: Trace, x: Value, shape: Sequence[int]) -> Value:
    made: Value = x if tuple(shape) == x.tensor.shape else trace.emit(torch.reshape, x, shape=tuple(shape))
    return made


def outermost_last(pads: Sequence[int]) -> tuple[int, ...]:
    """Pads in ONNX's order (all beginnings, all ends) in torch's: last axis first, beginning and end in turn."""
    half = len(pads) // 2
    return tuple(pad for begin, end in zip(pads[:half][::-1], pads[half:][::-1], strict=True) for pad in (begin, end))


def gather(x: Tensor, index: Tensor, axis: int) -> Tensor:
    axis %= x.ndim
    flat = x.index_select(axis, index.reshape(-1).long())
    return flat.reshape(*x.shape[:axis], *index.shape, *x.shape[axis + 1 :])


# --- operators that are one function of torch: the function, and its settings as (attribute, keyword, default)
def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


ALPHA, SELU = ("alpha", "alpha", 1.0), {"alpha": 1.6733, "gamma": 1.0507}
DIRECT: dict[str, tuple[Callable[..., Any], tuple[tuple[str, str, Any], ...]]] = {
    "LeakyRelu": (functional.leaky_relu, (("alpha", "negative_slope", 0.01),)),
    "Elu": (functional.elu, (ALPHA,)),
    "Celu": (functional.celu, (ALPHA,)),
    "Gelu": (functional.gelu, (("approximate", "approximate", "none"),)),
    "HardSigmoid": (hard_sigmoid, (("alpha", "alpha", 0.2), ("beta", "beta", 0.5))),
    "ThresholdedRelu": (functional.threshold, (("alpha", "threshold", 1.0), ("", "value", 0.0))),
}
FUNCTIONAL = "Relu Selu Mish Softplus HardSwish Softsign"
TORCH = "Sqrt Exp Log Abs Neg Sin Cos Erf Reciprocal Sign Floor Ceil Round Tanh Sigmoid Pow Add Sub Mul Where"
DIRECT |= {name: (getattr(functional, name.lower()), ()) for name in FUNCTIONAL.split()}
DIRECT |= {name: (getattr(torch, name.lower()), ()) for name in TORCH.split()}
DIRECT |= {"Not": (torch.logical_not, ()), "And": (torch.logical_and, ()), "Or": (torch.logical_or, ())}
DIRECT |= {"Equal": (torch.eq, ()), "Greater": (torch.gt, ()), "Less": (torch.lt, ())}
DIRECT |= {"GreaterOrEqual": (torch.ge, ()), "LessOrEqual": (torch.le, ())}


@operator(*DIRECT)
def _direct(node: Node) -> Value:
    function, settings = DIRECT[node.operator]
    for attribute, usual in SELU.items() if node.operator == "Selu" else ():
        if not abs(node.attributes.get(attribute, usual) - usual) < 1e-3:
            raise node.refuse(f"{attribute} of its own")
    given = {keyword: node.attributes.get(attribute, default) for attribute, keyword, default in settings}
    made: Value = node.emit(function, *node.all, **given)
    return made


@operator("Identity", "Dropout")
def _same(node: Node) -> Value:
    training = node.known(2) if node.operator == "Dropout" else None
    if training is not None and bool(training.any()):
        raise Refused("the file was exported in training mode (Dropout); export it after model.eval().")
    return node.x


@operator("Div", "Mod")
def _divide(node: Node) -> Any:
    whole = not node.x.tensor.is_floating_point()
    if node.operator == "Div":
        return node.emit(torch.div, node.x, node[1], rounding_mode="trunc" if whole else None)
    return node.emit(torch.fmod if node.attributes.get("fmod", 0) else torch.remainder, node.x, node[1])


@operator("Max", "Min", "Sum", "Mean")
def _many(node: Node) -> Any:
    function = {"Max": torch.maximum, "Min": torch.minimum}.get(node.operator, torch.add)
    made, *others = node.all
    for other in others:
        if function is torch.maximum and not other.live and not other.tensor.any() and not other.tensor.ndim:
            made = node.emit(functional.relu, made)
        else:
            made = node.emit(function, made, other)
    return node.emit(torch.div, made, other=len(node.inputs)) if node.operator == "Mean" else made


@operator("Clip")
def _clip(node: Node) -> Any:
    bounds = (node.numbers(at, name) for at, name in ((1, "min"), (2, "max")))  # inputs since opset 11
    low, high = (one[0] if one else None for one in bounds)
    if node.x.tensor.is_floating_point() and low == 0 and (high is None or high >= 3e38):
        return node.emit(functional.relu, node.x)
    if low == 0 and high == 6:
        return node.emit(functional.relu6, node.x)
    return node.x if low is high is None else node.emit(torch.clamp, node.x, min=low, max=high)


@operator("PRelu")
def _prelu(node: Node) -> Any:
    slope, x = node[1], node.x.tensor
    channels = x.shape[1] if x.ndim > 1 else 1
    aligned = (1,) * (x.ndim - slope.tensor.ndim) + tuple(slope.tensor.shape)
    if not slope.live and aligned in ((1, channels) + (1,) * (x.ndim - 2), (1,) * x.ndim):
        return node.emit(functional.prelu, node.x, slope.like(slope.tensor.reshape(-1)))
    return node.emit(prelu, node.x, slope)


def prelu(x: Tensor, slope: Tensor) -> Tensor:
    return functional.relu(x) - slope * functional.relu(-x)


# --- norms
@operator("BatchNormalization")
def _batch_norm(node: Node) -> Any:
    if node.attributes.get("training_mode", 0) or node.outputs != 1:
        raise Refused("the file was exported in training mode (BatchNormalization); export it after model.eval().")
    x, weight, bias, mean, variance = (node[index] for index in range(5))
    return node.emit(functional.batch_norm, x, mean, variance, weight, bias, eps=node.attributes.get("epsilon", 1e-5))


@operator("InstanceNormalization", "GroupNormalization", "LayerNormalization")
def _norm(node: Node) -> Any:
    weight, bias, eps = node[1], node.optional(2), node.attributes.get("epsilon", 1e-5)
    if node.operator == "InstanceNormalization":
        return node.emit(functional.instance_norm, node.x, None, None, weight, bias, eps=eps)
    if node.operator == "LayerNormalization":
        axis = range(node.x.tensor.ndim)[node.attributes.get("axis", -1)]
        shape = tuple(node.x.tensor.shape[axis:])
        wide = (one if one is None else node.emit(Tensor.expand, one, size=shape) for one in (weight, bias))
        return node.emit(functional.layer_norm, node.x, shape, *wide, eps=eps)
    groups = node.attributes["num_groups"]
    if node.opset < 21 and bias is not None:  # a scale and a bias for each group
        each = node.x.tensor.shape[1] // groups
        weight, bias = (node.emit(torch.repeat_interleave, one, repeats=each) for one in (weight, bias))
    return node.emit(functional.group_norm, node.x, groups, weight, bias, eps)


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node) -> Any:
    function = functional.softmax if node.operator == "Softmax" else functional.log_softmax
    if node.opset >= 13:
        return node.emit(function, node.x, dim=node.attributes.get("axis", -1))
    shape = tuple(node.x.tensor.shape)  # before opset 13, over all axes from this one on
    axis = range(len(shape))[node.attributes.get("axis", 1)]
    flat = reshaped(node.trace, node.x, (*shape[:axis], math.prod(shape[axis:])))
    return reshaped(node.trace, node.emit(function, flat, dim=-1), shape)


REDUCTIONS: dict[str, Callable[..., Any]] = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax}
REDUCTIONS |= {"ReduceMin": torch.amin, "ReduceL2": torch.linalg.vector_norm}
REDUCTIONS |= {"ReduceL1": lambda x, **how: x.abs().sum(**how)}
REDUCTIONS |= {"ReduceSumSquare": lambda x, **how: x.square().sum(**how)}


@operator(*REDUCTIONS)
def _reduce(node: Node) -> Any:
    axes = node.numbers(1, "axes") or []  # an input since opset 18 (ReduceSum: 13)
    if not axes and node.attributes.get("noop_with_empty_axes", 0) == 1:
        return node.x
    axes = axes or list(range(node.x.tensor.ndim))
    kept = node.attributes.get("keepdims", 1) == 1
    return node.emit(REDUCTIONS[node.operator], node.x, dim=tuple(axes), keepdim=kept)


# --- layers and pooling
AUTO_PADS = ("NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")


@operator("MatMul")
def _matmul(node: Node) -> Any:
    weight = node[1]
    if node.x.live and not weight.live and weight.tensor.ndim == 2:
        return node.emit(functional.linear, node.x, weight.like(weight.tensor.T), None)
    return node.emit(torch.matmul, node.x, weight)


@operator("Gemm")
def _gemm(node: Node) -> Any:
    a, b, c = node.x, node[1], node.optional(2)
    alpha, beta = node.attributes.get("alpha", 1.0), node.attributes.get("beta", 1.0)
    if node.attributes.get("transA", 0):
        a = node.emit(torch.permute, a, dims=(1, 0))
    if not node.attributes.get("transB", 0):
        b = node.emit(torch.permute, b, dims=(1, 0))
    if a.tensor.ndim != 2 or b.tensor.ndim != 2:
        raise node.refuse("anything but matrices")
    if alpha != 1:
        b = node.emit(torch.mul, b, other=alpha)
    if c is not None and beta != 1:
        c = node.emit(torch.mul, c, other=beta)
    width = b.tensor.shape[0]
    if c is None or (not c.live and c.tensor.numel() in (1, width) and c.tensor.shape[-1:] in ((), (1,), (width,))):
        bias = None if c is None else c.like(c.tensor.reshape(-1).expand(width))
        return node.emit(functional.linear, a, b, bias)
    return node.emit(torch.add, node.emit(functional.linear, a, b, None), c)


def _window(node: Node, kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Strides and dilations of a convolution or a pooling."""
    d = len(kernel)
    if d not in (1, 2, 3) or node.x.tensor.ndim != d + 2:
        raise node.refuse(f"{d} spatial axes on a tensor of {node.x.tensor.ndim} axes")
    if (auto := node.text("auto_pad", "NOTSET")) not in AUTO_PADS:
        raise node.refuse(f"auto_pad {shown(auto)}")
    return tuple(node.attributes.get("strides", [1] * d)), tuple(node.attributes.get("dilations", [1] * d))


def _padded(node: Node, kernel: Sequence[int], value: float | None = 0.0) -> tuple[Value, tuple[int, ...]]:
    """The input and the padding at both ends of its spatial axes; uneven padding is done before, with ``value``."""
    (strides, dilations), d, auto = _window(node, kernel), len(kernel), node.text("auto_pad", "NOTSET")
    pads = list(node.attributes.get("pads", [0] * 2 * d)) if auto == "NOTSET" else [0] * 2 * d
    if auto.startswith("SAME"):
        totals = []
        for size, k, stride, dilation in zip(node.x.tensor.shape[2:], kernel, strides, dilations, strict=True):
            totals.append(max(0, (math.ceil(size / stride) - 1) * stride + dilation * (k - 1) + 1 - size))
        small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
        pads = large + small if auto == "SAME_LOWER" else small + large
    if pads[d:] == pads[:d]:
        return node.x, tuple(pads[:d])
    if value is None:
        raise node.refuse("uneven padding that is not counted")
    return node.emit(functional.pad, node.x, pad=outermost_last(pads), value=value), (0,) * d


@operator("Conv")
def _convolution(node: Node) -> Any:
    kernel = node[1].tensor.shape[2:]
    (strides, dilations), (x, padding) = _window(node, kernel), _padded(node, kernel)
    settings = {"stride": strides, "padding": padding, "dilation": dilations, "groups": node.attributes.get("group", 1)}
    return node.emit(getattr(functional, f"conv{len(kernel)}d"), x, node[1], node.optional(2), **settings)


@operator("ConvTranspose")
def _transposed(node: Node) -> Any:
    kernel = node[1].tensor.shape[2:]
    strides, dilations = _window(node, kernel)
    d, auto = len(kernel), node.text("auto_pad", "NOTSET")
    extra = list(node.attributes.get("output_padding", [0] * d))
    sizes, wanted = node.x.tensor.shape[2:], node.attributes.get("output_shape")
    begin, end = [0] * d, [0] * d
    if wanted is None and auto in ("NOTSET", "VALID"):
        pads = node.attributes.get("pads", [0] * 2 * d) if auto == "NOTSET" else [0] * 2 * d
        begin, end = list(pads[:d]), list(pads[d:])
    else:
        wanted = list(wanted)[-d:] if wanted else [size * stride for size, stride in zip(sizes, strides, strict=True)]
        for i in range(d):
            total = strides[i] * (sizes[i] - 1) + extra[i] + (kernel[i] - 1) * dilations[i] + 1 - wanted[i]
            end[i] = total // 2 if auto != "SAME_UPPER" else total - total // 2
            begin[i] = total - end[i]
    if min(begin + end) < 0:
        raise node.refuse("negative padding")
    most = [max(pair) for pair in zip(strides, dilations, strict=True)]
    more = [extra[i] + begin[i] - end[i] for i in range(d)]  # torch takes as much from both ends, and adds at the end
    padding = [begin[i] if more[i] < most[i] else 0 for i in range(d)]
    added = [min(max(0, more[i] if padding[i] == begin[i] else extra[i]), most[i] - 1) for i in range(d)]
    crop = [[padding[i] - begin[i] for i in range(d)], [padding[i] + extra[i] - added[i] - end[i] for i in range(d)]]
    settings = {"stride": strides, "padding": tuple(padding), "output_padding": tuple(added), "dilation": dilations}
    function = getattr(functional, f"conv_transpose{d}d")
    made = node.emit(function, node.x, node[1], node.optional(2), **settings, groups=node.attributes.get("group", 1))
    return node.emit(functional.pad, made, pad=outermost_last(sum(crop, []))) if any(sum(crop, [])) else made


@operator("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node) -> Any:
    axes = tuple(range(2, node.x.tensor.ndim))
    return node.emit(torch.mean if node.operator == "GlobalAveragePool" else torch.amax, node.x, dim=axes, keepdim=True)


@operator("AveragePool", "MaxPool")
def _pool(node: Node) -> Any:
    kernel, largest = tuple(node.attributes["kernel_shape"]), node.operator == "MaxPool"
    (strides, dilations), counted = _window(node, kernel), bool(node.attributes.get("count_include_pad", 0))
    if node.outputs != 1 or (not largest and set(dilations) != {1}):
        raise node.refuse("indices or dilations")
    x, padding = _padded(node, kernel, -math.inf if largest else 0.0 if counted else None)
    settings = {"stride": strides, "padding": padding, "ceil_mode": bool(node.attributes.get("ceil_mode", 0))}
    settings |= {"dilation": dilations} if largest else {"count_include_pad": counted}
    function = getattr(functional, f"{'max' if largest else 'avg'}_pool{len(kernel)}d")
    return node.emit(function, x, kernel_size=kernel, **settings)


# --- operators that move numbers around
@operator("Reshape")
def _reshape(node: Node) -> Value:
    have, wanted = node.x.tensor.shape, node.numbers(1, "shape") or []
    if not node.attributes.get("allowzero", 0):
        wanted = [have[i] if size == 0 else size for i, size in enumerate(wanted)]
    if node.frozen is not None and node.x.live and wanted and have[:1] == (node.batch,) and wanted[0] == node.frozen:
        wanted[0] = node.batch
    if wanted.count(-1) == 1 and (others := -math.prod(wanted)) > 0:
        wanted[wanted.index(-1)] = math.prod(have) // others
    return reshaped(node.trace, node.x, wanted)


@operator("Flatten")
def _flatten(node: Node) -> Value:
    shape, axis = node.x.tensor.shape, node.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return reshaped(node.trace, node.x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


@operator("Transpose")
def _transpose(node: Node) -> Any:
    order = node.attributes.get("perm", list(range(node.x.tensor.ndim))[::-1])
    return node.emit(torch.permute, node.x, dims=tuple(order))


@operator("Squeeze")
def _squeeze(node: Node) -> Any:
    axes = node.numbers(1, "axes")  # an input since opset 13
    if axes is None:
        axes = [axis for axis, size in enumerate(node.x.tensor.shape) if size == 1]
    return node.emit(torch.squeeze, node.x, dim=tuple(axes))


@operator("Unsqueeze")
def _unsqueeze(node: Node) -> Any:
    axes, made = node.numbers(1, "axes") or [], node.x  # an input since opset 13
    rank = made.tensor.ndim + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        made = node.emit(torch.unsqueeze, made, dim=axis)
    return made


@operator("Concat")
def _concat(node: Node) -> Any:
    return node.emit(torch.cat, node.all, dim=node.attributes["axis"])


@operator("Split")
def _split(node: Node) -> Any:
    axis, sizes = node.attributes.get("axis", 0), node.numbers(1, "split")  # an input since opset 13
    if sizes is None:  # parts of the same size, the last one smaller (opset 18)
        parts, whole = node.outputs, node.x.tensor.shape[axis]
        edges = [min(whole, i * math.ceil(whole / parts)) for i in range(parts + 1)]
        sizes = [end - begin for begin, end in pairwise(edges)]
    if len(sizes) == 1:
        return node.x
    return node.emit(torch.split, node.x, split_size_or_sections=sizes, dim=axis)


@operator("Slice")
def _slice(node: Node) -> Any:
    starts, ends = node.numbers(1, "starts") or [], node.numbers(2, "ends") or []  # inputs since opset 10
    axes = node.numbers(3, "axes") or list(range(len(starts)))
    made = node.x
    for axis, start, end, step in zip(axes, starts, ends, node.numbers(4, "steps") or [1] * len(axes), strict=True):
        size = made.tensor.shape[axis]
        taken = slice(max(start, -size), end if end >= -size else None, step)
        if step > 0:
            made = node.emit(sliced, made, axis=axis, start=start, stop=end, step=step)
        else:
            places = range(size)[taken]
            index = torch.arange(places.start, places.stop, places.step)
            made = node.emit(gather, made, Value("index", index), axis=axis)
    return made


def sliced(x: Tensor, axis: int, start: int, stop: int, step: int) -> Tensor:
    return x[(slice(None),) * (axis % x.ndim) + (slice(start, stop, step),)]


@operator("Gather")
def _gather(node: Node) -> Any:
    axis, index = node.attributes.get("axis", 0), node[1]
    if not index.live:
        size = node.x.tensor.shape[axis]
        index = index.like(index.tensor.long() % size) if size else index
        if bool((node[1].tensor.long() < -size).any() or (node[1].tensor.long() >= size).any()):
            raise node.refuse(f"an index outside of an axis of {size:,}")
        if not index.tensor.ndim:
            return node.emit(torch.select, node.x, dim=axis, index=int(index.tensor))
    return node.emit(gather, node.x, index, axis=axis)


@operator("Expand")
def _expand(node: Node) -> Any:
    wanted = list(node.numbers(1, "shape") or [])
    if node.frozen not in (None, 1) and wanted[:1] == [node.frozen]:
        wanted[0] = node.batch
    size = tuple(torch.broadcast_shapes(node.x.tensor.shape, wanted))
    return node.x if size == node.x.tensor.shape else node.emit(Tensor.expand, node.x, size=size)


@operator("Tile")
def _tile(node: Node) -> Any:
    return node.emit(torch.tile, node.x, dims=tuple(node.numbers(1, "repeats") or ()))


UNSIGNED = (4, 12, 13)  # ONNX's types of 16, 32 and 64 bits
PADDINGS = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}


@operator("Pad")
def _pad(node: Node) -> Any:
    x, mode = node.x.tensor, PADDINGS[node.text("mode", "constant")]
    given, axes, value = node.numbers(1, "pads") or [], node.known(3), node.numbers(2, "value") or [0.0]
    places = list(range(x.ndim)) if axes is None else [int(axis) % x.ndim for axis in axes.reshape(-1).tolist()]
    pads = [0] * 2 * x.ndim
    for i, axis in enumerate(places):
        pads[axis], pads[x.ndim + axis] = given[i], given[len(places) + i]
    flat = list(outermost_last(pads))
    least = 2 * (x.ndim - 2) if mode != "constant" else 0  # torch pads pictures that way, and nothing else
    while len(flat) > least and flat[-2:] == [0, 0]:
        flat = flat[:-2]
    return node.emit(functional.pad, node.x, pad=tuple(flat), mode=mode, value=value[0] if mode == "constant" else None)


@operator("DepthToSpace", "SpaceToDepth")
def _depth(node: Node) -> Any:
    (n, c, h, w), b = node.x.tensor.shape, node.attributes["blocksize"]
    if node.operator == "SpaceToDepth":
        first, order, last = (n, c, h // b, b, w // b, b), (0, 3, 5, 1, 2, 4), (n, c * b * b, h // b, w // b)
    elif node.text("mode", "DCR") == "CRD":
        return node.emit(functional.pixel_shuffle, node.x, upscale_factor=b)
    else:
        first, order, last = (n, b, b, c // (b * b), h, w), (0, 3, 4, 1, 5, 2), (n, c // (b * b), h * b, w * b)
    return reshaped(node.trace, node.emit(torch.permute, reshaped(node.trace, node.x, first), dims=order), last)


# --- values that need no latent
@operator("Constant")
def _constant(node: Node) -> Value:
    (value,) = node.attributes.values()
    if isinstance(value, str):
        raise Refused("the file holds text as a value; only numbers are read.")
    return Value("constant", value if isinstance(value, Tensor) else torch.tensor(value))


@operator("ConstantOfShape")
def _filled(node: Node) -> Any:
    value = node.attributes.get("value", torch.zeros(1))
    shape = tuple(int(size) for size in node.numbers(0, "shape") or ())
    return node.emit(Tensor.expand, Value("constant", value.reshape(())), size=shape)


@operator("Shape", "Size")
def _shape(node: Node) -> Value:
    shape = list(node.x.tensor.shape)
    if node.operator == "Size":
        return Value("size", torch.tensor(math.prod(shape)))
    return Value("shape", torch.tensor(shape[node.attributes.get("start", 0) : node.attributes.get("end")]).long())


@operator("Cast", "CastLike")
def _cast(node: Node) -> Any:
    target = DTYPES.get(node.attributes["to"]) if node.operator == "Cast" else node[1].tensor.dtype
    whole = node.attributes["to"] in UNSIGNED if node.operator == "Cast" else not node[1].tensor.is_floating_point()
    if node.x.live and whole:  # they wrap around below 0, where torch goes on
        raise Refused(
            f"operator {node.operator} makes whole numbers without a sign of the latents, which are not read."
        )
    if target is None:
        raise Refused(f"operator Cast to ONNX's type {node.attributes['to']} is not read; only numbers are.")
    return node.x if target == node.x.tensor.dtype else node.emit(Tensor.to, node.x, dtype=target)


@operator("Range")
def _range(node: Node) -> Any:
    tensors = [node.known(index) for index in range(3)]
    start, stop, step = (0 if tensor is None else tensor.item() for tensor in tensors)
    if step == 0 or not abs(stop - start) / abs(step) <= MOST_ELEMENTS:
        raise node.refuse(f"more than {MOST_ELEMENTS:,} numbers")
    stop = stop if (stop - start) / step > 0 else start
    return node.emit(torch.arange, start=start, end=stop, step=step, dtype=node.x.tensor.dtype)


@operator("Einsum")
def _einsum(node: Node) -> Any:
    if len(node.inputs) > 2:  # what lies between them may be of any size
        raise node.refuse("more than two inputs")
    return node.emit(torch.einsum, node.text("equation", "")[:200], *node.all)


# --- pictures of another size
@operator("Resize", "Upsample")
def _resize(node: Node) -> Any:
    shape, old = list(node.x.tensor.shape), node.operator == "Upsample" or node.opset < 11
    scales = node.numbers(1 if old else 2, "scales")
    sizes = None if old else node.numbers(3, "sizes")
    axes = node.attributes.get("axes") or list(range(len(shape)))
    mode, kept = node.text("mode", "nearest"), node.text("keep_aspect_ratio_policy", "stretch")
    place = "asymmetric" if old else node.text("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else node.text("nearest_mode", "round_prefer_floor")
    sized = list(shape)
    factors = [1.0] * len(shape)
    for i, axis in enumerate(axes):
        sized[axis] = int(sizes[i]) if sizes else math.floor(shape[axis] * (scales or factors)[i])
        factors[axis] = sized[axis] / shape[axis] if sizes else (scales or factors)[i]
    if node.frozen == sized[0] and node.x.live:
        sized[0], factors[0] = shape[0], 1.0
    if kept != "stretch" or place not in PLACES or math.prod(sized) > MOST_ELEMENTS * node.batch or min(sized) < 1:
        raise node.refuse(f"the sizes {sized[:6]} or the mode {place}")
    if node.attributes.get("antialias", 0) and any(factor < 1 for factor in factors):
        raise node.refuse("antialias")
    changed = [axis for axis in range(len(shape)) if sized[axis] != shape[axis] or factors[axis] != 1]
    exact = all(shape[axis] * factors[axis] == sized[axis] for axis in changed) and min(changed, default=2) >= 2
    smooth = mode == "linear" or (mode == "cubic" and len(shape) == 4)
    if smooth and exact and changed and place != "asymmetric":
        if mode == "cubic" and node.attributes.get("cubic_coeff_a", -0.75) != -0.75:
            raise node.refuse("another cubic_coeff_a than -0.75")
        names = {3: "linear", 4: "bilinear", 5: "trilinear"}
        kind = "bicubic" if mode == "cubic" else names[len(shape)]
        settings = {"mode": kind, "align_corners": place == "align_corners"}
        return node.emit(functional.interpolate, node.x, size=tuple(sized[2:]), **settings)
    if mode not in ("nearest", "linear"):
        raise node.refuse(f"mode {mode[:20]}")
    sources = {axis: _sources(place, shape[axis], sized[axis], factors[axis]) for axis in changed}
    if mode == "linear":
        made = node.x
        for axis, source in sources.items():
            made = _between(node, made, axis, source.clamp(0, shape[axis] - 1))
        return made
    indexes = {axis: ROUNDINGS[rounding](source).clamp(0, shape[axis] - 1).long() for axis, source in sources.items()}
    spatial = bool(changed) and min(changed) >= 2
    whole = {axis: torch.arange(sized[axis]) * shape[axis] // sized[axis] for axis in changed}
    if spatial and all(sized[i] % shape[i] == 0 and torch.equal(indexes[i], whole[i]) for i in changed):
        return node.emit(functional.interpolate, node.x, size=tuple(sized[2:]))
    made = node.x
    for axis, index in indexes.items():
        made = node.emit(gather, made, Value("index", index), axis=axis)
    return made


PLACES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
ROUNDINGS: dict[str, Callable[[Tensor], Tensor]] = {"floor": torch.floor, "ceil": torch.ceil}
ROUNDINGS |= {"round_prefer_floor": lambda x: (x - 0.5).ceil(), "round_prefer_ceil": lambda x: (x + 0.5).floor()}


def _sources(place: str, old: int, new: int, factor: float) -> Tensor:
    """Where each of ``new`` positions lies among ``old`` ones."""
    at = torch.arange(new, dtype=torch.float64)
    if place == "align_corners":
        return at * ((old - 1) / (new - 1)) if new > 1 else at
    if place == "asymmetric":
        return at / factor
    return at * 0 if place == "pytorch_half_pixel" and new == 1 else (at + 0.5) / factor - 0.5


def _between(node: Node, x: Value, axis: int, source: Tensor) -> Any:
    below = source.floor().long()
    above = (below + 1).clamp(max=x.tensor.shape[axis] - 1)
    share = (source - below).float().reshape([-1] + [1] * (x.tensor.ndim - axis - 1))
    low, high = (node.emit(gather, x, Value("index", index), axis=axis) for index in (below, above))
    return node.emit(torch.lerp, low, high, Value("share", share))
