"""An ONNX file as a ``Program``: ``onnx`` parses it, and we walk through its graph with shapes only.

A walk computes what does not depend on the latents (weights, shape arithmetic) and notes each other operation.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from devilgan_lite.checks import cut, nearest, shown
from devilgan_lite.files.batches import MOST_BATCH, Reading, reading_of
from devilgan_lite.files.onnx_operators import DTYPES, OPERATORS, Node
from devilgan_lite.files.program import HALF, MOST_NUMBERS, MOST_OPERATIONS, Trace, Value, check_latent
from devilgan_lite.files.sniff import Refused, refusing

if TYPE_CHECKING:
    import onnx

OPSETS = range(7, 26)
DECIDES = ("If", "Loop", "Scan", "SequenceMap")
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial")
FLOATS = (1, 10, 11, 16)
FIELDS = {1: "float_data", 11: "double_data", 7: "int64_data", 12: "uint64_data", 13: "uint64_data"}  # else int32_data


def read(path: Path) -> Reading:
    """The network in an ONNX file; whatever cannot be read is a ``Refused`` that says why."""
    return network_in(path.read_bytes())


def network_in(content: bytes) -> Reading:
    """The network in the bytes of an ONNX file."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception:  # DecodeError of protobuf, mostly
        raise Refused("the file is not a complete ONNX model: its bytes cannot be parsed as one.") from None
    with refusing("the ONNX graph contradicts itself"):
        graph = _Graph(model)
        found = reading_of(graph.walk, graph.notes, frozen=graph.frozen, declared=graph.declared)
        return replace(found, architecture="the graph in the file")


class _Graph:
    """A parsed model after every check that needs no shapes, and the walks through it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph, self.opset = model.graph, _opset(model)
        _check_nodes(self.graph)
        self.attributes = [_attributes(node) for node in self.graph.node]
        self.weights = _weights(self.graph)
        self.latent, self.latent_shape, self.frozen = _latent(self.graph, self.weights)
        self.output, self.declared, several = _output(self.graph)
        made_by = " ".join(cut(text, 40) for text in (model.producer_name, model.producer_version) if text)
        self.notes = [f"ONNX opset {self.opset}" + (f", exported by {made_by}" if made_by else "")] + several
        used = {one.data_type for one in self.graph.initializer} | {one.get("to") for one in self.attributes}
        if used & {10, 16}:  # an input of half precision comes with weights of it, or is cast
            self.notes.append(HALF)

    def walk(self, batch: int, frozen: int | None) -> tuple[Trace, Value]:
        """The operations of the graph with ``batch`` latents, and its output; see ``batches.Walk``."""
        trace = Trace(batch, self.latent_shape)
        values = {**self.weights, self.latent: trace.latent}
        for node, attributes in zip(self.graph.node, self.attributes, strict=True):
            inputs = tuple(values[name] if name else None for name in node.input)
            wanted = [name for name in node.output if name]
            call = Node(node.op_type, self.opset, attributes, inputs, len(wanted), trace, frozen)
            with refusing(f"operator {node.op_type} in the file does not compute"):  # shapes that do not fit, say
                made = OPERATORS[node.op_type](call)
            several = made if isinstance(made, tuple) else (made,)
            if len(several) != len(wanted):
                raise Refused(f"operator {node.op_type} makes {len(several)} values; {len(wanted)} are asked for.")
            values.update(zip(wanted, several, strict=True))
            if not trace.sized.keys().isdisjoint(node.input) or (node.op_type in ("Shape", "Size") and call.x.live):
                trace.sized |= {name: one.tensor for name, one in zip(wanted, several, strict=True) if not one.live}
        return trace, values[self.output]


def _opset(model: onnx.ModelProto) -> int:
    if len(model.functions):
        raise Refused("the file defines operators of its own (functions); export it with the functions inlined.")
    if not len(model.graph.node):
        raise Refused("the file holds no ONNX graph: it has no operators.")
    if len(model.graph.node) > MOST_OPERATIONS:
        raise Refused(f"the graph has {len(model.graph.node):,} operators; at most {MOST_OPERATIONS:,} are read.")
    versions = [one.version for one in model.opset_import if one.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = shown(versions[0]) if versions else "none"
        raise Refused(f"the file uses ONNX opset {found}; {OPSETS[0]} to {OPSETS[-1]} are read.")
    return int(versions[0])


def _check_nodes(graph: onnx.GraphProto) -> None:
    """Known operators only, and each value is made once and before it is read."""
    if len(graph.sparse_initializer):
        raise Refused("the file holds sparse weights; only dense ones are read.")
    made = {one.name for one in graph.initializer} | {one.name for one in graph.input}
    for node in graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise Refused(f"operator {shown(node.op_type)} is of the domain {shown(node.domain)}; only ONNX's own are.")
        if node.op_type in DECIDES:
            raise Refused(f"operator {node.op_type} decides or repeats while it runs; only plain graphs are read.")
        if node.op_type in RANDOM:
            raise Refused(f"operator {node.op_type} draws random numbers; only networks without noise are read.")
        if node.op_type not in OPERATORS:
            close = nearest(node.op_type[:80], OPERATORS)
            raise Refused(f"operator {shown(node.op_type)} is not one of the {len(OPERATORS)} that are read.{close}")
        for name in node.input:
            if name and name not in made:
                raise Refused(
                    f"operator {node.op_type} reads {shown(name)} before anything makes it: a cycle, or a missing part."
                )
        for name in node.output:
            if name and name in made:
                raise Refused(f"the value {shown(name)} is made twice.")
            made.add(name)


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """The attributes of an operator: numbers, lists of numbers, text, tensors."""
    found: dict[str, Any] = {}
    for one in node.attribute:
        if one.type == 4 or (one.type == 0 and one.HasField("t")):
            found[one.name] = _tensor(one.t, one.name)
        elif one.type in (1, 2, 3, 6, 7):
            value = getattr(one, {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints"}[one.type])
            value = value.decode("utf-8", "replace") if one.type == 3 else value
            found[one.name] = list(value) if one.type > 3 else value
        else:
            raise Refused(
                f"operator {node.op_type} has the attribute {shown(one.name)}, a graph, texts or sparse numbers; "
                "only numbers are read."
            )
    return found


def _weights(graph: onnx.GraphProto) -> dict[str, Value]:
    found: dict[str, Value] = {}
    room = MOST_NUMBERS
    for one in graph.initializer:
        if one.name in found:
            raise Refused(f"the weights {shown(one.name)} are there twice.")
        found[one.name] = Value(one.name, _tensor(one, one.name))
        room -= found[one.name].tensor.numel()
        if room < 0:
            raise Refused(f"the file holds more than {MOST_NUMBERS:,} weights; at most so many are read.")
    return found


def _tensor(proto: onnx.TensorProto, name: str) -> Tensor:
    """The numbers of a tensor, whose shape is checked against what is stored before anything is allocated."""
    from onnx import numpy_helper

    if proto.data_location == 1 or len(proto.external_data):
        raise Refused(
            f"the weights {shown(name)} are in another file; export the network with external_data=False, which keeps "
            "them in this one."
        )
    if proto.data_type not in DTYPES:
        raise Refused(f"the tensor {shown(name)} has ONNX's type {proto.data_type}; only plain numbers are read.")
    size = math.prod(proto.dims) if all(0 <= one <= MOST_NUMBERS for one in proto.dims[:64]) else -1
    width = {1: 4, 2: 1, 3: 1, 4: 2, 5: 2, 6: 4, 7: 8, 9: 1, 10: 2, 11: 8, 12: 4, 13: 8, 16: 2}[proto.data_type]
    listed = getattr(proto, FIELDS.get(proto.data_type, "int32_data"))
    stored = len(proto.raw_data) / width if proto.raw_data else len(listed)
    if len(proto.dims) > 16 or size != stored:
        raise Refused(
            f"the tensor {shown(name)} has the shape {shown(list(proto.dims[:17]))} but holds {stored:,.0f} numbers."
        )
    array = numpy_helper.to_array(proto)
    if proto.data_type in (4, 12, 13):
        array = array.astype("int64")
    elif proto.data_type in FLOATS:
        array = array.astype("float32")
    return torch.from_numpy(array.copy().reshape(tuple(proto.dims)))


def _latent(graph: onnx.GraphProto, weights: dict[str, Value]) -> tuple[str, tuple[int, ...], int | None]:
    """The name and shape of the one real input, and the size of the batch if it is frozen."""
    used = {name for node in graph.node for name in node.input}
    inputs = [one for one in graph.input if one.name not in weights and one.name in used]
    if len(inputs) != 1:
        names = ", ".join(shown(one.name[:40]) for one in inputs[:4]) or "none"
        raise Refused(f"the graph has {len(inputs)} inputs ({names}); a generator of one input, the latents, is read.")
    (given,) = inputs
    kind = given.type.tensor_type
    if not given.type.HasField("tensor_type") or kind.elem_type not in FLOATS:
        raise Refused(f"the input {shown(given.name)} holds no float numbers; expected latents [n, d].")
    sizes = [one.dim_value if one.HasField("dim_value") else None for one in kind.shape.dim]
    if len(sizes) < 2 or len(sizes) > 6 or any(size is None or size < 1 for size in sizes[1:]):
        told = [one if one is not None else "?" for one in sizes[:7]]
        raise Refused(f"the input {shown(given.name)} has the shape {told}; expected latents [n, d] or [n, d, 1, 1].")
    shape = tuple(size for size in sizes[1:] if size is not None)
    check_latent(shape)
    batch = sizes[0] if sizes[0] is None or sizes[0] > 0 else None
    if batch is not None and batch > MOST_BATCH:
        raise Refused(f"the file was exported for {batch:,} latents at a time; at most {MOST_BATCH:,} are read.")
    return given.name, shape, batch


def _output(graph: onnx.GraphProto) -> tuple[str, int | None, list[str]]:
    """The name of the first float output, the size of its batch if declared, and a note where there are others."""
    floats = [one for one in graph.output if one.type.tensor_type.elem_type in (0, *FLOATS)]
    made = {name for node in graph.node for name in node.output}
    if not floats or floats[0].name not in made:
        raise Refused("the graph has no float output that an operator makes; expected one, the samples.")
    sizes = [one.dim_value for one in floats[0].type.tensor_type.shape.dim[:1]]
    declared = sizes[0] if sizes and 0 < sizes[0] <= MOST_BATCH else None
    others = len(graph.output) - 1
    note = f"the samples are the first of {others + 1} outputs, {shown(floats[0].name)}"
    return floats[0].name, declared, [note] if others else []
