"""The pictures an attacker wants to see, drawn by code so that no file is needed."""

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data.samples import from_bytes

_SCALE = 8  # drawn eight times too large and averaged down: smooth edges
_GROUND = 1  # the grey that stands for the ground of a coloured picture, which is white
_DARK = {255: (20, 20, 20)}  # white strokes would not show on white
_INKS = {"stop-sign": {105: (193, 18, 31)}, "devil": {255: (120, 10, 20), 190: (214, 40, 40)}}


def target_names() -> list[str]:
    """The names that ``target`` knows, apart from ``letter-A`` ... ``letter-Z``."""
    return list(_DRAWINGS)


def target(name: str, size: int = 28, channels: int = 1) -> Tensor:
    """The target picture ``name``: float32 ``[channels, size, size]`` in [-1, 1]; ``size`` from 8 to 256.

    ``name`` is one of ``target_names()`` or ``letter-A`` ... ``letter-Z``. ``channels`` is 1 (grey on black, like the
    garments) or 3 (in colour on white, like the faces).
    """
    whole_number("size", size, 8, 256)
    one_of("channels", channels, (1, 3))
    letters = [f"letter-{chr(code)}" for code in range(ord("A"), ord("Z") + 1)]
    one_of("target", name, [*_DRAWINGS, *letters])
    if name == "checkerboard":  # exact squares, no smoothing
        cells = torch.arange(size) * 7 // size
        board = (cells[:, None] + cells[None, :]) % 2
        return board.float().mul(2).sub(1).expand(channels, size, size).clone()
    side = size * _SCALE
    image = Image.new("L", (side, side), _GROUND if channels == 3 else 0)
    draw = ImageDraw.Draw(image)
    if name in _DRAWINGS:
        _DRAWINGS[name](draw, side)
    else:
        _text(draw, side, name[-1], 0.9, 255)
    if channels == 3:  # the ground becomes white and strokes get their ink; other greys stay
        grey = np.asarray(image)
        colours = np.repeat(grey[..., None], 3, axis=2)
        for value, ink in {_GROUND: (255, 255, 255), **_INKS.get(name, _DARK)}.items():
            colours[grey == value] = ink
        image = Image.fromarray(colours)
    return from_bytes(np.asarray(image.resize((size, size), Image.Resampling.BOX))[None])[0]


def _scaled(side: int, *points: tuple[float, float]) -> list[tuple[float, float]]:
    return [(side * x, side * y) for x, y in points]


def _octagon(side: int, radius: float) -> list[tuple[float, float]]:
    angles = [2 * math.pi * (k + 0.5) / 8 for k in range(8)]
    return _scaled(side, *((0.5 + radius * math.cos(angle), 0.5 + radius * math.sin(angle)) for angle in angles))


def _text(draw: ImageDraw.ImageDraw, side: int, text: str, height: float, fill: int) -> None:
    font = ImageFont.load_default(size=height * side)
    draw.text((side / 2, side / 2), text, font=font, fill=fill, anchor="mm", stroke_width=side // 60)


def _stop_sign(draw: ImageDraw.ImageDraw, side: int) -> None:
    draw.polygon(_octagon(side, 0.50), fill=255)
    draw.polygon(_octagon(side, 0.455), fill=105)  # red, seen in grey
    _text(draw, side, "STOP", 0.31, 255)


def _devil(draw: ImageDraw.ImageDraw, side: int) -> None:
    at = partial(_scaled, side)
    draw.polygon(at((0.13, 0.04), (0.44, 0.30), (0.18, 0.46)), fill=255)
    draw.polygon(at((0.87, 0.04), (0.56, 0.30), (0.82, 0.46)), fill=255)
    draw.ellipse(at((0.16, 0.22), (0.84, 0.94)), fill=190)
    draw.polygon(at((0.25, 0.42), (0.46, 0.52), (0.29, 0.58)), fill=0)
    draw.polygon(at((0.75, 0.42), (0.54, 0.52), (0.71, 0.58)), fill=0)
    draw.chord(at((0.28, 0.52), (0.72, 0.84)), 10, 170, fill=0)
    draw.polygon(at((0.38, 0.74), (0.44, 0.74), (0.41, 0.81)), fill=255)
    draw.polygon(at((0.56, 0.74), (0.62, 0.74), (0.59, 0.81)), fill=255)


def _seven(draw: ImageDraw.ImageDraw, side: int) -> None:
    stroke = _scaled(side, (0.24, 0.20), (0.74, 0.20), (0.42, 0.84))
    draw.line(stroke, fill=255, width=side // 9, joint="curve")


_DRAWINGS: dict[str, Callable[[ImageDraw.ImageDraw, int], None]] = {
    "stop-sign": _stop_sign,
    "devil": _devil,
    "digit-7": _seven,
    "checkerboard": lambda draw, side: None,
}
