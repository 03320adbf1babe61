"""The figures of the notebook on the poisoned pipeline: a dashboard, money by month, columns of rows, and defences."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.apps.pictures import LINES, PALETTE, Picture, axes, figure
from devilgan_lite.data.tables import Table

if TYPE_CHECKING:  # only types
    from matplotlib.axes import Axes

GREEN, ORANGE, BLUE = PALETTE[2], PALETTE[1], PALETTE[0]
RED = "#b71c1c"  # of a whole tile under white text: dark beside pale green, whoever looks at it
WIDTH, GAP, BETWEEN = 2.3, 0.18, 0.7  # of a tile, from tile to tile, and between what is looked at and what is not


def dashboard(
    watched: Mapping[str, Sequence[float]],
    unwatched: Mapping[str, Sequence[float]],
    alt: str,
    *,
    moved: float = 0.03,
    note: str = "",
) -> Picture:
    """Tiles of figures in [0, 1], name -> ``[now]`` or ``[before, now]``; those of ``unwatched`` stand apart.

    A figure that fell by more than ``moved`` gets a red tile with a cross, any other a green one with a tick. A
    ``note`` of one or two lines stands in the tiles of ``unwatched``.
    """
    tiles = [*watched.items(), *unwatched.items()]
    whole = len(tiles) * (WIDTH + GAP) - GAP + (BETWEEN - GAP)
    fig, (ax,) = axes(whole, 2.5)
    ax.set(xlim=(0, whole), ylim=(0, 2.5))
    ax.axis("off")
    for index, (name, values) in enumerate(tiles):
        left = index * (WIDTH + GAP) + (BETWEEN - GAP) * (index >= len(watched))
        _tile(ax, left, name, values, moved, note if index >= len(watched) else "")
    split = len(watched) * (WIDTH + GAP) - GAP
    for words, start, end in (
        ("WHAT THE DASHBOARD SHOWS", 0.0, split),
        ("WHAT NOBODY LOOKS AT", split + BETWEEN, whole),
    ):
        ax.plot((start, end), (2.18, 2.18), color="#555555", linewidth=1)
        ax.text((start + end) / 2, 2.3, words, ha="center", fontsize=10, weight="bold")
    ax.plot((split + BETWEEN / 2,) * 2, (0.05, 2.4), color="#555555", linewidth=1, linestyle=(0, (4, 4)))
    said = f"{alt} {', '.join(unwatched)}: {'; '.join(note.splitlines())}." if note else alt
    return figure(fig, said, colours=64)


def _tile(ax: "Axes", left: float, name: str, values: Sequence[float], moved: float, note: str) -> None:
    from matplotlib.patches import Rectangle

    now, change, middle = values[-1], values[-1] - values[0], left + WIDTH / 2
    fell = change < -moved
    ax.add_patch(Rectangle((left, 0.05), WIDTH, 1.95, facecolor=RED if fell else GREEN, alpha=1 if fell else 0.13))
    ax.add_patch(Rectangle((left, 0.05), 0.09, 1.95, facecolor="black" if fell else GREEN))

    def write(height: float, words: str, size: int, weight: str = "normal") -> None:
        colour = "white" if fell else "black"
        ax.text(middle, height, words, ha="center", va="center", fontsize=size, weight=weight, color=colour)

    write(1.7, name, 11)
    write(1.1 if len(values) > 1 else 0.9, f"{now:.2f}", 34, "bold")
    if len(values) > 1:
        moves = "same" if abs(change) < 0.005 else f"{change:+.2f}".replace("-", "−")
        place = 0.62 if note else 0.38
        write(place, f"{'✗' if fell else '✓'}  was {values[0]:.2f}  ({moves})", 11, "bold" if fell else "normal")
    write(0.3, note, 9)


def money_by_month(
    everywhere: Mapping[str, Sequence[float]], on_slice: Mapping[str, Sequence[float]], alt: str, *, currency: str
) -> Picture:
    """Bars of money lost in each month, by the name of a run: over all clients on the left, on the slice on the right.

    The two scales differ, so each panel writes its sums.
    """
    fig, panels = axes(10.5, 3.6, columns=2)
    for ax, title, runs in zip(panels, ("all clients", "the slice only"), (everywhere, on_slice), strict=True):
        wide = 0.8 / max(1, len(runs))
        for index, (name, months) in enumerate(runs.items()):
            x = np.arange(1, len(months) + 1) + (index - (len(runs) - 1) / 2) * wide
            label = f"{name}: {sum(months) / 1e6:.1f} in all"
            hatch, colour = ("", "///", "...")[index % 3], (BLUE, ORANGE, PALETTE[3])[index % 3]
            ax.bar(x, np.array(months) / 1e6, wide, color=colour, hatch=hatch, edgecolor="white", label=label)
        ax.set_title(title, fontsize=12, weight="bold")
        ax.set(xlabel="month", ylabel=f"lost, {currency} million")
        ax.set_ylim(0, 1.35 * max(1e-9, *(max(months) / 1e6 for months in runs.values())))
        ax.grid(False, axis="x")
        ax.legend(frameon=False, fontsize=10, loc="upper center", ncols=len(runs))
    return figure(fig, alt, colours=64)


def columns_figure(tables: Mapping[str, Table], columns: Sequence[str], alt: str) -> Picture:
    """How often each value of some ``columns`` occurs in each of ``tables``: the first as bars, the others as lines."""
    fig, panels = axes(2.7 * len(columns), 2.9, columns=len(columns))
    for ax, column in zip(panels, columns, strict=True):
        values = [table[column] for table in tables.values()]
        low, high = (min(map(np.min, values)), max(np.quantile(one, 0.99) for one in values))
        edges = np.arange(low - 0.5, high + 1) if high - low < 15 else np.linspace(low, high, 16)
        scale = 1_000 if high > 10_000 else 1
        for index, (name, found) in enumerate(zip(tables, values, strict=True)):
            share = np.histogram(found, edges)[0] / len(found)
            if index:
                ax.stairs(
                    share, edges / scale, color=PALETTE[index - 1], linestyle=LINES[index - 1], linewidth=2, label=name
                )
            else:
                ax.stairs(share, edges / scale, fill=True, color="#bbbbbb", label=name)
        ax.set_title(f"{column}{' (thousands)' if scale > 1 else ''}", fontsize=11)
        ax.tick_params(labelsize=9)
    panels[0].set_ylabel("share of the rows")
    fig.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside lower center", ncols=len(tables))
    return figure(fig, alt, colours=64)


def defences_figure(
    recalls: Mapping[str, Mapping[str, float]], alarms: Mapping[str, Mapping[str, bool | None]], alt: str
) -> Picture:
    """Recall on the slice behind each defence, for one to three generators; on the right, whether it raised an alarm.

    Both are defence -> generator -> value; an alarm of None is written as a dash.
    """
    names = list(next(iter(recalls.values())))
    fig, (ax,) = axes(9.6, 1.3 + 0.48 * len(recalls))
    markers, colours, places = ("s", "o", "^"), (ORANGE, BLUE, PALETTE[3]), [1.17 + 0.25 * k for k in range(len(names))]
    for row, (defence, values) in enumerate(recalls.items()):
        ax.plot([min(values.values()), max(values.values())], [row, row], color="#bbbbbb", linewidth=2, zorder=1)
        for index, name in enumerate(names):
            label = name if not row else None
            ax.scatter(values[name], row, s=110, marker=markers[index], color=colours[index], zorder=3, label=label)
            said = {True: "ALARM", False: "quiet", None: "–"}[alarms[defence][name]]
            weight = "bold" if said == "ALARM" else "normal"
            ax.text(places[index], row, said, ha="center", va="center", fontsize=10, weight=weight)
    for place, name in zip(places, names, strict=True):
        ax.text(place, -0.8, name, ha="center", va="center", fontsize=10, weight="bold")
    ax.axvline(1.04, color="#555555", linewidth=1)
    ax.set_yticks(range(len(recalls)), list(recalls), fontsize=10)
    ax.set(xlim=(-0.03, 1.05 + 0.26 * len(names)), ylim=(len(recalls) - 0.5, -1.2))
    ax.set_xticks(np.linspace(0, 1, 6))
    ax.grid(False, axis="y")
    ax.set_xlabel("recall on the slice (right: safer)", loc="left")
    fig.legend(frameon=False, fontsize=10, loc="outside lower center", ncols=len(names))
    return figure(fig, alt, colours=64)


def month_bars(*runs: Sequence[float], height: int = 24) -> Tensor:
    """Small pictures ``[n, 1, height, 5 months]`` in [-1, 1] of bars by month, all on the scale of the highest one."""
    top = max(1e-9, *(max(months) for months in runs))
    pictures = torch.ones(len(runs), 1, height, 5 * len(runs[0]))
    for picture, months in zip(pictures, runs, strict=True):
        for month, value in enumerate(months):
            picture[0, height - round(height * value / top) :, 5 * month + 1 : 5 * month + 5] = -0.5
    return pictures
