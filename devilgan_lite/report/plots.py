"""Small drawings for a card, as inline SVG from checked numbers: how strong a finding is, and what it was read from."""

import math
from typing import Any

from devilgan_lite.report.safe import figures, mapping, number, sequence, text

TOP = 1_000  # times the limit at which a gauge is full
WIDTH, HEIGHT, FLOOR = 320, 132, 108  # of a plot; where its axis lies


def strength_words(strength: float | None) -> str:
    """A strength as people say it: a share of the limit, or how many times it."""
    if strength is None:
        return "not answered"
    return f"{figures(strength)} times the limit" if strength >= 1 else f"{strength:.0%} of the limit"


def gauge(strength: float) -> str:
    """A bar with the limit marked in its middle: linear up to it, by powers of ten beyond."""
    part = strength / 2 if strength < 1 else 0.5 + 0.5 * min(1.0, math.log(strength) / math.log(TOP))
    colour, length = "hit" if strength >= 1 else "bar", max(3.0, WIDTH * part)
    drawn = (
        f'<rect class="rail" x="0" y="4" width="{WIDTH}" height="8" rx="4"/>'
        f'<rect class="{colour}" x="0" y="4" width="{length:.1f}" height="8" rx="4"/><path class="edge" d="M160 0v16"/>'
        f'<text x="160" y="30" text-anchor="middle">limit</text><text x="0" y="30">0</text>'
        f'<text x="{WIDTH}" y="30" text-anchor="end">{TOP:,} times</text>'
    )
    return _frame(f"strength: {strength_words(strength)}", drawn, 34)


def plot(found: object, evidence: bool = False) -> str:
    """The drawing for ``{"kind": "spectrum" | "twin" | "units", ...}``, or nothing if its numbers are none.

    What stands out is coloured as an alarm only if it is ``evidence``: elsewhere clean networks have it, too.
    """
    numbers = mapping(found)
    kind = numbers.get("kind")
    draw = DRAWN.get(kind) if isinstance(kind, str) else None
    return draw(numbers, "hit" if evidence else "known") if draw else ""


def _frame(about: str, inside: str, height: int = HEIGHT) -> str:
    return f'<svg class="plot" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{about}">{inside}</svg>'


def _spectrum(numbers: dict[str, Any], mark: str) -> str:
    """The leading values as bars on a logarithmic scale; those before the cliff are marked."""
    values = [number(value, 1e-300) for value in sequence(numbers.get("values"), 60)]
    known = [math.log10(value) for value in values if value is not None]
    before, ratio = number(numbers.get("before"), 1, len(values) - 1), number(numbers.get("ratio"), 1)
    if len(known) < len(values) or len(known) < 2 or before is None or ratio is None:
        return ""
    top, low, cliff = max(known), min(known), int(before)
    span = max(top - low, 0.3)  # a flat spectrum looks flat: the scale covers a factor of two at least
    step = WIDTH / len(known)
    heights = [14 + (FLOOR - 36) * (value - low) / span for value in known]
    bars = "".join(
        f'<rect class="{mark if index < cliff and ratio >= 2 else "bar"}" x="{index * step + 1:.1f}" '
        f'y="{FLOOR - height:.1f}" width="{max(step - 3, 1):.1f}" height="{height:.1f}" rx="1"/>'
        for index, height in enumerate(heights)
    )
    x, high, deep = cliff * step - 0.5, FLOOR - heights[cliff - 1], FLOOR - heights[cliff]
    anchor = "start" if cliff < 0.6 * len(known) else "end"
    step_drawn = (
        f'<path class="drop" d="M{x:.1f} {high:.1f}V{deep:.1f}"/><path class="axis" d="M{x:.1f} {high - 2:.1f}V16"/>'
        f'<text x="{x:.1f}" y="11" text-anchor="{anchor}">{figures(ratio)} times the next</text>'
    )
    about = f"spectrum of {text(numbers.get('of'), 80)}: the largest step, {figures(ratio)} times, is after {cliff}"
    axis = f'<path class="axis" d="M0 {FLOOR}.5h{WIDTH}"/><text x="0" y="126">strongest direction</text>'
    weakest = f'<text x="{WIDTH}" y="126" text-anchor="end">log scale, {len(known)} directions</text>'
    return _frame(about, bars + axis + step_drawn + weakest)


def _twin(numbers: dict[str, Any], mark: str) -> str:
    """Differences at ordinary latents as ticks, the limit, and the largest that was found, on a logarithmic scale."""
    ordinary = [number(value, 0) for value in sequence(numbers.get("ordinary"), 60)]
    known = [max(value, 1e-3) for value in ordinary if value is not None]
    witness, limit = number(numbers.get("witness"), 0), number(numbers.get("limit"), 1)
    if len(known) < len(ordinary) or not known or witness is None or limit is None:
        return ""
    witness = max(witness, 1e-3)
    low, high = math.log10(min(*known, 0.1)), math.log10(max(witness, limit, *known) * 1.5)

    def place(value: float) -> float:
        return 8 + (WIDTH - 16) * (math.log10(value) - low) / (high - low)

    ticks = "".join(f'<rect class="known" x="{place(value):.1f}" y="36" width="2" height="20"/>' for value in known)
    edge, seen = place(limit), place(witness)
    much = f"where they differ most: {figures(witness)} times the mean"
    drawn = (
        f'<path class="axis" d="M0 56.5h{WIDTH}"/>{ticks}<text x="{place(known[len(known) // 2]):.1f}" y="72" '
        f'text-anchor="middle">ordinary inputs</text><path class="edge" d="M{edge:.1f} 28v36"/>'
        f'<text x="{edge:.1f}" y="76" text-anchor="middle">limit</text>'
        f'<circle class="{"hit" if witness >= limit else "bar"}" cx="{seen:.1f}" cy="46" r="6"/>'
        f'<text x="{WIDTH}" y="20" text-anchor="end">{much}</text>'
    )
    return _frame(f"{much}; it is evidence from {figures(limit)} times on", drawn, 84)


def _units(numbers: dict[str, Any], mark: str) -> str:
    """How many units there are, how many of them are silent, and how many of those can be woken."""
    every = number(numbers.get("all"), 1)
    silent, wakeable = (number(numbers.get(name), 0, every or 0) for name in ("silent", "wakeable"))
    if every is None or silent is None or wakeable is None:
        return ""
    rows = (
        (every, "bar", "units"),
        (silent, "known", "silent in ordinary use"),
        (wakeable, mark, "of these can be woken"),
    )
    drawn = "".join(
        f'<text x="0" y="{28 * row + 11}">{figures(count)} {name}</text>'
        f'<rect class="rail" x="0" y="{28 * row + 16}" width="{WIDTH}" height="5"/>'
        f'<rect class="{colour}" x="0" y="{28 * row + 16}" width="{WIDTH * count / every:.1f}" height="5"/>'
        for row, (count, colour, name) in enumerate(rows)
    )
    return _frame(
        f"{figures(silent)} of {figures(every)} units are silent, {figures(wakeable)} can be woken", drawn, 84
    )


DRAWN = {"spectrum": _spectrum, "twin": _twin, "units": _units}
