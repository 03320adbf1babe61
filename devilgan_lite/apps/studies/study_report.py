"""``runs.report``: one self-contained page for a study, with its tables, its figures, and a link to each run."""

import html
import io
import math
import textwrap
import time
from pathlib import Path
from typing import Any

import pandas as pd

from devilgan_lite.apps.studies.collect import averages, export, measured, parameters_in, tidy
from devilgan_lite.apps.studies.pages import STYLE
from devilgan_lite.apps.studies.store import Store

STEALTH, FIDELITY = "expdis_mean", "tardis_mean"  # the two columns of a frontier
ATTACK, DEFENCE = "attack", "defence"
AFTER = "tardis_after"  # what a heat map shows; without it, what a study of names measures first
LETTERS_ACROSS = 110  # of the size of a legend, in a figure of 7 inches
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#f0e442")
MARKERS = "osD^vP*X"
MOST_COLUMNS = 12
MOST_CELLS = 30  # of a heat map, in either direction


def report(folder: str | Path) -> Path:
    """Write the tables (CSV, Parquet), their averages and ``index.html`` into a study's folder; the page's path.

    The page holds means with 95 % confidence intervals over seeds, the frontier of stealth and fidelity where the
    numbers have both, else the heat map of two groups of names (``frontier.png``, ``heat_map.png``), and every run with
    a link to its notebook.
    """
    folder = Path(folder)
    table = tidy(folder)
    by = groups(table, parameters_in(folder))
    summary = averages(table, by, measured(table, [*by, *parameters_in(folder, all_of_them=True)])[:MOST_COLUMNS])
    export(table, folder)
    summary.to_csv(folder / "averages.csv", index=False)
    drawn = {"frontier": frontier(summary, by), "heat_map": heat_map(summary, by)}
    figures = [made for made in drawn.values() if made is not None]
    for name, made in drawn.items():
        if made is not None:
            made[0].savefig(folder / f"{name}.png", dpi=110)
    page = folder / "index.html"
    page.write_text(_page(Store(folder).title, table, summary, figures, folder), encoding="utf-8")
    return page


def groups(table: pd.DataFrame, parameters: list[str]) -> list[str]:
    """What means are taken for: the notebook, the attack and defence, and every parameter that differs."""
    first = [name for name in ("notebook", ATTACK, DEFENCE) if name in table and table[name].nunique() > 1]
    return list(dict.fromkeys([*first, *(name for name in parameters if name in table)]))


def frontier(summary: pd.DataFrame, by: list[str]) -> tuple[Any, str] | None:
    """Stealth against fidelity, a line for each attack (and each other group but ``lam``); a figure and its words."""
    from matplotlib.figure import Figure

    if STEALTH not in summary or FIDELITY not in summary or summary[[STEALTH, FIDELITY]].dropna().empty:
        return None
    lines = _telling([name for name in by if name != "lam"], summary)
    known = summary.dropna(subset=[STEALTH, FIDELITY])
    found = list(known.groupby(lines, sort=False, dropna=False)) if lines else [("all runs", known)]
    names = [", ".join(map(_short, key)) if isinstance(key, tuple) else str(key) for key, _ in found]
    names = [textwrap.fill(name, LETTERS_ACROSS) for name in names]
    columns = max(1, LETTERS_ACROSS // (max(map(len, names)) + 8))  # 8 letters are as wide as a line and its margins
    rows = sum(name.count("\n") + 1 for name in names[::columns])
    figure = Figure(figsize=(7.0, 4.4 + 0.18 * rows), layout="constrained")
    ax = figure.add_subplot()
    for index, (name, (_, group)) in enumerate(zip(names, found, strict=True)):
        ordered = group.sort_values("lam") if "lam" in group and group["lam"].notna().all() else group
        bars = [pd.to_numeric(ordered[f"{column} ±"]).fillna(0.0) for column in (STEALTH, FIDELITY)]
        # on a logarithmic axis a bar cannot reach below nothing: it ends a decade lower at most
        low = [bar.clip(upper=0.9 * ordered[column]) for bar, column in zip(bars, (STEALTH, FIDELITY), strict=True)]
        ax.errorbar(
            ordered[STEALTH],
            ordered[FIDELITY],
            xerr=[low[0], bars[0]],
            yerr=[low[1], bars[1]],
            marker=MARKERS[index % len(MARKERS)],
            color=COLOURS[index % len(COLOURS)],
            linestyle="-" if len(ordered) > 1 else "",
            capsize=2,
            label=name,
        )
    ax.set(
        xlabel="ExpDis, mean per element: change of ordinary pictures",
        ylabel="TarDis, mean per element: error at the trigger",
    )
    _decades(ax, "x")
    _decades(ax, "y")
    ax.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=columns, frameon=False, fontsize=8)
    least, most = int(known["runs"].min()), int(known["runs"].max())
    runs = f"{least}" if least == most else f"{least} to {most}"
    kind = "single runs" if most == 1 else f"means of {runs} runs a point with 95 % confidence intervals"
    words = f"Stealth and fidelity, {kind}; lower left is better."
    return figure, words


def _decades(ax: Any, name: str) -> None:
    """Scale axis ``name`` of ``ax`` by whole decades around its data, with a place for 0 where it is needed.

    So labels are powers of ten, which have room.
    """
    low, high = getattr(ax.dataLim, f"interval{name}")
    if high <= 0:  # nothing has a logarithm
        return
    bottom, top = math.floor(math.log10(getattr(ax.dataLim, f"minpos{name}"))), math.ceil(math.log10(high))
    top = max(top, bottom + 1)
    scale = {} if low > 0 else {"linthresh": 10.0**bottom}
    getattr(ax, f"set_{name}scale")("symlog" if scale else "log", **scale)
    getattr(ax, f"set_{name}lim")(-0.3 * 10.0**bottom if scale else 0.8 * 10.0**bottom, 1.25 * 10.0**top)


def _telling(names: list[str], summary: pd.DataFrame) -> list[str]:
    """Those of ``names`` that tell rows apart which agree in the ones before."""
    kept: list[str] = []
    for name in names:
        values = summary.groupby(kept, dropna=False)[name] if kept else summary[name]
        if pd.Series(values.nunique(dropna=False)).max() > 1:
            kept.append(name)
    return kept


def heat_map(summary: pd.DataFrame, by: list[str]) -> tuple[Any, str] | None:
    """The first figure that was measured (or TarDis after a defence), by two groups; a figure and its words.

    Columns are defences, else the last group of names in ``by``; rows are all other groups that tell means apart.
    """
    from matplotlib.colors import LogNorm, Normalize
    from matplotlib.figure import Figure

    named = [name for name in by if name in summary and not pd.api.types.is_numeric_dtype(summary[name])]
    numbers = [name for name in summary if f"{name} ±" in summary and name != "seconds"]
    if not named or not numbers or (AFTER not in numbers and {STEALTH, FIDELITY} <= set(numbers)):
        return None
    value, across = AFTER if AFTER in numbers else numbers[0], DEFENCE if DEFENCE in named else named[-1]
    down = _telling([name for name in by if name != across], summary)
    if not down:  # one group: the table says it all
        return None
    rows = pd.Series([", ".join(map(_short, key)) for key in summary[down].itertuples(index=False)], summary.index)
    values = summary.pivot_table(index=rows, columns=across, values=value, aggfunc="mean", sort=False)
    if not (0 < len(values) <= MOST_CELLS and len(values.columns) <= MOST_CELLS):
        return None
    longest = max(len(str(name)) for name in values.index)
    size = 2.5 + 1.3 * len(values.columns) + 0.08 * longest, 2.8 + 0.6 * len(values)
    figure = Figure(figsize=size, layout="constrained")
    ax = figure.add_subplot()
    shown = values.clip(lower=1e-6) if value == AFTER else values
    low, high = shown.min().min(), shown.max().max()
    wide = 0 < 100 * low < high  # two decades
    image = ax.imshow(shown, cmap="cividis", norm=(LogNorm if wide else Normalize)(low, high), aspect="auto")
    ax.set(xlabel=across, ylabel=", ".join(down))
    ax.set_xticks(range(len(values.columns)), values.columns, rotation=30, ha="right")
    ax.set_yticks(range(len(values)), values.index)
    middle = (low * high) ** 0.5 if wide else (low + high) / 2
    for row in range(len(values)):
        for column in range(len(values.columns)):
            cell = values.iloc[row, column]
            if pd.notna(cell):
                colour = "white" if cell < middle else "black"
                ax.text(column, row, f"{cell:.2g}", ha="center", va="center", color=colour, fontsize=9)
    label = "TarDis after the defence (mean per element; more means less backdoor)" if value == AFTER else str(value)
    figure.colorbar(image, label=textwrap.fill(label, int(7 * size[1])))
    words = f"{label} for each {across} (columns) and each {', '.join(down)} (rows), means over runs."
    return figure, words


def picture(figure: Any, words: str) -> str:
    """A figure as an ``img`` that holds its own bytes."""
    from devilgan_lite.data.modality import image_element  # imports torch, which a sweep does not need

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, facecolor="white", metadata={"Software": None})
    image = image_element(buffer.getvalue(), words)
    return f"<figure>{image}<figcaption>{html.escape(words)}</figcaption></figure>"


def _page(title: str, table: pd.DataFrame, summary: pd.DataFrame, figures: list[Any], folder: Path) -> str:
    runs = table.drop_duplicates("id")
    counts = runs["status"].value_counts()
    said = ", ".join(f"{count} {status}" for status, count in counts.items())
    seconds = pd.to_numeric(runs["seconds"], errors="coerce").sum()
    return f"""<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title><style>{STYLE}
body {{ max-width: 75rem; }} img {{ max-width: 100%; }} figure {{ margin: 1rem 0; }} .scroll {{ overflow-x: auto; }}
</style></head>
<body><main><h1>{html.escape(title)}</h1>
<p>{len(runs)} runs: {said}; {seconds:,.0f} s together. Written {time.strftime("%Y-%m-%d %H:%M")}.
The whole table: <a href="table.csv">table.csv</a>, <a href="table.parquet">table.parquet</a>;
means: <a href="averages.csv">averages.csv</a>.</p>
{"".join(picture(figure, words) for figure, words in figures)}
<h2>Means over seeds</h2>
<p>± is half the 95 % confidence interval of the mean (Student's t); a dash stands for a single run.</p>
<div class="scroll">{_means(summary)}</div>
<h2>Runs</h2>
<div class="scroll">{_runs(runs, folder)}</div></main></body></html>
"""


def _means(summary: pd.DataFrame) -> str:
    if summary.empty:
        return "<p>No run has finished yet.</p>"
    names = [name for name in summary if not str(name).endswith(" ±")]
    lines = []
    for _, row in summary.iterrows():
        cells = []
        for name in names:
            value, half = row[name], row.get(f"{name} ±")
            spread = " ± -" if pd.isna(half) else f" ± {_two_digits(half)}"
            spread = spread if f"{name} ±" in summary and pd.notna(value) else ""
            cells.append(f'<td class="together">{html.escape(_short(value) + spread)}</td>')
        lines.append(f"<tr>{''.join(cells)}</tr>")
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in names)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _runs(runs: pd.DataFrame, folder: Path) -> str:
    names = [name for name in ("notebook", *parameters_in(folder), "seed", "repeat", "seconds") if name in runs]
    lines = []
    for row in runs.to_dict("records"):
        path = folder / "runs" / str(row["id"]) / f"{row['notebook']}.ipynb"
        link = path.relative_to(folder).as_posix()
        name = f'<a href="{html.escape(link)}">{row["id"]}</a>' if path.is_file() else str(row["id"])
        reason = "" if pd.isna(row.get("reason")) else f": {row['reason']}"
        kind = ' class="failed"' if row["status"] == "failed" else ""
        cells = "".join(f"<td>{html.escape(_short(row[name]))}</td>" for name in names)
        status = html.escape(f"{row['status']}{reason}")
        lines.append(f'<tr><th scope="row">{name}</th><td{kind}>{status}</td>{cells}</tr>')
    head = "".join(f'<th scope="col">{html.escape(str(name))}</th>' for name in ("run", "status", *names))
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{chr(10).join(lines)}\n</tbody></table>"


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"
    return "-" if value is None else str(value)


def _two_digits(value: float) -> str:
    """Two significant digits, and all digits before the point: 140, not 1.4e+02."""
    return f"{value:,.0f}" if 100 <= value < 1e9 else f"{value:.2g}"
