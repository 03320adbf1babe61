"""The layers of Keras that are read, each as a few of ONNX's operators on values whose channels come first."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.checks import nearest, shown
from devilgan_lite.files.onnx_operators import OPERATORS, Node, Value
from devilgan_lite.files.onnx_operators.node import reshaped
from devilgan_lite.files.onnx_operators.steps import Steps
from devilgan_lite.files.sniff import Refused

ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {"relu": ("Relu", {}), "tanh": ("Tanh", {})}
ACTIVATIONS |= {"sigmoid": ("Sigmoid", {}), "elu": ("Elu", {}), "selu": ("Selu", {}), "gelu": ("Gelu", {})}
ACTIVATIONS |= {"softplus": ("Softplus", {}), "mish": ("Mish", {}), "leaky_relu": ("LeakyRelu", {"alpha": 0.2})}
ACTIVATIONS |= {"linear": ("Identity", {})}
IDLE = ("Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise", "GaussianDropout", "ActivityRegularization")


def checked_layer(layer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The class and settings of a layer that is Keras' own and in the list of those that are read."""
    kind, own = layer["class_name"], layer.get("registered_name")
    if kind == "Lambda":
        raise Refused("the model has a Lambda layer, which is a program; only plain layers are read.")
    if not str(layer.get("module", "")).startswith("keras.") or own not in (None, kind) or kind not in LAYERS:
        listed = nearest(str(kind)[:80], LAYERS)
        raise Refused(f"the layer class {shown(kind)} is not one of the {len(LAYERS)} of Keras that are read.{listed}")
    settings = layer["config"]
    if settings.get("data_format", "channels_last") not in ("channels_last", None):
        raise Refused(f"the layer {shown(settings['name'])} has its channels first; only channels last are read.")
    return kind, settings


class Flow:
    """One layer at work: ``run`` an operator of ONNX on values whose channels come first."""

    def __init__(
        self, steps: Steps, batch: int, layer: dict[str, Any] | None = None, order: Tensor | None = None
    ) -> None:
        self.steps, self.batch, self.layer, self.order = steps, batch, layer or {}, order
        self.name = str(self.layer.get("name", "input"))
        self.weights = [Value(self.name, one) for one in self.layer.get("weights", [])]

    def run(self, operator: str, *values: Value | None, **attributes: Any) -> Value:
        """What an operator of ONNX makes of the values."""
        made: Value = OPERATORS[operator](Node(operator, 21, attributes, values, 1, self.batch, None, self.steps.emit))
        return made

    def first(self, x: Value, order: Sequence[int]) -> Value:
        """``x`` with its axes in another order."""
        return x if list(order) == list(range(len(order))) else self.run("Transpose", x, perm=list(order))

    def last(self, x: Value) -> Value:
        """``x`` with its channels last, as Keras has them."""
        return self.first(x, (0, *range(2, x.tensor.ndim), 1)) if x.tensor.ndim > 2 else x

    def activated(self, x: Value) -> Value:
        """``x`` after the activation that is a setting of the layer."""
        given = self.layer.get("activation", "linear")
        given = given["config"] if isinstance(given, dict) and given.get("class_name") == "function" else given
        if isinstance(given, dict) and given.get("class_name") in ("LeakyReLU", "ReLU", "ELU"):
            kind, settings = checked_layer(given)
            return LAYERS[kind](Flow(self.steps, self.batch, {"name": self.name, **settings}), x)
        if given is None:
            return x
        if not isinstance(given, str) or given not in ACTIVATIONS:
            raise Refused(f"the activation {shown(given)} is not read; valid: {', '.join(ACTIVATIONS)}.")
        operator, settings = ACTIVATIONS[given]
        return self.run(operator, x, **settings)


def _input(flow: Flow) -> Value:
    raise Refused(f"the layer {shown(flow.name)} is an input where none can be.")


def _dense(flow: Flow, x: Value) -> Value:
    kernel, *bias = flow.weights
    if flow.order is not None:
        kernel, *bias = (one.like(one.tensor[..., flow.order]) for one in flow.weights)
    made = flow.run(
        "Gemm" if x.tensor.ndim == 2 else "MatMul", flow.last(x), kernel, *(bias if x.tensor.ndim == 2 else ())
    )
    if bias and x.tensor.ndim > 2:
        made = flow.run("Add", made, *bias)
    rank = made.tensor.ndim
    return flow.activated(made if rank == 2 else flow.first(made, (0, rank - 1, *range(1, rank - 1))))


def _convolution(flow: Flow, x: Value) -> Value:
    kernel, *bias = flow.weights
    d, layer = x.tensor.ndim - 2, flow.layer
    weight = kernel.like(kernel.tensor.permute(d + 1, d, *range(d)))
    settings = {"strides": layer["strides"], "dilations": layer["dilation_rate"]}
    settings["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[layer["padding"]]
    if layer["kind"].endswith(
        "Transpose"
    ):  # uneven padding as TensorFlow and JAX have it; Keras on torch differs there
        if layer.get("output_padding") is not None or settings["dilations"] != [1] * d:
            raise Refused(f"the layer {shown(flow.name)} has output_padding or dilation_rate, which are not read.")
        settings["output_padding"] = [
            max(0, stride - size) for stride, size in zip(layer["strides"], weight.tensor.shape[2:], strict=True)
        ]
        if layer["padding"] == "valid":
            settings["auto_pad"] = "NOTSET"
        return flow.activated(flow.run("ConvTranspose", x, weight, *bias, **settings))
    return flow.activated(flow.run("Conv", x, weight, *bias, **settings, group=layer.get("groups", 1)))


def _batch_norm(flow: Flow, x: Value) -> Value:
    layer, given = flow.layer, list(flow.weights)
    axis = layer["axis"][0] if isinstance(layer["axis"], list) else layer["axis"]
    if axis not in (-1, x.tensor.ndim - 1):
        raise Refused(f"the layer {shown(flow.name)} normalises axis {shown(axis)}; only the last is read.")
    mean, variance = given[-2:]
    scale = given.pop(0) if layer["scale"] else mean.like(torch.ones_like(mean.tensor))
    shift = given.pop(0) if layer["center"] else mean.like(torch.zeros_like(mean.tensor))
    values = [scale, shift, mean, variance]
    if flow.order is not None:
        values = [one.like(one.tensor[flow.order]) for one in values]
    return flow.run("BatchNormalization", x, *values, epsilon=layer["epsilon"])


def _relu(flow: Flow, x: Value) -> Value:
    layer = flow.layer
    if layer.get("threshold") or (layer.get("max_value") is not None and layer.get("negative_slope")):
        raise Refused(f"the layer {shown(flow.name)} is a ReLU with a threshold, which is not read.")
    if layer.get("max_value") is not None:
        return flow.run("Clip", x, *(Value("bound", torch.tensor(float(one))) for one in (0, layer["max_value"])))
    slope = layer.get("negative_slope")
    return flow.run("LeakyRelu", x, alpha=float(slope)) if slope else flow.run("Relu", x)


def _reshape(flow: Flow, x: Value) -> Value:
    target = [int(size) for size in flow.layer["target_shape"]]
    n, rank = x.tensor.shape[0], len(target) + 1
    node = Node("Reshape", 21, {}, (x,), 1, flow.batch, None, flow.steps.emit)
    if flow.order is not None:
        return reshaped(node, x, (n, target[-1], *target[:-1]))
    if -1 in target:
        target[target.index(-1)] = math.prod(x.tensor.shape[1:]) // -math.prod(target)
    made = reshaped(node, flow.last(x), (n, *target))
    return flow.first(made, (0, rank - 1, *range(1, rank - 1)))


def _flatten(flow: Flow, x: Value) -> Value:
    return flow.run("Flatten", flow.last(x))


def _enlarged(flow: Flow, x: Value) -> Value:
    size, kind = flow.layer["size"], flow.layer.get("interpolation", "nearest")
    size = [size] if isinstance(size, int) else size
    if kind not in ("nearest", "bilinear"):
        raise Refused(f"the interpolation {shown(kind)} is not read; nearest and bilinear are.")
    scales = Value("scales", torch.tensor([1.0, 1.0, *(float(one) for one in size)]))
    return flow.run("Resize", x, None, scales, mode="nearest" if kind == "nearest" else "linear")


def _padded(sign: int) -> Callable[[Flow, Value], Value]:
    def padded(flow: Flow, x: Value) -> Value:
        (top, bottom), (left, right) = flow.layer["padding" if sign > 0 else "cropping"]
        pads = torch.tensor([0, 0, top, left, 0, 0, bottom, right]) * sign
        return flow.run("Pad", x, Value("pads", pads))

    return padded


def _joined(flow: Flow, *parts: Value) -> Value:
    if flow.layer["axis"] not in (-1, parts[0].tensor.ndim - 1):
        raise Refused(f"the layer {shown(flow.name)} joins another axis than the channels, which is not read.")
    return flow.run("Concat", *parts, axis=1)


LAYERS: dict[str, Callable[..., Value]] = dict.fromkeys(IDLE, lambda flow, x: x)
LAYERS |= {"InputLayer": _input, "Dense": _dense, "BatchNormalization": _batch_norm, "Flatten": _flatten}
LAYERS |= dict.fromkeys(("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose"), _convolution)
LAYERS |= {"Activation": Flow.activated, "ReLU": _relu, "LeakyReLU": _relu, "Reshape": _reshape}
LAYERS |= {"ELU": lambda flow, x: flow.run("Elu", x, alpha=float(flow.layer["alpha"]))}
LAYERS |= {"UpSampling1D": _enlarged, "UpSampling2D": _enlarged, "Concatenate": _joined}
LAYERS |= {"ZeroPadding2D": _padded(1), "Cropping2D": _padded(-1), "Add": lambda flow, *parts: flow.run("Sum", *parts)}
LAYERS |= {"Multiply": lambda flow, x, y: flow.run("Mul", x, y)}
