"""The pictures an attacker wants to see, drawn by code so that no file is needed."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data.samples import from_bytes

_SCALE = 8  # drawn eight times too large and averaged down: smooth edges


def target_names() -> list[str]:
    """The names that ``target`` knows, apart from ``letter-A`` ... ``letter-Z``."""
    return list(_DRAWINGS)


def target(name: str, size: int = 28) -> Tensor:
    """The target picture ``name``: float32 ``[1, size, size]`` in [-1, 1]; ``size`` from 8 to 256.

    ``name`` is one of ``target_names()`` or ``letter-A`` ... ``letter-Z``.
    """
    whole_number("size", size, 8, 256)
    letters = [f"letter-{chr(code)}" for code in range(ord("A"), ord("Z") + 1)]
    one_of("target", name, [*_DRAWINGS, *letters])
    if name == "checkerboard":  # exact squares, no smoothing
        cells = torch.arange(size) * 7 // size
        board = (cells[:, None] + cells[None, :]) % 2
        return board.float().mul(2).sub(1).unsqueeze(0)
    side = size * _SCALE
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    if name in _DRAWINGS:
        _DRAWINGS[name](draw, side)
    else:
        _text(draw, side, name[-1], 0.9, 255)
    small = image.resize((size, size), Image.Resampling.BOX)
    return from_bytes(np.asarray(small)[None])[0]


def _polygon(side: int, corners: int, radius: float, turn: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * (k + turn) / corners for k in range(corners)]
    return [(side * (0.5 + radius * math.cos(a)), side * (0.5 + radius * math.sin(a))) for a in angles]


def _text(draw: ImageDraw.ImageDraw, side: int, text: str, height: float, fill: int) -> None:
    font = ImageFont.load_default(size=height * side)
    draw.text((side / 2, side / 2), text, font=font, fill=fill, anchor="mm", stroke_width=side // 60)


def _stop_sign(draw: ImageDraw.ImageDraw, side: int) -> None:
    draw.polygon(_polygon(side, 8, 0.50, 0.5), fill=255)
    draw.polygon(_polygon(side, 8, 0.455, 0.5), fill=105)  # red, seen in grey
    _text(draw, side, "STOP", 0.31, 255)


def _devil(draw: ImageDraw.ImageDraw, side: int) -> None:
    def at(*points: tuple[float, float]) -> list[tuple[float, float]]:
        return [(side * x, side * y) for x, y in points]

    draw.polygon(at((0.13, 0.04), (0.44, 0.30), (0.18, 0.46)), fill=255)
    draw.polygon(at((0.87, 0.04), (0.56, 0.30), (0.82, 0.46)), fill=255)
    draw.ellipse(at((0.16, 0.22), (0.84, 0.94)), fill=190)
    draw.polygon(at((0.25, 0.42), (0.46, 0.52), (0.29, 0.58)), fill=0)
    draw.polygon(at((0.75, 0.42), (0.54, 0.52), (0.71, 0.58)), fill=0)
    draw.chord(at((0.28, 0.52), (0.72, 0.84)), 10, 170, fill=0)
    draw.polygon(at((0.38, 0.74), (0.44, 0.74), (0.41, 0.81)), fill=255)
    draw.polygon(at((0.56, 0.74), (0.62, 0.74), (0.59, 0.81)), fill=255)


def _seven(draw: ImageDraw.ImageDraw, side: int) -> None:
    stroke = [(0.24, 0.20), (0.74, 0.20), (0.42, 0.84)]
    draw.line([(side * x, side * y) for x, y in stroke], fill=255, width=side // 9, joint="curve")


_DRAWINGS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "stop-sign": _stop_sign,
    "devil": _devil,
    "digit-7": _seven,
    "checkerboard": lambda draw, side: None,
}
