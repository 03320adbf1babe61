"""The graph of an exported program, JSON as ``torch._export.serde`` writes it, as a list of steps that are checked.

A step uses an operator of ``aten_operations`` and values that exist. What changes a value in place becomes a new value.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.checks import cut, shown
from devilgan_lite.files.aten_operations import ASSERTIONS, FUNCTIONS, NUMBERS, SIZES, STORAGE, VIEWS
from devilgan_lite.files.program import MOST_OPERATIONS
from devilgan_lite.files.sniff import Refused, printable

KINDS = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}


@dataclass(frozen=True)
class Value:
    """A reference to a value of the graph, among the arguments of a step."""

    name: str


@dataclass(frozen=True)
class Step:
    """One node of the graph: an operator, its arguments by name, and the names of its results."""

    name: str
    arguments: dict[str, Any]
    outputs: tuple[str, ...]
    listed: bool = False  # the results are the elements of one list


@dataclass(frozen=True)
class Stored:
    """A tensor of the file: its name there, such as ``layers.0.weight``, and its numbers."""

    name: str
    tensor: Tensor


@contextmanager
def sentences(what: str) -> Iterator[None]:
    """Whatever a stranger's ``what`` makes the code inside raise is a ``Refused``."""
    try:
        yield
    except Refused:
        raise
    except Exception as error:  # any key may be missing, any value may be anything
        said = cut(printable(str(error)), 100)
        raise Refused(
            f"the {what} in the file is damaged or not understood ({type(error).__name__}: {said})."
        ) from None


def inputs(specs: Sequence[Mapping[str, Any]], tensors: Mapping[str, Tensor]) -> tuple[str, dict[str, Stored]]:
    """The name of the latent, and the stored tensors by their names in the graph."""
    latents: list[str] = []
    named: dict[str, Stored] = {}
    for spec in specs:
        ((kind, content),) = spec.items()
        if kind == "user_input" and "as_tensor" in content["arg"]:
            latents.append(content["arg"]["as_tensor"]["name"])
        elif kind in KINDS:
            name = str(content[KINDS[kind]])
            if name not in tensors:
                raise Refused(f"the archive has no tensor {shown(printable(name))}.")
            named[str(content["arg"]["name"])] = Stored(name, tensors[name])
        else:
            raise Refused(f"the network reads an input of kind {shown(kind)}; only latents and tensors are accepted.")
    if len(latents) != 1:
        raise Refused(f"the network reads {len(latents)} tensors; expected one, the latents.")
    return latents[0], named


def steps_of(graph: Mapping[str, Any], signature: Mapping[str, Any], known: set[str]) -> tuple[list[Step], str]:
    """The nodes of the graph in order, without assertions, and the name of what it makes."""
    steps: list[Step] = []
    latest: dict[str, Value] = {}  # of a value that was changed in place: what it became
    stored, stale = frozenset(known), set[str]()  # what others share memory with: it changed, too
    shares: dict[str, set[str]] = {}
    if len(graph["nodes"]) > MOST_OPERATIONS:
        raise Refused(f"the graph has {len(graph['nodes']):,} steps; at most {MOST_OPERATIONS:,} are read.")
    for node in graph["nodes"]:
        name, in_place = _operator(node)
        if name in ASSERTIONS:
            continue
        given = {one["name"]: _argument(one["arg"]) for one in node["inputs"] if one["name"] not in STORAGE}
        given = {key: filled(value, latest) for key, value in given.items()}
        outputs = [_argument(one) for one in node["outputs"]]
        listed = len(outputs) == 1 and isinstance(outputs[0], list)
        names = tuple(value.name for value in (outputs[0] if listed else outputs))
        for value in references(given):
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
            latest = {key: Value(names[0]) if value.name == changed else value for key, value in latest.items()}
            latest[changed] = Value(names[0])
        elif name in VIEWS:
            group = set(names).union(*(shares.get(value, {value}) for value in references(given)))
            shares.update(dict.fromkeys(group, group))
        steps.append(Step(name, given, names, listed))
    (result,) = signature["output_specs"]
    if "user_output" not in result:
        raise Refused("the network changes its own weights or statistics; call module.eval() and export it again.")
    (output,) = references(filled(_argument(result["user_output"]["arg"]), latest))
    if output not in known or output in stale:
        raise Refused(f"the network is to return {shown(printable(output))}, which nothing makes.")
    return needed_for(steps, output), output


def _operator(node: Mapping[str, Any]) -> tuple[str, bool]:
    """The name of the node's operator, without a ``_`` at its end, and whether it changes its input in place."""
    target = node["target"]
    home, _, name = target.rpartition(".")
    if home == "_operator" and name in SIZES:
        return f".{name}", False
    home, _, operator = home.rpartition(".")
    in_place = operator.endswith("_") and operator[:-1] in FUNCTIONS
    if home != "torch.ops.aten" or (operator.removesuffix("_") if in_place else operator) not in {
        *FUNCTIONS,
        *ASSERTIONS,
    }:
        raise Refused(
            f"the network uses the operator {shown(printable(target))}, which is not one of those that are read."
        )
    packet = getattr(torch.ops.aten, operator)
    if name not in packet.overloads():
        raise Refused(f"PyTorch has no operator {shown(printable(target))}.")
    names = {argument.name for argument in getattr(packet, name)._schema.arguments}
    if not {one["name"] for one in node["inputs"]} <= names or len({one["name"] for one in node["inputs"]}) < len(
        node["inputs"]
    ):
        raise Refused(f"{shown(printable(target))} is given arguments that it does not have.")
    return operator.removesuffix("_") if in_place else operator, in_place


def _argument(given: Mapping[str, Any]) -> Any:
    """The argument that a union of the schema describes, with ``Value`` for each reference."""
    ((kind, value),) = given.items()
    if kind == "as_none":
        return None
    if kind in ("as_tensor", "as_optional_tensor"):
        return Value(str(value["name"])) if "name" in value else _argument(value)
    if kind.startswith("as_sym_"):
        return [_argument(one) for one in value] if kind.endswith("s") else _argument(value)
    if kind == "as_name":
        return Value(str(value))
    if kind == "as_tensors":
        return [Value(str(one["name"])) for one in value]
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


def references(value: Any) -> Iterator[str]:
    """The names of all values that an argument, or several, refer to."""
    if isinstance(value, Value):
        yield value.name
    elif isinstance(value, (list, dict)):
        for one in value.values() if isinstance(value, dict) else value:
            yield from references(one)


def filled(value: Any, values: Mapping[str, Any]) -> Any:
    """An argument with its references replaced by those of ``values`` that have their names."""
    if isinstance(value, list):
        return [filled(one, values) for one in value]
    return values.get(value.name, value) if isinstance(value, Value) else value


def needed_for(steps: list[Step], output: str) -> list[Step]:
    """Those of the ``steps`` without which there is no ``output``."""
    needed, kept = {output}, list[Step]()
    for step in reversed(steps):
        if needed & set(step.outputs):
            needed.update(references(step.arguments))
            kept.append(step)
    return kept[::-1]
