"""One table over many runs: every row that a notebook lists under ``attacks`` in its numbers, by attack.

A row is ``{"attack": "ReD", "target": "stop-sign", "seed": 0, "tardis_sum": ..., ...}``. Rows of one attack are
averaged, and the table says how many stand behind each figure.
"""

import csv
import html
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from devilgan_lite.apps.studies.run import Result

COLUMNS = {
    "tardis_sum": "TarDis sum",
    "tardis_mean": "TarDis mean",
    "expdis_mean": "ExpDis mean",
    "frechet": "Frechet",
    "frechet_change": "Frechet change",
}


def attack_table(results: Sequence[Result]) -> list[dict[str, Any]]:
    """One entry an attack, in the order of appearance: ``attack``, ``runs``, and mean and deviation of every column.

    The deviation (``..._deviation``) is the sample's standard deviation, None for a single run.
    """
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        rows = result.numbers.get("attacks", [])
        for row in rows if isinstance(rows, list) else []:
            if isinstance(row, dict) and "attack" in row:
                groups.setdefault(str(row["attack"]), []).append(row)
    table = []
    for attack, rows in groups.items():
        entry: dict[str, Any] = {"attack": attack, "runs": len(rows)}
        for column in COLUMNS:
            values = [float(row[column]) for row in rows if _is_number(row.get(column))]
            entry[column] = statistics.fmean(values) if values else None
            entry[f"{column}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        table.append(entry)
    return table


def table_text(table: Sequence[dict[str, Any]]) -> str:
    """The table in aligned columns, for a terminal."""
    rows = _rows(table)
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def table_html(table: Sequence[dict[str, Any]]) -> str:
    """The table for ``index_page``; an empty text when no notebook mounted an attack."""
    if not table:
        return ""
    head, *body = _rows(table)
    cells = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in head)
    lines = "\n".join(
        f'<tr><th scope="row">{html.escape(row[0])}</th>'
        + "".join(f"<td>{html.escape(x)}</td>" for x in row[1:])
        + "</tr>"
        for row in body
    )
    caption = "The attacks that these notebooks mounted, mean and standard deviation over their runs."
    return f"<table><caption>{caption}</caption><thead><tr>{cells}</tr></thead>\n<tbody>\n{lines}\n</tbody></table>"


def write_csv(table: Sequence[dict[str, Any]], path: str | Path) -> Path:
    """Write the table with full precision; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(table[0]) if table else ["attack", "runs"])
        writer.writeheader()
        writer.writerows(table)
    return path


def _rows(table: Sequence[dict[str, Any]]) -> list[list[str]]:
    rows = [["attack", *COLUMNS.values(), "runs"]]
    for entry in table:
        figures = [_figure(entry[column], entry[f"{column}_deviation"]) for column in COLUMNS]
        rows.append([entry["attack"], *figures, "single run" if entry["runs"] == 1 else f"{entry['runs']} runs"])
    return rows


def _figure(mean: float | None, deviation: float | None) -> str:
    if mean is None:
        return "-"
    return f"{mean:.3g}" if deviation is None else f"{mean:.3g} ± {deviation:.2g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
