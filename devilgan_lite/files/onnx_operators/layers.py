"""Operators with weights, and pooling: how ONNX pads, and what that is in torch."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.checks import shown
from devilgan_lite.files.onnx_operators.node import Node, operator, outermost_last

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
        b = node.emit(times, b, factor=alpha)
    if c is not None and beta != 1:
        c = node.emit(times, c, factor=beta)
    width = b.tensor.shape[0]
    if c is None or (not c.live and c.tensor.numel() in (1, width) and c.tensor.shape[-1:] in ((), (1,), (width,))):
        bias = None if c is None else c.like(c.tensor.reshape(-1).expand(width))
        return node.emit(functional.linear, a, b, bias)
    return node.emit(torch.add, node.emit(functional.linear, a, b, None), c)


def times(x: Tensor, factor: float) -> Tensor:
    return x * factor


def _pads(node: Node, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Padding at the beginnings and then at the ends of the spatial axes, of a convolution or a pooling."""
    d, auto = len(kernel), node.text("auto_pad", "NOTSET")
    if auto not in AUTO_PADS:
        raise node.refuse(f"auto_pad {shown(auto)}")
    if auto in ("NOTSET", "VALID"):
        return list(node.attributes.get("pads", [0] * 2 * d)) if auto == "NOTSET" else [0] * 2 * d
    totals = []
    for size, k, stride, dilation in zip(node.x.tensor.shape[2:], kernel, strides, dilations, strict=True):
        totals.append(max(0, (math.ceil(size / stride) - 1) * stride + dilation * (k - 1) + 1 - size))
    small, large = [total // 2 for total in totals], [total - total // 2 for total in totals]
    return large + small if auto == "SAME_LOWER" else small + large


def _window(node: Node, kernel: Sequence[int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    d = len(kernel)
    if d not in (1, 2, 3) or node.x.tensor.ndim != d + 2:
        raise node.refuse(f"{d} spatial axes on a tensor of {node.x.tensor.ndim} axes")
    return tuple(node.attributes.get("strides", [1] * d)), tuple(node.attributes.get("dilations", [1] * d))


@operator("Conv")
def _convolution(node: Node) -> Any:
    kernel = node[1].tensor.shape[2:]
    strides, dilations = _window(node, kernel)
    pads, x, d = _pads(node, kernel, strides, dilations), node.x, len(kernel)
    padding = tuple(pads[:d])
    if pads[d:] != pads[:d]:
        x, padding = node.emit(functional.pad, x, pad=outermost_last(pads)), (0,) * d
    settings = {"stride": strides, "padding": padding, "dilation": dilations, "groups": node.attributes.get("group", 1)}
    return node.emit(getattr(functional, f"conv{d}d"), x, node[1], node.optional(2), **settings)


@operator("ConvTranspose")
def _transposed(node: Node) -> Any:
    kernel = node[1].tensor.shape[2:]
    strides, dilations = _window(node, kernel)
    d, auto = len(kernel), node.text("auto_pad", "NOTSET")
    if auto not in AUTO_PADS:
        raise node.refuse(f"auto_pad {shown(auto)}")
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
    kernel = tuple(node.attributes["kernel_shape"])
    strides, dilations = _window(node, kernel)
    pads, x, d = _pads(node, kernel, strides, dilations), node.x, len(kernel)
    largest, counted = node.operator == "MaxPool", bool(node.attributes.get("count_include_pad", 0))
    padding, rounding = tuple(pads[:d]), bool(node.attributes.get("ceil_mode", 0))
    if node.outputs != 1 or (not largest and set(dilations) != {1}):
        raise node.refuse("indices or dilations")
    if pads[d:] != pads[:d]:
        if not largest and not counted:
            raise node.refuse("uneven padding that is not counted")
        value = -math.inf if largest else 0.0
        x, padding = node.emit(functional.pad, x, pad=outermost_last(pads), value=value), (0,) * d
    if largest:
        settings = {"stride": strides, "padding": padding, "dilation": dilations, "ceil_mode": rounding}
        return node.emit(getattr(functional, f"max_pool{d}d"), x, kernel_size=kernel, **settings)
    settings = {"stride": strides, "padding": padding, "ceil_mode": rounding, "count_include_pad": counted}
    return node.emit(getattr(functional, f"avg_pool{d}d"), x, kernel_size=kernel, **settings)
