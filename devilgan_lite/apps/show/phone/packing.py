"""Numbers in a page: base64 of float32, or of 16-bit whole numbers with a scale for each row where there are many.

Sixteen bits with a scale are as small as half precision, and closer to most weights.
"""

import base64
import copy
import hashlib
import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from devilgan_lite.apps.show.phone.plan import Plan

Network = TypeVar("Network", bound=nn.Module)
MANY = (16_384, 131_072, math.inf)  # numbers of a tensor from which on 16 bits each must do; the first that can
STEPS = 32_767
FITS = 0.9  # share of numbers that 16 bits hold exactly; a few scales are another one the second time


def in_16_bits(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers int16 and the scale ``[rows, 1]`` of each row: their product is near ``tensor``.

    A row is what shares the first index, in a convolution the first two: so a strong kernel leaves the others exact.
    """
    rows = tensor.detach().float().flatten(0, max(0, tensor.ndim - 3)).flatten(1)
    exact = rows.abs().amax(1, keepdim=True) / STEPS
    # the many scales of a convolution have 16 bits themselves: rounded up to the next bfloat16
    scale = ((exact.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32) if tensor.ndim > 2 else exact
    return (rows / scale.clamp_min(1e-30)).round().to(torch.int16), scale


def rounded(module: Network, many: float) -> Network:
    """A copy of ``module`` with the weights that a page holds where tensors of ``many`` numbers have 16 bits."""
    changed = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in changed.parameters():
            if parameter.ndim > 1 and parameter.numel() >= many:
                whole, scale = in_16_bits(parameter)
                parameter.copy_((whole * scale).view_as(parameter))
    return changed


def packed(plans: Sequence[Plan], tensors: Sequence[Tensor]) -> tuple[list[list[Any]], str]:
    """Where each tensor that the ``plans`` read lies, and all of them as base64; the plans are renumbered.

    What was ``rounded`` takes 16 bits. What was computed from it since then would not fit these, and takes 32.
    """
    content, places = bytearray(), list[list[Any]]()
    seen: dict[bytes, int] = {}
    numbers: dict[int, int] = {}  # of a tensor, before -> after

    def place(number: int) -> int:
        tensor = tensors[number]
        small = tensor.ndim > 1 and tensor.numel() >= min(MANY)
        if small:
            whole, scale = in_16_bits(tensor)
            small = float(((whole * scale).view_as(tensor) == tensor).float().mean()) > FITS
        kind = "f"
        if small:
            scales = scale.numpy().astype("<f4")
            kind, scales = ("h", scales.view("<u2")[:, 1:]) if tensor.ndim > 2 else ("w", scales)  # the upper half
            raw = scales.tobytes() + whole.numpy().astype("<i2").tobytes()
        else:
            raw = np.ascontiguousarray(tensor.numpy()).astype("<f4").tobytes()
        key = hashlib.sha256(raw).digest()
        if key not in seen:
            seen[key] = len(places)
            places.append([kind, len(content), tensor.numel(), len(scale) if small else 1])
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
