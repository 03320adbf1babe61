"""A page of results: a template of Markdown in ``pages``, filled with the committed rows by Jinja2.

Prose stands in the template, wrapped as you like: a paragraph becomes one line. A table is declared there as rows and
columns: ``{{ rows | by("seed") | table({"seed": "{seed}", "TarDis": spread_of("tardis")}) }}``. What a page computes
beyond the filters here is a function that its bench gives.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import log10
from operator import itemgetter
from pathlib import Path
from string import Formatter
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from row_store import Row, where
from sklearn.metrics import roc_auc_score

BARS = "▁▂▃▄▅▆▇█"
VERDICTS = ("backdoored", "suspicious", "clean", "inconclusive")  # of a scan, as the columns of a table
PAGES = Path(__file__).parent / "pages"
Value = str | Callable[[Row], Any]  # a key of a row, or what is made of one


# ---- rows


def but(rows: Iterable[Row], **unwanted: Any) -> list[Row]:
    """The rows of which none of these is true."""
    return [row for row in rows if not any(where([row], **{key: value}) for key, value in unwanted.items())]


def has(rows: Iterable[Row], key: str) -> list[Row]:
    """The rows in which ``key`` is there and not None."""
    return [row for row in rows if row.get(key) is not None]


def by(rows: Iterable[Row], *keys: str) -> list[Row]:
    """A group for each set of values of ``keys``, in the order in which they first come: these values and ``rows``."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row.get(key) for key in keys), []).append(row)
    return [{**dict(zip(keys, found, strict=True)), "rows": some} for found, some in groups.items()]


def sections(rows: Iterable[Row], key: str = "section") -> defaultdict[str, list[Row]]:
    """The rows of each section; of one that was not measured, none."""
    return defaultdict(list, {group[key]: group["rows"] for group in by(rows, key)})


def ordered(rows: Iterable[Row], key: str, names: Iterable[Any] | None = None) -> list[Row]:
    """The rows or groups by the place of ``key`` among ``names``, or of its first coming; nothing else moves."""
    rows = list(rows)
    places = list(dict.fromkeys(row.get(key) for row in rows) if names is None else names)
    return sorted(rows, key=lambda row: places.index(row.get(key)))


def inside(row: Row, key: str) -> Any:
    """What stands under ``key``, or under ``scores.twin`` the ``twin`` of ``scores``; None where there is nothing."""
    outer, _, inner = key.partition(".")
    return row.get(key) if key in row or not inner else (row.get(outer) or {}).get(inner)


def values(rows: Iterable[Row], value: Value) -> list[Any]:
    """One value of each row, without those that are None."""
    found = (inside(row, value) if isinstance(value, str) else value(row) for row in rows)
    return [one for one in found if one is not None]


# ---- numbers


def f(value: Any, form: str = ".3g") -> str:
    """A number in a format of Python; ``-`` for None."""
    return "-" if value is None else format(value, form)


def spread(found: Sequence[float], form: str = ".3g", of_deviation: str = ".2g") -> str:
    """Mean ± standard deviation; the mean alone of one; ``-`` of none."""
    if len(found) < 2:
        return f(found[0] if found else None, form)
    return f"{statistics.fmean(found):{form}} ± {statistics.stdev(found):{of_deviation}}"


def span(found: Sequence[float], form: str = ".2g") -> str:
    """Least, median and most; ``-`` of none."""
    shown = (min(found), statistics.median(found), max(found)) if len(found) > 1 else found
    return ", ".join(format(value, form) for value in shown) or "-"


def least(found: Iterable[Any]) -> Any:
    """The smallest; None of none."""
    return min(found, default=None)


def most(found: Iterable[Any]) -> Any:
    """The largest; None of none."""
    return max(found, default=None)


def share(good: Sequence[Any], of: Sequence[Any]) -> str:
    """``3 of 4 (75%)``; ``-`` of none."""
    return f"{len(good)} of {len(of)} ({len(good) / len(of):.0%})" if of else "-"


def auc(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """Area under the ROC curve of scores of clean models and of backdoored ones."""
    return float(roc_auc_score([0] * len(theirs) + [1] * len(ours), [*theirs, *ours]))


def strongest(row: Row) -> float:
    """The strongest evidence of a scan, as a share of its limit."""
    return max(value for key, value in row.items() if key.startswith("strength "))


def bars(found: Sequence[float], low: float, high: float, width: int = 30) -> str:
    """Positive numbers as a curve of about ``width`` letters, logarithmic from 10 ** ``low`` to 10 ** ``high``."""
    places = [(log10(value) - low) / (high - low) * (len(BARS) - 1) for value in found[:: max(1, len(found) // width)]]
    return "".join(BARS[min(max(round(place), 0), len(BARS) - 1)] for place in places)


# ---- tables


class Cell(Formatter):
    """``"{tardis:.2g}"``, filled from a row; ``-`` for what is None or not there."""

    def get_field(self, name: str, args: Any, row: Any) -> tuple[Any, Any]:
        return row.get(name), name

    def format_field(self, value: Any, form: str) -> Any:
        return f(value, form)


def table(rows: Iterable[Row], *columns: Mapping[str, Value]) -> str:
    """A table: the headings, and a line for each row, or group; a cell is a text (``Cell``) or what is made of the row.

    Columns that begin with ``*`` are left out, so that a column may depend on the page; spaces at the ends of headings
    tell two of the same name apart. Without columns: the keys.
    """
    rows = list(rows)
    columns = columns or ({head: itemgetter(head) for head in rows[0]},)
    cells = {head: cell for some in columns for head, cell in some.items() if not head.startswith("*")}
    lines = [[head.strip() for head in cells], ["---"] * len(cells)]
    for row in rows:
        filled = (Cell().vformat(one, (), row) if isinstance(one, str) else str(one(row)) for one in cells.values())
        lines.append([one.strip() for one in filled])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread_of(value: Value, form: str = ".3g", of_deviation: str = ".2g") -> Callable[[Row], str]:
    """For a column: the ``spread`` of a value over the rows of a group."""
    return lambda group: spread(values(group["rows"], value), form, of_deviation)


def span_of(value: Value, form: str = ".2g") -> Callable[[Row], str]:
    return lambda group: span(values(group["rows"], value), form)


def median_of(value: Value, form: str = ".3g") -> Callable[[Row], str]:
    return lambda group: f(statistics.median(values(group["rows"], value)), form)


def most_of(value: Value, form: str = ".3g") -> Callable[[Row], str]:
    return lambda group: f(most(values(group["rows"], value)), form)


def columns_of(names: Iterable[str], head: str, make: Callable[..., Value], key: str, *form: str) -> dict[str, Value]:
    """A column for each of ``names``, which stands for ``{}`` in its ``head`` and in the ``key`` of its value."""
    return {head.format(name): make(key.format(name), *form) for name in names}


def count_of(**wanted: Any) -> Callable[[Row], str]:
    """For a column: how many rows of a group have these values."""
    return lambda group: str(len(where(group["rows"], **wanted)))


def verdicts() -> dict[str, Value]:
    """Four columns: how many rows of a group have each verdict."""
    return {verdict: count_of(verdict=verdict) for verdict in VERDICTS}


# ---- the page


def paragraphs(text: str) -> Iterator[str]:
    """What stands between empty lines, each on one line unless it is a table or a list."""
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if lines:
            yield "\n".join(lines) if lines[0].startswith("|") else re.sub(r"\n(?!- )", " ", "\n".join(lines))


def write_page(path: Path, content: Mapping[str, Any], **given: Any) -> None:
    """Fill the template of the name of ``path`` with ``content`` and what is ``given``; write the page and print it."""
    environment = Environment(
        loader=FileSystemLoader(PAGES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )  # Markdown made of our own rows: nothing to escape
    filters = (where, but, has, by, ordered, values, f, spread, span, least, most, share, bars, table)
    environment.filters |= {one.__name__: one for one in filters}
    environment.filters |= {"median": statistics.median, "mean": statistics.fmean, "at_least": max}
    environment.globals |= {
        one.__name__: one
        for one in (spread_of, span_of, median_of, most_of, count_of, columns_of, verdicts, auc, strongest)
    }
    environment.globals |= {one.__name__: one for one in (zip, max, min, sorted, len)}
    text = "\n\n".join(paragraphs(environment.get_template(path.name).render(**content, **given))) + "\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print("\n" + text)
