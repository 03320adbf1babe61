"""A ``.keras`` file as a ``Program``: its layers are read from JSON and its weights from HDF5; Keras is not needed.

Keras keeps channels last, torch first. Here they are moved once: where a dense layer is reshaped to pictures, its units
are put in torch's order instead, so that the network stays the chain of layers that it is.
"""

from __future__ import annotations

import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from devilgan_lite.checks import nearest, shown
from devilgan_lite.files.archive import checked
from devilgan_lite.files.batches import Reading, reading_of
from devilgan_lite.files.onnx_operators import OPERATORS, Node, reshaped
from devilgan_lite.files.program import MOST_NUMBERS, MOST_OPERATIONS, Trace, Value, check_latent
from devilgan_lite.files.sniff import Refused, refusing

if TYPE_CHECKING:
    import h5py  # type: ignore[import-untyped]

MOST_CONFIG = 16 * 2**20


def read(path: Path) -> Reading:
    """The network in a ``.keras`` file; whatever cannot be read is a ``Refused`` that says why."""
    import h5py

    with checked(path) as archive:
        config, content = archive.read("config.json", MOST_CONFIG), archive.read("model.weights.h5")
    with refusing("the .keras file contradicts itself"), h5py.File(io.BytesIO(content), "r") as weights:
        model = _Model(json.loads(config), weights)
        found = reading_of(model.walk, ["a Keras 3 model; its channels were moved to where torch has them"])
        return replace(found, architecture="the layers that Keras wrote")


class _Model:
    """The layers of a file in order, each with its configuration, its weights, and the names of what it reads."""

    def __init__(self, model: dict[str, Any], weights: h5py.File) -> None:
        kind, config = model["class_name"], model["config"]
        if kind not in ("Sequential", "Functional"):
            raise Refused(
                f"the model is a {shown(kind)}, which is a program; Sequential and Functional models are read."
            )
        layers = config["layers"]
        if not isinstance(layers, list) or not 0 < len(layers) <= MOST_OPERATIONS:
            raise Refused("the model has no layers, or too many.")
        self.layers: list[dict[str, Any]] = []
        self.shape: tuple[int, ...] = ()
        counted: Counter[str] = Counter()
        before, known, room = "", set[str](), MOST_NUMBERS
        for layer in layers:
            kind, settings = checked_layer(layer)
            name = settings["name"]
            group = re.sub("([a-z])([A-Z])", r"\1_\2", re.sub("(.)([A-Z][a-z]+)", r"\1_\2", kind)).lower()
            counted[group] += 1
            group += f"_{counted[group] - 1}" if counted[group] > 1 else ""
            reads = [] if kind == "InputLayer" else [before] if model["class_name"] == "Sequential" else _sources(layer)
            if name in known or any(one not in known | {""} for one in reads):
                raise Refused(f"the layer {shown(name)} is there twice, or reads what comes after it.")
            if kind == "InputLayer":
                self._input(name, settings["batch_shape"])
            elif not known:
                self._input("", layer["build_config"]["input_shape"])
                reads = [""]
            tensors = _weights(weights, group, room)
            room -= sum(one.numel() for one in tensors)
            known.add(name)
            self.layers.append({"kind": kind, "name": name, "reads": reads, "weights": tensors, **settings})
            before = name
        self.output = before if model["class_name"] == "Sequential" else _single(config["output_layers"])

    def _input(self, name: str, shape: Sequence[Any]) -> None:
        sizes = list(shape)[1:]
        if self.shape or not sizes or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise Refused(f"the model's input is {shown(list(shape))}; expected one input [n, d], the latents.")
        check_latent(sizes)
        self.shape, self.latent = tuple(sizes), name

    def walk(self, batch: int, frozen: int | None) -> tuple[Trace, Value]:
        """The operations of the model with ``batch`` latents, and its output; see ``batches.Walk``."""
        trace = Trace(batch, self.shape)
        orders: dict[str, Tensor] = {}
        for at, layer in enumerate(self.layers):
            orders |= self._orders(at) if layer["kind"] == "Dense" else {}
        first = Flow(trace).first(trace.latent, (0, len(self.shape), *range(1, len(self.shape))))
        values = {self.latent: first}
        for layer in self.layers:
            if layer["kind"] != "InputLayer":
                flow = Flow(trace, layer, orders.get(layer["name"]))
                with refusing(f"the layer {shown(layer['name'])} does not compute"):
                    values[layer["name"]] = LAYERS[layer["kind"]](flow, *(values[name] for name in layer["reads"]))
        return trace, values[self.output]

    def _orders(self, at: int) -> dict[str, Tensor]:
        """The order of units, for a dense layer, what follows it, and the reshape to pictures that ends it."""
        names, layer = [self.layers[at]["name"]], self.layers[at]
        if layer.get("activation") not in ACTIVATIONS:
            return {}
        while True:
            readers = [one for one in self.layers if layer["name"] in one["reads"]]
            if len(readers) != 1 or readers[0]["reads"] != [layer["name"]] or layer["name"] == self.output:
                return {}
            (layer,) = readers
            names.append(layer["name"])
            if layer["kind"] == "Reshape":
                break
            if layer["kind"] not in ("BatchNormalization", "Activation", "LeakyReLU", "ReLU", "ELU", *IDLE):
                return {}
        target, units = [int(size) for size in layer["target_shape"]], int(self.layers[at]["units"])
        if len(target) < 2 or any(size < 1 for size in target) or math.prod(target) != units > 0 or units > 10**7:
            return {}
        order = torch.arange(units).reshape(target).movedim(-1, 0).reshape(-1)
        return dict.fromkeys(names, order)


def _single(found: Any) -> str:
    """The one name in ``["name", 0, 0]`` or ``[["name", 0, 0]]``."""
    while isinstance(found, list) and len(found) == 1:
        (found,) = found
    if not isinstance(found, list) or len(found) != 3 or not isinstance(found[0], str) or found[1:] != [0, 0]:
        raise Refused("the model has several inputs or outputs; a generator has one of each.")
    return found[0]


def _sources(layer: dict[str, Any]) -> list[str]:
    if len(layer["inbound_nodes"]) != 1:
        raise Refused(f"the layer {shown(layer['config']['name'])} is used several times, or never.")
    given = layer["inbound_nodes"][0]["args"]
    given = given[0] if len(given) == 1 and isinstance(given[0], list) else given
    return [_single(one["config"]["keras_history"]) for one in given]


def _weights(file: h5py.File, group: str, room: int) -> list[Tensor]:
    """The numbers of a layer, whose sizes are checked before anything is allocated; links elsewhere are refused."""
    import h5py

    def member(where: Any, name: str, kind: type) -> Any:
        if not isinstance(where.get(name, getlink=True), h5py.HardLink) or not isinstance(where[name], kind):
            raise Refused(f"the weights of {shown(group)} are a link; only files that hold their weights are read.")
        return where[name]

    here: Any = file
    for part in ("layers", group, "vars"):
        if part not in here:
            return []
        here = member(here, part, h5py.Group)
    found = []
    for i in range(len(here)):
        data = member(here, str(i), h5py.Dataset)
        plain = not (data.external or data.is_virtual or data.chunks) and data.dtype.kind == "f" and data.ndim <= 6
        room -= data.size if plain else 0
        if not plain or room < 0 or data.id.get_storage_size() != data.size * data.dtype.itemsize:
            raise Refused(f"the weights of {shown(group)} are not plain numbers in the file, or too many.")
        found.append(torch.from_numpy(data[()].astype("float32")))
    return found


# --- the layers, each as a few of ONNX's operators on values whose channels come first
SIMPLE = ("relu", "tanh", "sigmoid", "elu", "selu", "gelu", "softplus", "mish")
ACTIVATIONS: dict[str, tuple[str, dict[str, float]]] = {name: (name.capitalize(), {}) for name in SIMPLE}
ACTIVATIONS |= {"leaky_relu": ("LeakyRelu", {"alpha": 0.2}), "linear": ("Identity", {})}
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

    def __init__(self, trace: Trace, layer: dict[str, Any] | None = None, order: Tensor | None = None) -> None:
        self.trace, self.layer, self.order = trace, layer or {}, order
        self.name = str(self.layer.get("name", "input"))
        self.weights = [Value(self.name, one) for one in self.layer.get("weights", [])]

    def run(self, operator: str, *values: Value | None, **attributes: Any) -> Value:
        """What an operator of ONNX makes of the values."""
        made: Value = OPERATORS[operator](Node(operator, 21, attributes, values, 1, self.trace))
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
            return LAYERS[kind](Flow(self.trace, {"name": self.name, **settings}), x)
        if given is None:
            return x
        if not isinstance(given, str) or given not in ACTIVATIONS:
            raise Refused(f"the activation {shown(given)} is not read; valid: {', '.join(ACTIVATIONS)}.")
        operator, settings = ACTIVATIONS[given]
        return self.run(operator, x, **settings)


def _dense(flow: Flow, x: Value) -> Value:
    kernel, *bias = flow.weights
    if flow.order is not None:
        kernel, *bias = (one.like(one.tensor[..., flow.order]) for one in flow.weights)
    made, rank = flow.run("MatMul", flow.last(x), kernel), x.tensor.ndim
    made = flow.run("Add", made, *bias) if bias else made
    return flow.activated(flow.first(made, (0, rank - 1, *range(1, rank - 1))))


def _convolution(flow: Flow, x: Value) -> Value:
    kernel, *bias = flow.weights
    d, layer = x.tensor.ndim - 2, flow.layer
    weight = kernel.like(kernel.tensor.permute(d + 1, d, *range(d)))
    settings = {"strides": layer["strides"], "dilations": layer["dilation_rate"]}
    settings["auto_pad"] = {"same": "SAME_UPPER", "valid": "VALID"}[layer["padding"]]
    if layer["kind"].endswith("Transpose"):  # uneven padding as in TensorFlow and JAX; Keras on torch differs there
        if layer.get("output_padding") is not None or settings["dilations"] != [1] * d:
            raise Refused(f"the layer {shown(flow.name)} has output_padding or dilation_rate, which are not read.")
        settings["output_padding"] = [
            max(0, stride - size) for stride, size in zip(layer["strides"], weight.tensor.shape[2:], strict=True)
        ]
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
    if flow.order is not None:
        return reshaped(flow.trace, x, (n, target[-1], *target[:-1]))
    if -1 in target:
        target[target.index(-1)] = math.prod(x.tensor.shape[1:]) // -math.prod(target)
    made = reshaped(flow.trace, flow.last(x), (n, *target))
    return flow.first(made, (0, rank - 1, *range(1, rank - 1)))


def _enlarged(flow: Flow, x: Value) -> Value:
    size, kind = flow.layer["size"], flow.layer.get("interpolation", "nearest")
    size = [size] if isinstance(size, int) else size
    if kind not in ("nearest", "bilinear"):
        raise Refused(f"the interpolation {shown(kind)} is not read; nearest and bilinear are.")
    scales = Value("scales", torch.tensor([1.0, 1.0, *(float(one) for one in size)]))
    return flow.run("Resize", x, None, scales, mode="nearest" if kind == "nearest" else "linear")


def _padded(flow: Flow, x: Value) -> Value:
    crops = flow.layer["kind"] == "Cropping2D"
    (top, bottom), (left, right) = flow.layer["cropping" if crops else "padding"]
    pads = torch.tensor([0, 0, top, left, 0, 0, bottom, right]) * (-1 if crops else 1)
    return flow.run("Pad", x, Value("pads", pads))


def _joined(flow: Flow, *parts: Value) -> Value:
    if flow.layer["axis"] not in (-1, parts[0].tensor.ndim - 1):
        raise Refused(f"the layer {shown(flow.name)} joins another axis than the channels, which is not read.")
    return flow.run("Concat", *parts, axis=1)


LAYERS: dict[str, Callable[..., Value]] = dict.fromkeys((*IDLE, "InputLayer"), lambda flow, x: x)
LAYERS |= {"Dense": _dense, "BatchNormalization": _batch_norm, "Add": lambda flow, *parts: flow.run("Sum", *parts)}
LAYERS |= {"Flatten": lambda flow, x: flow.run("Flatten", flow.last(x))}
LAYERS |= dict.fromkeys(("Conv1D", "Conv2D", "Conv1DTranspose", "Conv2DTranspose"), _convolution)
LAYERS |= {"Activation": Flow.activated, "ReLU": _relu, "LeakyReLU": _relu, "Reshape": _reshape}
LAYERS |= {"ELU": lambda flow, x: flow.run("Elu", x, alpha=float(flow.layer["alpha"]))}
LAYERS |= {"UpSampling1D": _enlarged, "UpSampling2D": _enlarged, "Concatenate": _joined}
LAYERS |= {"ZeroPadding2D": _padded, "Cropping2D": _padded, "Multiply": lambda flow, x, y: flow.run("Mul", x, y)}
