"""``torch.export`` archives (``.pt2``), read as data: a graph in JSON, and weights as plain numbers beside it.

``torch.export.load`` unpickles what a file asks it to, and so is never called; members that hold pickles, such as the
sample inputs, are not even read. The graph, JSON as ``torch._export.serde`` writes it, is checked node by node, and
walked through with the operators in ``aten_operations``.
"""

import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.checks import cut, printable, shown
from devilgan_lite.files.archive import Archive, checked
from devilgan_lite.files.aten_operations import ASSERTIONS, NUMBERS, OPERATORS, SIZES, STORAGE, VIEWS, Walker
from devilgan_lite.files.batches import MOST_BATCH, Reading, reading_of
from devilgan_lite.files.program import HALF, MOST_OPERATIONS, Trace, Value, check_latent, mapped
from devilgan_lite.files.sniff import Refused, refusing

MOST_JSON = 32 * 2**20
MOST_WEIGHTS = 2**30  # bytes, of all tensors together
MOST_DIMENSIONS = 16
SCHEMA = 8
STRIDED = 7  # the layout of an ordinary tensor
AGAIN = "export it again with PyTorch 2.9 or newer"
OLD = "serialized_exported_program.json"  # the layout of PyTorch 2.7 and older
OLD_KINDS = ("state_dict", "constants")
KINDS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
DAMAGED = "the {} in the file is damaged or not understood"


def read(path: Path) -> Reading:
    """The network in the archive ``path``, from latents to samples; ``Refused`` if it is anything else."""
    with checked(path) as archive, refusing(DAMAGED.format("archive")):
        program, tensors = _parts(archive)
    with refusing(DAMAGED.format("graph")):
        return replace(_reading(program, tensors), architecture="the graph that torch.export wrote")


def _parts(archive: Archive) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The exported program as JSON, and its tensors by name.

    What PyTorch would take from another place than this is refused: what is scanned must be what is used.
    """
    found = [match for name in archive.sizes if (match := re.fullmatch(r"((?:[^/]+/)?)models/([^/]+)\.json", name))]
    if len(found) + (OLD in archive.sizes) != 1:
        raise Refused(f"the archive holds {len(found)} exported networks; expected one: {AGAIN}.")
    if not found:
        return _json(archive, OLD), _plain(*(_unpickled(archive, f"serialized_{kind}.pt") for kind in OLD_KINDS))
    root, name = found[0].groups()
    if any(other.startswith(f"{root}data/aotinductor/") for other in archive.sizes):
        raise Refused(f"the archive holds compiled code; only the graph of a network is read: {AGAIN}.")
    if f"{root}byteorder" in archive.sizes and archive.read(f"{root}byteorder", 16) != b"little":
        raise Refused("the numbers in the archive are not little-endian, as PyTorch writes them on usual machines.")
    kept = (_stored(archive, f"{root}data/{kind}/", name, kind) for kind in ("weights", "constants"))
    return _json(archive, found[0][0]), _plain(*kept)


def _json(archive: Archive, name: str) -> Any:
    try:
        return json.loads(archive.read(name, MOST_JSON))
    except (RecursionError, ValueError):
        raise Refused(f"{shown(printable(name))} is not JSON that can be read.") from None


def _stored(archive: Archive, folder: str, name: str, kind: str) -> dict[str, Any]:
    """The tensors of one ``kind``, ``"weights"`` or ``"constants"``, by name: each as what reads it, or itself."""
    if f"{folder}{name}.pt" in archive.sizes:  # as PyTorch 2.8 wrote them
        return _unpickled(archive, f"{folder}{name}.pt")
    prefix = kind.removesuffix("s").replace("constant", "tensor")
    entries = {}
    for key, entry in _json(archive, f"{folder}{name}_{kind}_config.json")["config"].items():
        if entry["use_pickle"] or not re.fullmatch(f"{prefix}_[0-9]+", entry["path_name"]):
            raise Refused(
                f"{shown(printable(key))} is a pickled object; only tensors stored as plain numbers are read."
            )
        entries[key] = partial(_numbers, archive, folder + entry["path_name"], entry["tensor_meta"])
    return entries


def _numbers(archive: Archive, member: str, meta: Mapping[str, Any], left: int) -> Tensor:
    """The tensor that ``meta`` describes in ``member``: everything it reads is there, and is at most ``left`` bytes."""
    dtype, stored = NUMBERS.get(meta["dtype"]), archive.sizes.get(member, 0)
    sizes, strides = ([_whole(one["as_int"]) for one in meta[key]] for key in ("sizes", "strides"))
    offset, count = _whole(meta["storage_offset"]["as_int"]), math.prod(sizes)
    if dtype is None or meta["layout"] != STRIDED or len(sizes) != len(strides) or len(sizes) > MOST_DIMENSIONS:
        raise Refused(f"{shown(printable(member))} is of a kind that is not read; expected a dense tensor of numbers.")
    last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if count and not max(last + 1, count) * dtype.itemsize <= min(stored, left):
        raise Refused(
            f"{shown(printable(member))} has {stored:,} bytes; {count:,} numbers of {dtype.itemsize} bytes are due."
        )
    if not count:
        return torch.zeros(sizes, dtype=dtype)
    flat = torch.frombuffer(bytearray(archive.read(member)), dtype=dtype, count=last + 1)
    return flat.as_strided(sizes, strides, offset)


def _whole(number: Any) -> int:
    if type(number) is not int or not 0 <= number < 2**40:
        raise Refused("the archive says that a tensor has a size that is no whole number of 0 or more.")
    return number


def _unpickled(archive: Archive, member: str) -> dict[str, Any]:
    """The tensors of an archive in the archive, by name; it is opened as one of plain tensors, or not at all."""
    content = io.BytesIO(archive.read(member))
    with checked(content):
        content.seek(0)
    try:
        found = torch.load(content, map_location="cpu", weights_only=True)
    except Exception:  # whatever it asks for
        raise Refused(f"{shown(printable(member))} holds more than tensors, or is damaged: {AGAIN}.") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise Refused(f"{shown(printable(member))} holds more than tensors: {AGAIN}.")
    return found


def _plain(weights: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copies of all tensors, floats as float32: of ordinary ones, and of at most ``MOST_WEIGHTS`` bytes together."""
    tensors: dict[str, Tensor] = {}
    left = MOST_WEIGHTS
    if twice := weights.keys() & constants.keys():
        raise Refused(f"{shown(printable(min(twice)))} is a weight and a constant at once.")
    for name, value in {**weights, **constants}.items():
        tensor = value(left) if callable(value) else value.detach()
        left -= tensor.numel() * tensor.element_size()
        if (
            type(tensor) is not Tensor
            or tensor.layout != torch.strided
            or tensor.dtype not in NUMBERS.values()
            or left < 0
        ):
            raise Refused(f"{shown(printable(name))} is no ordinary tensor, or too large: {AGAIN}.")
        dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
        tensors[name] = tensor.to(dtype, memory_format=torch.contiguous_format, copy=True)
    return tensors


# --- the graph
@dataclass(frozen=True)
class Reference:
    """A reference to a value of the graph, among the arguments of a node."""

    name: str


@dataclass(frozen=True)
class Node:
    """One node of the graph: an operator, its arguments by name, and the names of its results."""

    operator: str
    arguments: dict[str, Any]
    outputs: tuple[str, ...]


def _reading(program: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Reading:
    """The ``Reading`` of an exported ``program`` with its ``tensors``; ``Refused`` if it is no plain generator."""
    version = program["schema_version"]["major"]
    if version != SCHEMA:
        raise Refused(f"the graph has schema {shown(version)}; version {SCHEMA} is read: PyTorch 2.9 writes it.")
    graph, signature = program["graph_module"]["graph"], program["graph_module"]["signature"]
    latent, stored, parameters = _inputs(signature["input_specs"], tensors)
    sizes = graph["tensor_values"][latent]["sizes"]
    batch = sizes[0].get("as_int")
    shape = tuple(one["as_int"] for one in sizes[1:])
    if not shape or any(type(size) is not int or size < 1 for size in shape):
        raise Refused(f"the network reads {shown(list(shape))}; expected latents [n, d] or [n, d, 1, 1].")
    check_latent(shape)
    if batch is not None and (type(batch) is not int or not 1 <= batch <= MOST_BATCH):
        raise Refused(f"the network reads {shown(batch)} latents at once; expected any number, or 1 to {MOST_BATCH}.")
    nodes, output = _nodes(graph, signature, {latent, *stored})

    def walk(batch: int, frozen: int | None) -> tuple[Trace, Value]:
        walker = Walker(Trace(batch, shape, parameters), frozen)
        values: dict[str, Any] = {**stored, latent: walker.trace.latent}
        for node in nodes:
            given = mapped(node.arguments, Reference, lambda reference: values[reference.name])
            made = walker.made(node.operator, given)
            values.update(zip(node.outputs, made if isinstance(made, tuple) else (made,), strict=False))
            if isinstance(made, (int, float)):
                walker.trace.sized[node.outputs[0]] = torch.tensor(made)
        return walker.trace, values[output]

    notes = [f"exported by PyTorch {cut(printable(str(program.get('torch_version', '(unknown version)'))), 40)}"]
    notes += [HALF] if {value["dtype"] for value in graph["tensor_values"].values()} & {6, 13} else []
    return reading_of(walk, notes, frozen=batch, most=MOST_WEIGHTS // 4)


def _inputs(
    specs: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]
) -> tuple[str, dict[str, Value], frozenset[str]]:
    """The name of the latent, the stored tensors by their names in the graph, and which of them are trained."""
    latents: list[str] = []
    stored: dict[str, Value] = {}
    trained = set[str]()
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input" and "as_tensor" in content["arg"]:
            latents.append(content["arg"]["as_tensor"]["name"])
        elif kind in KINDS:
            name = str(content[KINDS[kind]])
            if name not in tensors:
                raise Refused(f"the archive has no tensor {shown(printable(name))}.")
            stored[str(content["arg"]["name"])] = Value(name, tensors[name])
            trained |= {name} if kind == "parameter" else set()
        else:
            raise Refused(f"the network reads an input of kind {shown(kind)}; only latents and tensors are accepted.")
    if len(latents) != 1:
        raise Refused(f"the network reads {len(latents)} tensors; expected one, the latents.")
    return latents[0], stored, frozenset(trained)


def _nodes(graph: Mapping[str, Any], signature: Mapping[str, Any], known: set[str]) -> tuple[list[Node], str]:
    """The nodes that the output needs, in order, and its name. What changes a value in place becomes a new value."""
    nodes: list[Node] = []
    latest: dict[str, Reference] = {}  # of a value that was changed in place: what it became
    stored, stale = frozenset(known), set[str]()  # what others share memory with: it changed, too
    shares: dict[str, set[str]] = {}
    if len(graph["nodes"]) > MOST_OPERATIONS:
        raise Refused(f"the graph has {len(graph['nodes']):,} steps; at most {MOST_OPERATIONS:,} are read.")
    for node in graph["nodes"]:
        name, in_place = _operator(node)
        if name in ASSERTIONS:
            continue
        given = {one["name"]: _argument(one["arg"]) for one in node["inputs"] if one["name"] not in STORAGE}
        given = mapped(given, Reference, lambda reference: latest.get(reference.name, reference))
        names = _names([_argument(one) for one in node["outputs"]])  # several, or the elements of one list
        for value in (reads := _names(given)):
            if value not in known or value in stale:
                raise Refused(f"{name} reads {shown(printable(value))}, which nothing made, or which changed in place.")
        if not names or known & set(names) or len(set(names)) < len(names):
            raise Refused(f"{name} makes nothing, or a value that exists.")
        known.update(names)
        if in_place:
            changed = given["self"].name
            group = shares.get(changed, {changed})
            if group & stored:
                raise Refused(f"{name}_ changes the latents or a weight in place; use a function that does not.")
            stale |= group - {changed}
            before = [key for key, value in latest.items() if value.name == changed]
            latest.update(dict.fromkeys((*before, changed), Reference(names[0])))
        elif name in VIEWS:
            group = set(names).union(*(shares.get(value, {value}) for value in reads))
            shares.update(dict.fromkeys(group, group))
        nodes.append(Node(name, given, names))
    (result,) = signature["output_specs"]
    if "user_output" not in result:
        raise Refused("the network changes its own weights or statistics; call module.eval() and export it again.")
    (output,) = _names(_argument(result["user_output"]["arg"]))
    output = latest[output].name if output in latest else output
    if output not in known or output in stale:
        raise Refused(f"the network is to return {shown(printable(output))}, which nothing makes.")
    needed, kept = {output}, list[Node]()
    for one in reversed(nodes):
        if needed & set(one.outputs):
            needed.update(_names(one.arguments))
            kept.append(one)
    return kept[::-1], output


def _names(argument: Any) -> tuple[str, ...]:
    """The names of all values that an argument, or several, refer to."""
    names: list[str] = []
    mapped(argument, Reference, lambda reference: names.append(reference.name))
    return tuple(names)


def _operator(node: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of the node's operator, without a ``_`` at its end, and whether it changes its input in place."""
    target = node["target"]
    home, _, name = target.rpartition(".")
    if home == "_operator" and name in SIZES:
        return f".{name}", False
    home, _, operator = home.rpartition(".")
    in_place = operator.endswith("_") and operator[:-1] in OPERATORS
    plain = operator[:-1] if in_place else operator
    if home != "torch.ops.aten" or plain not in OPERATORS.union(ASSERTIONS):
        raise Refused(
            f"the network uses the operator {shown(printable(target))}, which is not one of those that are read."
        )
    packet = getattr(torch.ops.aten, operator)
    if name not in packet.overloads():
        raise Refused(f"PyTorch has no operator {shown(printable(target))}.")
    names = {argument.name for argument in getattr(packet, name)._schema.arguments}
    given = [one["name"] for one in node["inputs"]]
    if not set(given) <= names or len(set(given)) < len(given):
        raise Refused(f"{shown(printable(target))} is given arguments that it does not have.")
    return plain, in_place


def _argument(given: Mapping[str, Any]) -> Any:
    """The argument that a union of the schema describes, with a ``Reference`` for each reference."""
    ((kind, value),) = given.items()
    if kind == "as_none":
        return None
    if kind in ("as_tensor", "as_optional_tensor"):
        return Reference(str(value["name"])) if "name" in value else _argument(value)
    if kind.startswith("as_sym_"):
        return [_argument(one) for one in value] if kind.endswith("s") else _argument(value)
    if kind == "as_name":
        return Reference(str(value))
    if kind == "as_tensors":
        return [Reference(str(one["name"])) for one in value]
    if kind == "as_optional_tensors":
        return [_argument(one) for one in value]
    if kind == "as_scalar_type":
        return torch.float32 if NUMBERS[value].is_floating_point else NUMBERS[value]
    if kind in ("as_float", "as_floats"):  # infinity is written as text
        return [float(one) for one in value] if kind == "as_floats" else float(value)
    if kind in ("as_int", "as_ints", "as_bool", "as_bools", "as_string"):
        wanted = {"as_int": int, "as_ints": int, "as_string": str}.get(kind, bool)
        if any(type(one) is not wanted for one in (value if kind.endswith("s") else [value])):
            raise Refused(f"an argument that is to be {shown(kind)} is something else.")
        return value
    raise Refused(f"an operator has an argument of kind {shown(printable(kind))}, which is not read.")
