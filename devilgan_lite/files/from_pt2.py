"""``torch.export`` archives (``.pt2``), read as data: a graph in JSON, and weights as plain numbers beside it.

``torch.export.load`` unpickles what a file asks it to, and so is never called; members that hold pickles, such as the
sample inputs, are not even read. The graph becomes a ``Program`` of the operators in ``aten_operations``.
"""

import io
import json
import math
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.checks import shown
from devilgan_lite.files import pt2_program
from devilgan_lite.files.archive import Archive, checked
from devilgan_lite.files.aten_operations import NUMBERS
from devilgan_lite.files.program import Reading
from devilgan_lite.files.pt2_graph import sentences
from devilgan_lite.files.sniff import Refused, printable

MOST_JSON = 32 * 2**20
MOST_WEIGHTS = 2**30  # bytes, of all tensors together
MOST_DIMENSIONS = 16
STRIDED = 7  # the layout of an ordinary tensor
AGAIN = "export it again with PyTorch 2.9 or newer"
OLD = "serialized_exported_program.json"  # the layout of PyTorch 2.7 and older
OLD_KINDS = ("state_dict", "constants")


def read(path: Path) -> Reading:
    """The network in the archive ``path``, from latents to samples; ``Refused`` if it is anything else."""
    with checked(path) as archive, sentences("archive"):
        program, tensors = _parts(archive)
    return pt2_program.reading(program, tensors)


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
