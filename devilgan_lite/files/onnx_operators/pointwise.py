"""Operators that work on each number by itself, norms and reductions."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from devilgan_lite.files.onnx_operators.node import Node, Value, operator, reshaped
from devilgan_lite.files.sniff import Refused


# --- operators that are one function of torch: the function, and its settings as (attribute, keyword, default)
def hard_sigmoid(x: Tensor, alpha: float, beta: float) -> Tensor:
    return (alpha * x + beta).clamp(0, 1)


def thresholded(x: Tensor, alpha: float) -> Tensor:
    return functional.threshold(x, alpha, 0.0)


ALPHA, SELU = ("alpha", "alpha", 1.0), {"alpha": 1.6733, "gamma": 1.0507}
DIRECT: dict[str, tuple[Callable[..., Any], tuple[tuple[str, str, Any], ...]]] = {
    "LeakyRelu": (functional.leaky_relu, (("alpha", "negative_slope", 0.01),)),
    "Elu": (functional.elu, (ALPHA,)),
    "Celu": (functional.celu, (ALPHA,)),
    "Gelu": (functional.gelu, (("approximate", "approximate", "none"),)),
    "HardSigmoid": (hard_sigmoid, (("alpha", "alpha", 0.2), ("beta", "beta", 0.5))),
    "ThresholdedRelu": (thresholded, (ALPHA,)),
}
PLAIN: dict[str, Callable[..., Any]] = {"Relu": functional.relu, "Selu": functional.selu, "Mish": functional.mish}
PLAIN |= {"Softplus": functional.softplus, "HardSwish": functional.hardswish, "Softsign": functional.softsign}
PLAIN |= {"Sqrt": torch.sqrt, "Exp": torch.exp, "Log": torch.log, "Abs": torch.abs, "Neg": torch.neg, "Sin": torch.sin}
PLAIN |= {"Cos": torch.cos, "Erf": torch.erf, "Reciprocal": torch.reciprocal, "Sign": torch.sign, "Floor": torch.floor}
PLAIN |= {"Ceil": torch.ceil, "Round": torch.round, "Tanh": torch.tanh, "Sigmoid": torch.sigmoid, "Pow": torch.pow}
PLAIN |= {"Not": torch.logical_not, "And": torch.logical_and, "Or": torch.logical_or, "Equal": torch.eq}
PLAIN |= {"Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge, "LessOrEqual": torch.le}
PLAIN |= {"Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Where": torch.where}
DIRECT |= {name: (function, ()) for name, function in PLAIN.items()}


@operator(*DIRECT)
def _direct(node: Node) -> Value:
    function, settings = DIRECT[node.operator]
    for attribute, usual in SELU.items() if node.operator == "Selu" else ():
        if not abs(node.attributes.get(attribute, usual) - usual) < 1e-3:
            raise node.refuse(f"{attribute} of its own")
    given = {keyword: node.attributes.get(attribute, default) for attribute, keyword, default in settings}
    made: Value = node.emit(function, *(node[index] for index in range(len(node.inputs))), **given)
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
    made = node.x
    for index in range(1, len(node.inputs)):
        other = node[index]
        if function is torch.maximum and not other.live and not other.tensor.any() and not other.tensor.ndim:
            made = node.emit(functional.relu, made)
        else:
            made = node.emit(function, made, other)
    return node.emit(divided, made, by=len(node.inputs)) if node.operator == "Mean" else made


def divided(x: Tensor, by: int) -> Tensor:
    return x / by


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
        return node.emit(instance_norm, node.x, weight, bias, eps=eps)
    if node.operator == "LayerNormalization":
        axis = range(node.x.tensor.ndim)[node.attributes.get("axis", -1)]
        return node.emit(layer_norm, node.x, weight, bias, shape=tuple(node.x.tensor.shape[axis:]), eps=eps)
    groups = node.attributes["num_groups"]
    if node.opset < 21 and bias is not None:  # a scale and a bias for each group
        each = node.x.tensor.shape[1] // groups
        weight, bias = (node.emit(torch.repeat_interleave, one, repeats=each) for one in (weight, bias))
    return node.emit(group_norm, node.x, weight, bias, groups=groups, eps=eps)


def instance_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    return functional.instance_norm(x, weight=weight, bias=bias, eps=eps)


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, shape: tuple[int, ...], eps: float) -> Tensor:
    return functional.layer_norm(x, shape, weight.expand(shape), None if bias is None else bias.expand(shape), eps)


def group_norm(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
    return functional.group_norm(x, groups, weight, bias, eps)


@operator("Softmax", "LogSoftmax")
def _softmax(node: Node) -> Any:
    function = functional.softmax if node.operator == "Softmax" else functional.log_softmax
    if node.opset >= 13:
        return node.emit(function, node.x, dim=node.attributes.get("axis", -1))
    shape = tuple(node.x.tensor.shape)  # before opset 13, over all axes from this one on
    axis = range(len(shape))[node.attributes.get("axis", 1)]
    flat = reshaped(node, node.x, (*shape[:axis], math.prod(shape[axis:])))
    return reshaped(node, node.emit(function, flat, dim=-1), shape)


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
