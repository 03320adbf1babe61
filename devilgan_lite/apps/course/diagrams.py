"""Drawings of boxes and arrows, for what no measurement shows: who does what to whom."""

from collections.abc import Sequence

from devilgan_lite.apps.pictures import PALETTE, Picture, axes, figure

STEP, WIDTH = 3.3, 2.5  # from one box to the next, and of a box
COLOURS = (1, 3, 0, 2, 4, 5, 6, 7)  # places in the palette, so that neighbours differ


def flow(boxes: Sequence[tuple[str, str]], between: Sequence[str], below: tuple[int, int, str], alt: str) -> Picture:
    """Two to eight ``boxes`` (title, text) in a row, and arrows with the words ``between`` them.

    ``below`` is a dashed arrow from one box to another, by their places from 0, and its words.
    """
    if not 2 <= len(boxes) <= len(COLOURS) or len(between) != len(boxes) - 1:
        raise ValueError(f"{len(boxes)} boxes and {len(between)} arrows; expected 2 to 8 boxes, one arrow fewer.")
    fig, (ax,) = axes(2.15 * len(boxes), 2.6)
    ax.set(xlim=(0, STEP * len(boxes) - 0.6), ylim=(0.2, 3.2))
    ax.axis("off")
    for place, (title, text) in enumerate(boxes):
        middle = STEP * place + 0.1 + WIDTH / 2
        colour = PALETTE[COLOURS[place]]
        ax.fill_between((middle - WIDTH / 2, middle + WIDTH / 2), 1.5, 3.1, color=colour, alpha=0.18, linewidth=0)
        ax.text(middle, 2.75, title, ha="center", va="center", weight="bold", fontsize=10)
        ax.text(middle, 2.05, text, ha="center", va="center", fontsize=9)
    for place, words in enumerate(between):
        left = STEP * place + 0.1 + WIDTH
        ax.annotate("", (left + 0.75, 2.3), (left + 0.05, 2.3), arrowprops={"arrowstyle": "->", "lw": 1.8})
        ax.text(left + 0.4, 2.48, words, ha="center", fontsize=9, style="italic")
    start, end = (STEP * place + 0.1 + WIDTH / 2 for place in below[:2])
    bow = 0.44 / max(1, abs(below[1] - below[0]))  # as deep whatever it spans, so that the words stay below it
    bend = {"arrowstyle": "->", "lw": 1.5, "ls": "--", "connectionstyle": f"arc3,rad={bow}"}
    ax.annotate("", (end, 1.45), (start, 1.45), arrowprops=bend)
    ax.text((start + end) / 2, 0.45, below[2], ha="center", fontsize=9)
    return figure(fig, alt, dpi=100, colours=64)
