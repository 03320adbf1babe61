"""``Resize``: every way of ONNX to say where a new pixel lies among the old ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.files.onnx_operators.node import Node, Value, gather, operator
from devilgan_lite.files.program import MOST_ELEMENTS


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
