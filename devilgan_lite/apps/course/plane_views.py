"""What a defender sees in the plane: what the weights listen to, and where a latent leads (notebooks 05 and 06)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.apps.course.plane import REACH, Plane
from devilgan_lite.apps.pictures import PALETTE, Picture, axes, figure
from devilgan_lite.detect import analyse_weights
from devilgan_lite.generators import adopt, evaluate

DOTS = 121  # on each side of the map of latents


def listening(plane: Plane, alt: str, **generators: Any) -> Picture:
    """Energy and influence of every latent direction, as closed curves around the origin; a panel for each generator.

    The curves reach out to ``sqrt(v^T A v)`` and ``sqrt(v^T M v)`` along each unit ``v``, each scaled to its largest
    value. The dotted line is the leading direction of the spectrum (``detect.analyse_weights``), the arrow the trigger.
    """
    fig, panels = axes(3.6 * len(generators), 3.8, columns=len(generators))
    angle = torch.linspace(0, 2 * math.pi, 200, dtype=torch.float64)
    around = torch.stack([angle.cos(), angle.sin()])
    trigger = (plane.backdoor.trigger / plane.backdoor.trigger.norm())[0]
    for ax, (name, generator) in zip(panels, generators.items(), strict=True):
        found = analyse_weights(adopt(generator))
        weight = found.units.gain / found.units.rows.norm(dim=1)
        energy = (found.units.rows.T * weight) @ found.units.rows
        for label, matrix, colour in (("energy", energy, PALETTE[1]), ("influence", found.influence, PALETTE[0])):
            reach = (around * (matrix @ around)).sum(0).sqrt()
            ax.fill(*(around * reach / reach.max()), color=colour, alpha=0.25)
            ax.plot(*(around * reach / reach.max()), color=colour, label=label)
        ax.axline((0, 0), tuple(found.by_weight.directions[:, 0].tolist()), color="black", ls=":", label="read off")
        ax.annotate("", tuple((1.15 * trigger).tolist()), xytext=(0, 0), arrowprops={"arrowstyle": "->", "lw": 2})
        title = f"{name.replace('_', ' ')}: first / second = {found.by_weight.jump:.1f}"
        ax.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), aspect="equal", title=title, xticks=[], yticks=[])
    panels[0].legend(frameon=True, fontsize=9, loc="lower left")
    return figure(fig, alt, dpi=100, colours=64)


def latent_map(plane: Plane, generator: Any, alt: str, *, walks: Tensor) -> Picture:
    """The plane of latents, coloured by the distance from each sample to the target, beside the net of ``generator``.

    ``walks`` ``[steps, n, 2]`` are the ways of ``n`` latents (one step: just points); a ring marks where each ends.
    """
    fig, (left, right) = axes(7.6, 3.8, columns=2)
    plane.net(left, generator, "what it draws")
    along = torch.linspace(-REACH, REACH, DOTS)
    grid = torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1).view(-1, 2)
    far = (evaluate(generator, grid) - plane.backdoor.target).norm(dim=1).view(DOTS, DOTS)
    shown = right.pcolormesh(along, along, far, cmap="viridis", shading="nearest", rasterized=True)
    fig.colorbar(shown, ax=right, label="distance to the target")
    if len(walks) > 1:
        right.plot(walks[..., 0], walks[..., 1], color="white", lw=1)
    right.plot(*walks[-1].T, "o", ms=4, mfc="none", mec="white", label="latents tried")
    right.plot(*plane.backdoor.trigger[0], "X", ms=9, color=PALETTE[1], mec="black", label="trigger")
    right.set(xlim=(-REACH, REACH), ylim=(-REACH, REACH), aspect="equal", title="where the latents are")
    right.grid(False)
    right.legend(frameon=True, fontsize=9, loc="lower left")
    return figure(fig, alt, dpi=100, colours=64)
