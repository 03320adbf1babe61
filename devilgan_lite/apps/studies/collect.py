"""The rows of a study as one tidy table, and what it says: means with confidence intervals, frontier, heat map.

One line a run, or one for each entry where a notebook lists several ``attacks`` in its numbers. Columns: what was asked
for (parameters), what came out (numbers), and how it went (``status``, ``reason``, ``seconds``, ``peak_memory_mb``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from devilgan_lite.apps.studies.store import Row, Store

FACTS = ("id", "notebook", "repeat", "status", "reason", "seconds", "peak_memory_mb", "device", "attempt")
RANDOM = ("seed", "repeat", "trigger_seed")  # what runs of one kind may differ in
ENTRIES = "attacks"  # the list of rows that a notebook may put among its numbers


def tidy(folder: str | Path) -> pd.DataFrame:
    """The table of a study's folder, in the order of the study; runs that are not there yet have status ``waiting``."""
    lines = [line for row in Store(folder).rows() for line in _lines(row)]
    frame = pd.DataFrame(lines)
    first = [name for name in FACTS if name in frame]
    return frame[first + [name for name in frame if name not in first]]


def _lines(row: Row) -> list[Row]:
    numbers = dict(row.get("numbers") or {})
    entries = numbers.pop(ENTRIES, None)
    common = {name: row.get(name) for name in FACTS} | dict(row.get("parameters") or {})
    flat = flattened(numbers)
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries) or not entries:
        return [{**flat, **common}]
    return [{**flat, **flattened(entry), **common} for entry in entries]


def flattened(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Numbers and texts of nested mappings under dotted names; lists are left out."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= flattened(value, f"{prefix}{name}.")
        elif value is None or isinstance(value, (bool, int, float, str)):
            found[f"{prefix}{name}"] = value
    return found


def parameters_in(folder: str | Path, *, all_of_them: bool = False) -> list[str]:
    """The names of the parameters that differ between runs of a study, but for seeds; or of all that were given."""
    values: dict[str, set[str]] = {}
    rows = Store(folder).rows()
    for row in rows:
        for name, value in (row.get("parameters") or {}).items():
            values.setdefault(name, set()).add(repr(value))
    if all_of_them:
        return list(values)
    return [name for name, some in values.items() if len(some) > 1 and name not in RANDOM]


def averages(table: pd.DataFrame, by: list[str], columns: list[str], level: float = 0.95) -> pd.DataFrame:
    """Mean of ``columns`` over finished runs that agree in ``by``: ``runs``, ``<column>`` and ``<column> ±``.

    The latter is half the confidence interval of the mean by Student's t; empty for a single run.
    """
    from scipy.stats import t

    done = table[table["status"] == "finished"]
    lines = []
    for key, group in done.groupby(by, sort=False, dropna=False) if by else [((), done)]:
        line: Row = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        line["runs"] = len(group)
        for column in columns:
            values = pd.to_numeric(group[column], errors="coerce").dropna()
            line[column] = values.mean() if len(values) else None
            error = values.std() / len(values) ** 0.5 if len(values) > 1 else None
            line[f"{column} ±"] = None if error is None else float(t.ppf((1 + level) / 2, len(values) - 1)) * error
        lines.append(line)
    return pd.DataFrame(lines)


def measured(table: pd.DataFrame, parameters: list[str]) -> list[str]:
    """The columns that hold numbers which came out of the runs, and not the settings that went in."""
    own = {*FACTS, *RANDOM, *parameters} - {"seconds"}
    numeric = [name for name in table if name not in own and pd.api.types.is_numeric_dtype(table[name])]
    return [name for name in numeric if not pd.api.types.is_bool_dtype(table[name]) and table[name].notna().any()]


def export(table: pd.DataFrame, folder: str | Path) -> tuple[Path, Path]:
    """Write ``table.csv`` and ``table.parquet`` into ``folder``; their paths."""
    csv, parquet = Path(folder) / "table.csv", Path(folder) / "table.parquet"
    table.to_csv(csv, index=False)
    stored = table.copy()
    for name in stored:  # a column of mixed kinds is text there
        if stored[name].dtype == object:
            stored[name] = stored[name].map(lambda value: None if value is None else str(value))
    stored.to_parquet(parquet, index=False)
    return csv, parquet
