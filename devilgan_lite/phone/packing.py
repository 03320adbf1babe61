"""Numbers in a page: base64 of float32, or of 16-bit whole numbers with a scale for each row where there are many.

Sixteen bits with a scale are as small as half precision, and closer to most weights.
"""

import base64
import copy
import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from devilgan_lite.phone.plan import Plan

Network = TypeVar("Network", bound=nn.Module)
MANY = 8_192  # numbers of a tensor, from which on 16 bits each must do
STEPS = 32_767


def in_16_bits(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers int16 and the scale ``[rows, 1]`` of each row: their product is near ``tensor``."""
    rows = tensor.detach().float().flatten(1)
    scale = rows.abs().amax(1, keepdim=True) / STEPS
    return (rows / scale.clamp_min(1e-30)).round().to(torch.int16), scale


def rounded(module: Network) -> Network:
    """A copy of ``module`` with the weights that a page of 16 bits holds."""
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.ndim > 1 and parameter.numel() >= MANY:
                whole, scale = in_16_bits(parameter)
                parameter.copy_((whole * scale).view_as(parameter))
    return changed


def packed(plans: Sequence[Plan], tensors: Sequence[Tensor], bits: int) -> tuple[list[list[Any]], str]:
    """Where each tensor that the ``plans`` read lies, and all of them as base64; the plans are renumbered."""
    content, places = bytearray(), list[list[Any]]()
    seen: dict[bytes, int] = {}
    numbers: dict[int, int] = {}  # of a tensor, before -> after

    def place(number: int) -> int:
        tensor = tensors[number]
        small = bits == 16 and tensor.ndim > 1 and tensor.numel() >= MANY
        if small:
            whole, scale = in_16_bits(tensor)
            raw = scale.numpy().astype("<f4").tobytes() + whole.numpy().astype("<i2").tobytes()
        else:
            raw = np.ascontiguousarray(tensor.numpy()).astype("<f4").tobytes()
        key = hashlib.sha256(raw).digest()
        if key not in seen:
            seen[key] = len(places)
            places.append(["w" if small else "f", len(content), tensor.numel(), len(tensor) if small else 1])
            content.extend(raw + bytes(-len(raw) % 4))
        return seen[key]

    for plan in plans:
        for operand in _tensors_in(plan):
            number = operand["t"]
            if number not in numbers:
                numbers[number] = place(number)
        for operand in _tensors_in(plan):
            operand["t"] = numbers[operand["t"]]
    return places, base64.b64encode(bytes(content)).decode()


def _tensors_in(plan: Plan) -> list[dict[str, int]]:
    given = [one for step in plan.steps for one in (*step.values(), *step.get("parts", ()))]
    return list({id(one): one for one in given if isinstance(one, dict) and "t" in one}.values())
