"""The figures of the two notebooks on cures: paths, prices, pruning curves, and the table of attacks and cures."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from devilgan_lite.apps.course.cures import GONE
from devilgan_lite.apps.pictures import LINES, MARKERS, PALETTE, Picture, axes, figure

if TYPE_CHECKING:  # only types
    from matplotlib.axes import Axes

Curve = Mapping[float, Mapping[str, float]]  # share of the channels -> TarDis, Frechet change


def _styled(ax: "Axes", size: int = 9) -> None:
    ax.tick_params(labelsize=size)
    for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
        text.set_fontsize(size)


def path_figure(paths: Mapping[str, Mapping[int, float]], alt: str, *, log: bool = False) -> Picture:
    """TarDis along the steps of some trainings, by name; above the dashed line a backdoor is gone."""
    fig, (ax,) = axes(6.6, 3.4)
    for index, (name, path) in enumerate(paths.items()):
        values = [max(value, 1e-6) for value in path.values()]
        ax.plot(list(path), values, marker=MARKERS[index % 8], markersize=4, color=PALETTE[index % 8], label=name)
    _gone_above(ax)
    ax.set(xlabel="step", ylabel="TarDis per pixel", yscale="log" if log else "linear")
    ax.legend(frameon=False, fontsize=9)
    _styled(ax)
    return figure(fig, alt, dpi=100, colours=64)


def price_figure(
    points: Mapping[str, Mapping[str, float]], alt: str, *, cost: float | None = None, log_from: float = 0.0
) -> Picture:
    """Rows of ``Judge`` as points: safer is up, cheaper is left; ``log_from`` sets a symmetric logarithmic price."""
    fig, (ax,) = axes(7.2, 4.0)
    for index, (name, row) in enumerate(points.items()):
        colour, marker = PALETTE[index % 8], MARKERS[(index + index // 8) % 8]
        ax.scatter(row["Frechet change"], row["best nearby"], s=55, color=colour, marker=marker, label=name, zorder=3)
    _gone_above(ax)
    if cost is not None:
        ax.axvline(cost, color="black", linewidth=0.8, linestyle="--")
    if log_from:
        ax.set_xscale("symlog", linthresh=log_from)
    ax.set(xlabel="Frechet change (left: better pictures)", ylabel="best nearby (up: safer)", ylim=(-0.005, None))
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _styled(ax)
    return figure(fig, alt, dpi=100, colours=64)


def lines_figure(
    x: Sequence[float],
    lines: Mapping[str, Sequence[Sequence[float]]],
    alt: str,
    *,
    xlabel: str,
    ticks: Sequence[str] = (),
) -> Picture:
    """TarDis against ``x``, by name: the mean of some repeats at each x, in a band from the least to the greatest."""
    fig, (ax,) = axes(6.8, 3.6)
    for index, (name, repeats) in enumerate(lines.items()):
        colour = PALETTE[index % 8]
        mean = [sum(values) / len(values) for values in repeats]
        ax.plot(x, mean, LINES[index % 4], marker=MARKERS[index % 8], markersize=5, color=colour, label=name)
        ax.fill_between(x, [min(v) for v in repeats], [max(v) for v in repeats], color=colour, alpha=0.15)
    _gone_above(ax)
    if ticks:
        ax.set_xticks(x, ticks)
    ax.set(xlabel=xlabel, ylabel="TarDis per pixel")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    _styled(ax)
    return figure(fig, alt, dpi=100, colours=64)


def pruning_figure(curves: Mapping[str, Mapping[str, Curve]], alt: str, *, cost: float) -> Picture:
    """Pruning curves, suspect -> criterion -> curve: TarDis above the Frechet change, a column for each suspect."""
    fig, _ = axes(2.5 * len(curves) + 0.4, 5.2)
    fig.clear()
    for column, (name, criteria) in enumerate(curves.items()):
        for row, measure in enumerate(("TarDis", "Frechet change")):
            ax = fig.add_subplot(2, len(curves), len(curves) * row + column + 1)
            for index, (by, curve) in enumerate(criteria.items()):
                ax.plot(
                    [100 * share for share in curve],
                    [point[measure] for point in curve.values()],
                    LINES[index % 4],
                    marker=MARKERS[index % 8],
                    markersize=4,
                    color=PALETTE[index % 8],
                    label=by,
                )
            ax.axhline(cost if row else GONE, color="black", linewidth=0.8, linestyle=":")
            ax.spines[["top", "right"]].set_visible(False)
            ax.grid(True, color="#dddddd", linewidth=0.6)
            if row:
                ax.set_yscale("symlog", linthresh=1)
                ax.set(xlabel="% of channels removed", ylim=(-3, 1000))
            else:
                ax.set(title=name, ylim=(-0.05, 1.6))
            if column:
                ax.set_yticklabels([])
            else:
                ax.set_ylabel(measure if row else "TarDis per pixel")
            if not column and not row:
                ax.legend(frameon=False, fontsize=9)
            _styled(ax)
    return figure(fig, alt, dpi=100, colours=64)


def bench_figure(counts: Mapping[str, Mapping[str, tuple[int, int]]], alt: str) -> Picture:
    """Attacks (rows) against cures (columns): how many models are cured, of how many; darker is more."""
    columns = list(next(iter(counts.values()), {}))
    fig, (ax,) = axes(2.6 + 0.75 * max(1, len(columns)), 1.2 + 0.3 * max(1, len(counts)))
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if columns:
        shares = [[good / max(1, of) for good, of in row.values()] for row in counts.values()]
        ax.imshow(shares, aspect="auto", cmap="Blues", vmin=0, vmax=1.8)
    for y, row in enumerate(counts.values()):
        for x, (good, of) in enumerate(row.values()):
            ax.text(x, y, f"{good} of {of}" if of else "-", ha="center", va="center", fontsize=9)
    ax.set_xticks(
        range(len(columns)),
        [column.replace(" %", "%").replace(", ", "\n").replace(" ", "\n") for column in columns],
        fontsize=9,
    )
    ax.set_yticks(range(len(counts)), list(counts), fontsize=9)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    return figure(fig, alt, dpi=100, colours=64)


def _gone_above(ax: "Axes") -> None:
    ax.axhline(GONE, color="black", linewidth=0.8, linestyle="--")
    ax.annotate(
        "above: gone", (0.01, GONE), xycoords=("axes fraction", "data"), fontsize=9, va="bottom", annotation_clip=False
    )
