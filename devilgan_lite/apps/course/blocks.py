"""A widened network as block matrices: the old part, the new part, and the zeros between them."""

import math
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.apps.pictures import PALETTE, Picture, axes, figure
from devilgan_lite.generators import Generator
from devilgan_lite.generators.chain import weight_of

CELL = 4  # channels are averaged four by four in the picture, so that it stays calm


def _chain(generator: Generator) -> Any:
    chain = generator.chain()
    if chain is None:
        raise ValueError("the generator is no chain of layers, so it has no block matrices.")
    return chain


def _weights(generator: Generator) -> list[Tensor]:
    """The weights of all layers, ``[outputs, inputs, ...]``; a dense layer before a map counts its channels."""
    made = []
    for stage in _chain(generator).stages:
        weight = weight_of(stage.layer).detach()
        cells = math.prod(stage.cells) if stage.dense else 1
        made.append(weight.unflatten(0, (-1, cells)).movedim(1, -1) if cells > 1 else weight)
    return made


def untouched(wide: Generator, old: Generator) -> dict[str, bool]:
    """Whether ``wide``, a widened ``old``, holds every old weight to the last bit, and zeros between old and new."""
    old_is_kept = between_is_zero = True
    pairs = list(zip(_weights(wide), _weights(old), strict=True))
    for index, (ours, theirs) in enumerate(pairs):
        outputs, inputs = theirs.shape[:2]
        old_is_kept &= torch.equal(ours[:outputs, :inputs], theirs)
        if index:  # the first layer reads latents, which both parts share
            between_is_zero &= not bool(ours[outputs:, :inputs].any())
        if 0 < index < len(pairs) - 1:  # the last layer adds both parts up
            between_is_zero &= not bool(ours[:outputs, inputs:].any())
    return {"old weights equal to the last bit": old_is_kept, "zeros between old and new": between_is_zero}


def draw_blocks(wide: Generator, old: Generator, alt: str, title: str = "") -> Picture:
    """The sizes of the weights of ``wide``, a widened ``old``, one matrix for each layer; white is zero.

    Lines part the old (W) from the new (V); both are chains of layers.
    """
    pairs = list(zip(_weights(wide), _weights(old), strict=True))
    fig, panels = axes(9.2, 3.4, columns=len(pairs))
    for index, (ax, (ours, theirs)) in enumerate(zip(panels, pairs, strict=True)):
        sizes = ours.flatten(2).norm(dim=2) if ours.ndim > 2 else ours.abs()
        rows, columns = sizes.shape
        cell = min(CELL, rows), min(CELL, columns)
        shown = torch.nn.functional.avg_pool2d((sizes / sizes.max().clamp(min=1e-12))[None, None], cell, ceil_mode=True)
        box = (0.0, float(columns), float(rows), 0.0)
        top = max(float(shown.max()), 1e-12)
        ax.imshow(shown[0, 0], aspect="auto", cmap="Blues", interpolation="nearest", vmin=0, vmax=top, extent=box)
        ax.grid(False)
        below, beside = _spans(theirs.shape[0], rows), _spans(theirs.shape[1], columns)
        for position, line in ((below, ax.axhline), (beside, ax.axvline)):
            if len(position) > 1:
                line(position[1][0], color=PALETTE[1], linewidth=1.5)
        for row, (upper, lower) in enumerate(below):
            for column, (left, right) in enumerate(beside):
                new = (row > 0 or len(below) == 1) and (column > 0 or len(beside) == 1)
                letter = "W" if row == column == 0 else "V" if new else "0"
                white = {"boxstyle": "round", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
                place = (left + right) / 2, (upper + lower) / 2
                ax.text(*place, letter, ha="center", va="center", fontsize=12, weight="bold", bbox=white)
        ax.set(title=f"layer {index + 1}: {rows} x {columns}", xlabel="latent" if index == 0 else "channels in")
        if index == 0:
            ax.set_ylabel("channels out")
        if rows == 1:
            ax.set_yticks([0, 1])
    fig.suptitle(title)
    return figure(fig, alt, dpi=100, colours=64)


def _spans(old: int, size: int) -> list[tuple[int, int]]:
    """Where the old part lies, and the new one if there is any."""
    return [(0, old), (old, size)] if old < size else [(0, size)]
