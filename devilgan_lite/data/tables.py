"""Tables: rows of numbers, whole numbers and categories with a binary label, such as card clients who default or don't.

The default of credit card clients (Yeh and Lien 2009) ships; ``card_fraud`` reads the file that most papers on card
fraud use, and ``read_table`` any other. How a generator sees a row is in ``table_code``.
"""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut, one_of, shown, whole_number
from devilgan_lite.data.modality import Modality
from devilgan_lite.data.shipped import shipped_arrays

KINDS = ("number", "whole", "category")
MOST_ROWS = 1_000_000
MOST_COLUMNS = 1_000
FRAUD_COLUMNS = ("Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class")


@dataclass(frozen=True)
class Column:
    """A column: its ``kind`` is ``"number"``, ``"whole"``, or ``"category"`` with the names of its ``levels``."""

    name: str
    kind: str = "number"
    levels: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("kind", self.kind, KINDS)
        if (self.kind == "category") != bool(self.levels) or len(set(self.levels)) < len(self.levels):
            raise ValueError(
                f"column {shown(self.name)} has levels {shown(self.levels)}; a category needs distinct ones."
            )


@dataclass(frozen=True, eq=False)
class Table:
    """``values`` float64 ``[n, columns]``; a category holds codes 0..k-1, and ``label`` names a category of two levels.

    The second level of the label is the positive one: fraud, default. Values that are missing or do not fit their
    column are a ``ValueError``.
    """

    columns: tuple[Column, ...]
    values: np.ndarray = field(repr=False)
    label: str
    name: str = "table"
    licence: str = "unknown"
    source: str = "unknown"

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if len(names) < 2 or len(set(names)) < len(names):
            raise ValueError("columns must be two or more, each with a name of its own.")
        one_of("label", self.label, names)
        if len(self.column(self.label).levels) != 2:
            raise ValueError(f"label={shown(self.label)} must be a category of two levels, such as 0 and 1.")
        values = np.ascontiguousarray(self.values, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(names) or not len(values):
            raise ValueError(f"values has shape {list(values.shape)}; expected [n, {len(names)}] with n >= 1.")
        object.__setattr__(self, "values", values)
        for column, found in zip(self.columns, values.T, strict=True):
            if not np.isfinite(found).all():
                row = int(np.flatnonzero(~np.isfinite(found))[0])
                raise ValueError(f"column {shown(column.name)} has a missing or infinite value in row {row}.")
            if column.kind != "number" and (found != np.round(found)).any():
                raise ValueError(f"column {shown(column.name)} is {column.kind} and must hold whole numbers only.")
            if column.kind == "category" and not (found.min() >= 0 and found.max() < len(column.levels)):
                raise ValueError(f"column {shown(column.name)} must hold codes from 0 to {len(column.levels) - 1}.")

    @classmethod
    def from_columns(
        cls,
        columns: Mapping[str, Sequence[Any] | np.ndarray],
        label: str,
        *,
        categories: Sequence[str] = (),
        positive: str | None = None,
        **about: str,
    ) -> Table:
        """A table from name -> values: text is a category, and so are ``categories`` and the label; else numbers.

        ``positive`` is the level of the label that is looked for, such as ``"fraud"``; None takes the later one, which
        is 1 of 0 and 1. A column of whole numbers only is ``"whole"``. ``about`` gives ``name``, ``licence``,
        ``source``.
        """
        for name in (label, *categories):
            one_of("column", name, columns)
        if len({len(values) for values in columns.values()}) != 1:
            raise ValueError(
                f"columns have {shown(sorted({len(v) for v in columns.values()}))} rows; all need as many."
            )
        made = [_column(name, np.asarray(v), name in (label, *categories)) for name, v in columns.items()]
        if positive is not None:
            place = list(columns).index(label)
            kind, codes = made[place]
            one_of("positive", positive, kind.levels)
            if positive == kind.levels[0]:
                made[place] = (replace(kind, levels=kind.levels[::-1]), len(kind.levels) - 1 - codes)
        return cls(tuple(one for one, _ in made), np.stack([values for _, values in made], 1), label, **about)

    def __len__(self) -> int:
        return len(self.values)

    def __str__(self) -> str:
        share = f"{self.labels().mean():.2%} {self.label}={self.column(self.label).levels[1]}"
        return f"{self.name}: {len(self):,} rows, {len(self.columns)} columns, {share} ({self.licence})"

    def index(self, name: str) -> int:
        """Where the column ``name`` stands."""
        names = [column.name for column in self.columns]
        one_of("column", name, names)
        return names.index(name)

    def column(self, name: str) -> Column:
        """The column ``name``."""
        return self.columns[self.index(name)]

    def __getitem__(self, name: str) -> np.ndarray:
        """The values float64 ``[n]`` of the column ``name``."""
        return self.values[:, self.index(name)]

    def take(self, indices: Any) -> Table:
        """The rows at ``indices``, whole numbers or a mask ``[n]``, in that order; at least one."""
        return replace(self, values=self.values[np.asarray(indices)])

    def features(self) -> np.ndarray:
        """All columns but the label, float64 ``[n, columns - 1]``."""
        return np.delete(self.values, self.index(self.label), axis=1)

    def labels(self) -> np.ndarray:
        """The label int64 ``[n]``, 1 where it is positive."""
        return self[self.label].astype(np.int64)


def _column(name: str, values: np.ndarray, category: bool) -> tuple[Column, np.ndarray]:
    if values.ndim != 1 or values.dtype.kind not in "biufUOS":
        raise ValueError(f"column {shown(name)} must be a list of numbers or of text.")
    if values.dtype.kind in "UOS" or category:
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"column {shown(name)} has a missing or infinite value.")
        plain = values.astype(np.int64) if values.dtype.kind in "bf" and (values == np.round(values)).all() else values
        levels, codes = np.unique(plain if plain.dtype.kind in "iu" else plain.astype(str), return_inverse=True)
        return Column(name, "category", tuple(map(str, levels))), codes.astype(np.float64)
    numbers = values.astype(np.float64)
    return Column(name, "whole" if (numbers == np.round(numbers)).all() else "number"), numbers


def read_table(
    path: str | Path,
    label: str,
    *,
    categories: Sequence[str] = (),
    positive: str | None = None,
    rows: int | None = None,
    **about: str,
) -> Table:
    """The table in a CSV file with a header; ``label`` and ``categories`` name columns of text, all others are numbers.

    ``positive`` is the level of the label that is looked for (``Table.from_columns``). ``rows`` takes the first ones
    only; without it, a file may have a million rows. A missing column, a value that is no number, a constant column, a
    label of other than two values: each is a ``ValueError`` in one sentence.
    """
    if rows is not None:
        whole_number("rows", rows, 2, MOST_ROWS)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table {cut(str(path))}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = _columns_of(csv.reader(file), {label, *categories}, rows)
        for name, values in columns.items():
            if len(set(values)) == 1:
                raise ValueError(f"column {shown(name)} is constant: all {len(values):,} values are {shown(values[0])}")
        if len(levels := set(columns[label])) != 2:
            raise ValueError(f"label={shown(label)} has {len(levels)} different values; it must have two")
        about = {"name": path.stem} | about
        return Table.from_columns(columns, label, categories=categories, positive=positive, **about)
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{cut(path.name)} cannot be used as a table: {str(error).rstrip('.')}.") from None


def _columns_of(lines: Iterator[list[str]], texts: set[str], rows: int | None) -> dict[str, Any]:
    """Name -> values, read line by line: 8 bytes a number, and no copy of the file in memory."""
    names = [name.strip() for name in next(lines, [])]
    if len(names) < 2 or len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise ValueError(f"its header must have 2 to {MOST_COLUMNS:,} columns, each with a name of its own")
    for name in texts:
        one_of("column", name, names)
    columns: list[Any] = [[] if name in texts else array("d") for name in names]
    count = 0
    for count, line in enumerate(filter(None, lines), start=1):
        if count > (rows or MOST_ROWS):
            if rows is None:
                raise ValueError(f"it has more than {MOST_ROWS:,} rows; pass rows={MOST_ROWS} to take the first ones")
            count = rows
            break
        if len(line) != len(names):
            raise ValueError(f"row {count} has {len(line)} values; its header has {len(names)}")
        for name, column, text in zip(names, columns, line, strict=True):
            if not text.strip():
                raise ValueError(f"row {count} has no {shown(name)}; fill in what is missing or leave out the row")
            try:
                column.append(text if name in texts else float(text))
            except ValueError:
                raise ValueError(
                    f"row {count} has {shown(name)}={shown(text)}, which is no number; name it in categories=..."
                ) from None
    if count < 2:
        raise ValueError(f"it has {count} rows; at least two are needed")
    return dict(zip(names, columns, strict=True))


@lru_cache(maxsize=1)
def card_default() -> Table:
    """The default of credit card clients: 30,000 of them, Taiwan 2005, 23 features, 22.1 % ``default`` (label 1).

    Money in New Taiwan dollars. ``PAY_0`` to ``PAY_6`` are months of delay in September back to April: -2 no bill,
    -1 paid in full, 0 paid in part, 1 to 8 months late. It is about default, not about fraud.
    """
    arrays = shipped_arrays("card_default.npz")
    values, about = arrays["values"].T.astype(np.float64), json.loads(str(arrays["about"]))
    columns = tuple(Column(one["name"], one["kind"], tuple(one["levels"])) for one in about.pop("columns"))
    return Table(columns, values, **about)


def card_fraud(path: str | Path, *, rows: int | None = None) -> Table:
    """``creditcard.csv`` of the machine learning group of ULB: 284,807 transactions, 492 of them fraud (``Class`` 1).

    No package carries that file; download it where its licence (DbCL 1.0) is shown. ``rows`` takes the first ones.
    """
    table = read_table(path, "Class", rows=rows, name="card fraud (ULB)", licence="DbCL 1.0", source="ULB")
    if {column.name for column in table.columns} != set(FRAUD_COLUMNS):
        raise ValueError(
            f"{Path(path).name} is not creditcard.csv: its columns are not Time, V1 to V28, Amount, Class."
        )
    return table


def heat_map(samples: Tensor, columns: int, scale: int) -> Image.Image:
    """Encoded rows ``[n, p]`` as lines of grey, below the mean of each of the p numbers as a bar; up to 64 rows."""
    flat = samples.flatten(1)
    height = 24
    level = ((1 - (flat.mean(0) + 1) / 2) * height).round()  # where the bar of each number ends, from above
    bars = np.where(np.arange(height)[:, None] >= level.numpy()[None], 60, 255)
    lines = ((flat[:64] + 1) * 127.5).round().numpy().repeat(2, axis=0)
    pixels = np.concatenate([bars, np.full((2, flat.shape[1]), 255), lines]).astype(np.uint8)
    image = Image.fromarray(pixels)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


# an encoded row is a vector like any other, so this modality is chosen by name and takes no shape by itself
TABLES = Modality("tables", "row", lambda shape: False, heat_map)
