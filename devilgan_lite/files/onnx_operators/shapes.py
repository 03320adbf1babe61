"""Operators that move numbers around, and those that make shapes and constants."""

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.files.onnx_operators.node import DTYPES, Node, Value, gather, operator, outermost_last, reshaped
from devilgan_lite.files.program import MOST_ELEMENTS
from devilgan_lite.files.sniff import Refused


@operator("Reshape")
def _reshape(node: Node) -> Value:
    have, wanted = node.x.tensor.shape, node.numbers(1, "shape") or []
    if not node.attributes.get("allowzero", 0):
        wanted = [have[i] if size == 0 else size for i, size in enumerate(wanted)]
    if node.frozen is not None and node.x.live and wanted and have[:1] == (node.batch,) and wanted[0] == node.frozen:
        wanted[0] = node.batch
    if wanted.count(-1) == 1 and (others := -math.prod(wanted)) > 0:
        wanted[wanted.index(-1)] = math.prod(have) // others
    return reshaped(node, node.x, wanted)


@operator("Flatten")
def _flatten(node: Node) -> Value:
    shape, axis = node.x.tensor.shape, node.attributes.get("axis", 1)
    axis = axis + len(shape) if axis < 0 else axis
    return reshaped(node, node.x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


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
    return node.emit(concat, *(node[index] for index in range(len(node.inputs))), dim=node.attributes["axis"])


def concat(*parts: Tensor, dim: int) -> Tensor:
    return torch.cat(parts, dim)


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
    return node.x if size == node.x.tensor.shape else node.emit(expanded, node.x, size=size)


def expanded(x: Tensor, size: tuple[int, ...]) -> Tensor:
    return x.expand(size)


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
    return reshaped(node, node.emit(torch.permute, reshaped(node, node.x, first), dims=order), last)


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
    return node.emit(expanded, Value("constant", value.reshape(())), size=shape)


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
    return node.x if target == node.x.tensor.dtype else node.emit(cast, node.x, dtype=target)


def cast(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype)


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
    operands = [node[index] for index in range(len(node.inputs))]
    if len(operands) > 2:  # what lies between them may be of any size
        raise node.refuse("more than two inputs")
    return node.emit(einsum, *operands, equation=node.text("equation", "")[:200])


def einsum(*operands: Tensor, equation: str) -> Tensor:
    return torch.einsum(equation, *operands)
