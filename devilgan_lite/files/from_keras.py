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
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from devilgan_lite.checks import shown
from devilgan_lite.files.archive import checked
from devilgan_lite.files.keras_layers import ACTIVATIONS, IDLE, LAYERS, Flow, checked_layer
from devilgan_lite.files.onnx_operators import Value
from devilgan_lite.files.onnx_operators.steps import MOST_NUMBERS, Steps, batch_free, program_of
from devilgan_lite.files.program import MOST_OPERATIONS, Reading, check_latent, run_checked
from devilgan_lite.files.sniff import Refused

if TYPE_CHECKING:
    import h5py  # type: ignore[import-untyped]

MOST_CONFIG = 16 * 2**20


def read(path: Path) -> Reading:
    """The network in a ``.keras`` file; whatever cannot be read is a ``Refused`` that says why."""
    import h5py

    with checked(path) as archive:
        config, content = archive.read("config.json", MOST_CONFIG), archive.read("model.weights.h5")
    try:
        model = json.loads(config)
        with h5py.File(io.BytesIO(content), "r") as weights:
            return _Model(model, weights).reading()
    except Refused:
        raise
    except Exception as error:  # the fields of a stranger's file may be missing, or contradict each other
        told = next(iter(str(error).splitlines()), "")[:100]
        raise Refused(f"the .keras file contradicts itself ({type(error).__name__}: {told}).") from None


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

    def reading(self) -> Reading:
        """The program for any number of latents."""
        with torch.no_grad():
            (first, latent, output), (second, _, _) = self.walked(2), self.walked(3)
        if not output.live or output.tensor.shape[0] != 2:
            raise Refused("the model does not make one sample of each latent.")
        program = program_of(batch_free(first, second, latent), latent, output)
        run_checked(program, torch.randn(3, *self.shape))
        return Reading(program, self.shape, ("a Keras 3 model; its channels were moved to where torch has them",))

    def walked(self, batch: int) -> tuple[Steps, Value, Value]:
        """The steps of the model with ``batch`` latents, and the values of its input and output."""
        steps = Steps(batch)
        latent = Value("z", torch.empty(batch, *self.shape, device="meta"))
        orders: dict[str, Tensor] = {}
        for at, layer in enumerate(self.layers):
            orders |= self._orders(at) if layer["kind"] == "Dense" else {}
        made = {self.latent: Flow(steps, batch).first(latent, (0, len(self.shape), *range(1, len(self.shape))))}
        for layer in self.layers:
            if layer["kind"] != "InputLayer":
                flow = Flow(steps, batch, layer, orders.get(layer["name"]))
                try:
                    made[layer["name"]] = LAYERS[layer["kind"]](flow, *(made[name] for name in layer["reads"]))
                except Refused:
                    raise
                except Exception as error:
                    told = next(iter(str(error).splitlines()), "")[:100]
                    raise Refused(f"the layer {shown(layer['name'])} does not compute ({told}).") from None
        return steps, latent, made[self.output]

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

    here: Any = file
    for part in ("layers", group, "vars"):
        if part not in here:
            return []
        if not isinstance(here.get(part, getlink=True), h5py.HardLink) or not isinstance(here[part], h5py.Group):
            raise Refused(f"the weights of {shown(group)} are a link; only files that hold their weights are read.")
        here = here[part]
    found = []
    for i in range(len(here)):
        if not isinstance(here.get(str(i), getlink=True), h5py.HardLink) or not isinstance(here[str(i)], h5py.Dataset):
            raise Refused(f"the weights of {shown(group)} are a link; only files that hold their weights are read.")
        data = here[str(i)]
        plain = not (data.external or data.is_virtual or data.chunks) and data.dtype.kind == "f" and data.ndim <= 6
        room -= data.size if plain else 0
        if not plain or room < 0 or data.id.get_storage_size() != data.size * data.dtype.itemsize:
            raise Refused(f"the weights of {shown(group)} are not plain numbers in the file, or too many.")
        found.append(torch.from_numpy(data[()].astype("float32")))
    return found
