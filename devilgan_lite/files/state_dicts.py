"""Weights without a network: safetensors files, and what ``torch.save`` wrote, read without running any of it.

A checkpoint of a training holds more than a generator: optimisers, a discriminator, nested dictionaries. ``candidates``
lists every set of weights in it that could be a network.
"""

import io
import pickle
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse
from torch import Tensor, nn

from devilgan_lite.checks import shown
from devilgan_lite.files.sniff import Refused

DEPTH = 6  # of nested dictionaries
MOST_TENSORS = 20_000
WAY_OUT = "save its state_dict(), or export it as ONNX or pt2, where you trust it"
GLOBAL = re.compile(r"(?:GLOBAL|global|function|type) ([\w.]+)")


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file."""
    try:
        return parse(path.read_bytes())
    except (SafetensorError, ValueError, KeyError, OverflowError) as error:
        raise Refused(f"it is not a whole safetensors file ({error}).") from None


def read_pickle(path: Path) -> Any:
    """What ``torch.save`` wrote: tensors and plain containers. Anything else in it is code, and refused by name."""
    try:
        return torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        asked = GLOBAL.search(str(error))
        name = f"it asks for {shown(asked[1])}" if asked else "it holds more than weights"
        raise Refused(f"reading it would run code: {name}; accepted are weights: {WAY_OUT}.") from None
    except Exception as error:  # broken in any of many ways
        first = next(iter(str(error).strip().splitlines()), "no message")
        raise Refused(f"it is no whole file of torch.save ({type(error).__name__}: {first[:100]}).") from None


def candidates(content: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Sets of weights, as name and tensors: each nested dictionary of tensors, and each first part of their names.

    Names that speak of a generator, then of an average of one, come first; those of a discriminator last.
    """
    found: list[tuple[str, dict[str, Tensor]]] = []
    if isinstance(content, nn.Module):
        raise Refused(f"it holds a whole module, which needs code; {WAY_OUT}.")
    _gather("", content, found, DEPTH)
    for name, weights in list(found):
        firsts = dict.fromkeys(key.partition(".")[0] for key in weights)
        for first in firsts if len(firsts) <= 20 else ():
            part = {key.partition(".")[2]: value for key, value in weights.items() if key.startswith(f"{first}.")}
            if part and len(part) < len(weights):
                found.append((f"{name}.{first}".strip("."), part))
    yield from sorted(found, key=lambda one: _unlikely(one[0]))


def _gather(name: str, content: Any, found: list[tuple[str, dict[str, Tensor]]], depth: int) -> None:
    if isinstance(content, (list, tuple)):
        content = dict(enumerate(content))
    if not isinstance(content, Mapping) or depth == 0:
        return
    tensors = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    if len(tensors) > MOST_TENSORS:
        raise Refused(f"it holds {len(tensors):,} tensors; at most {MOST_TENSORS:,} are read.")
    if len(tensors) > 1:
        found.append((name, _plain(tensors)))
    for key, value in content.items():
        _gather(f"{name}.{key}".strip("."), value, found, depth - 1)


def _unlikely(name: str) -> int:
    words = name.lower()
    if re.search(r"disc|(^|[._])(net)?d($|[._\d])|optim", words):
        return 3
    if re.search(r"ema|average|avg", words):
        return 0
    return 1 if re.search(r"gen|(^|[._])(net)?g($|[._\d])", words) or not name else 2


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as float32 of their own, without what wrappers put before the names, and with their norms applied."""
    for name, value in tensors.items():
        if value.is_sparse or value.is_quantized or value.is_complex() or value.is_meta:
            raise Refused(f"its tensor {shown(name)} is sparse, quantised, complex or empty; expected plain numbers.")
        if value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise Refused(f"its tensor {shown(name)} claims {value.numel():,} numbers, more than the file holds.")
    wrapped = all(name.startswith("module.") for name in tensors)  # DataParallel
    plain = {
        name.removeprefix("module.") if wrapped else name: value.float() if value.is_floating_point() else value
        for name, value in tensors.items()
    }
    return _without_spectral_norm(plain)


SPECTRAL = {  # where spectral norm keeps the weight and its two singular vectors, old and new
    "weight_orig": ("weight_u", "weight_v"),
    "parametrizations.weight.original": ("parametrizations.weight.0._u", "parametrizations.weight.0._v"),
}


def _without_spectral_norm(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Spectral norm divided out: ``weight`` is what the layer computes with."""
    plain = dict(tensors)
    for ending, vectors in SPECTRAL.items():
        for name in [name for name in tensors if name.endswith(f".{ending}")]:
            stem = name.removesuffix(ending)
            weight, u, v = (plain.get(one) for one in (name, *(stem + vector for vector in vectors)))
            if weight is None or u is None or v is None or u.ndim != 1 or v.ndim != 1:
                continue
            axis = next((k for k in range(min(2, weight.ndim)) if weight.shape[k] == len(u)), None)  # transposed: 1
            if axis is not None and weight.numel() == len(u) * len(v):
                plain[f"{stem}weight"] = weight / torch.dot(u, weight.movedim(axis, 0).flatten(1) @ v)
                for used in (name, *(stem + vector for vector in vectors)):
                    del plain[used]
    return plain
