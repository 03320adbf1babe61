"""Plain data from a jailed process as text, numbers and pictures that are safe in HTML, whatever was put there."""

import base64
import binascii
import html
import struct
from typing import Any

from devilgan_lite.checks import cut

MOST_LETTERS = 600
MOST_BYTES = 6 * 2**20  # of one picture
MOST_SIDE = 4_096  # pixels of it across or down: a few bytes can ask for gigabytes


def mapping(value: object) -> dict[str, Any]:
    """``value`` if it is a dict, else an empty one."""
    return value if isinstance(value, dict) else {}


def sequence(value: object, most: int) -> list[Any]:
    """The first ``most`` of ``value`` if it is a list or tuple, else none."""
    return list(value[:most]) if isinstance(value, (list, tuple)) else []


def text(value: object, most: int = MOST_LETTERS) -> str:
    """``value`` as HTML text or attribute: on one line, cut, without invisible characters; empty if it is no text."""
    line = " ".join(value[: 4 * most].split()) if isinstance(value, str) else ""
    return html.escape(cut("".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in line), most))


def number(value: object, low: float = -1e18, high: float = 1e18) -> float | None:
    """``value`` if it is a finite number in ``[low, high]``, else None; neither a bool nor a string is one."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high
    return float(value) if good else None  # type: ignore[arg-type]


def figures(value: float) -> str:
    """A number for people: three digits that count, and a comma for thousands."""
    if value and abs(value) < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def image(source: object, alt: str) -> str:
    """An ``img`` of a PNG in base64, or nothing if it is something else or too large; ``alt`` is escaped already."""
    if not isinstance(source, str) or len(source) > MOST_BYTES * 4 // 3 + 4:
        return ""
    try:
        content = base64.b64decode(source, validate=True)
    except (binascii.Error, ValueError):
        return ""
    if len(content) < 33 or content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        return ""
    if not all(1 <= side <= MOST_SIDE for side in struct.unpack(">II", content[16:24])):
        return ""
    return f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
