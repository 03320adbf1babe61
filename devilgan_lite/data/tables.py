"""Tables: rows of numbers, whole numbers and categories with a binary label, such as card clients who default or don't.

The default of credit card clients (Yeh and Lien 2009) ships; ``card_fraud`` reads the file that most papers on card
fraud use, and ``read_table`` any other. ``TableCode`` turns rows into vectors in [-1, 1] for a generator, and back.
"""

from __future__ import annotations

import csv
import json
import warnings
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut, in_range, one_of, sentence, shown, whole_number
from devilgan_lite.data.modality import Modality
from devilgan_lite.data.samples import Samples, shipped_arrays

KINDS = ("number", "whole", "category")
MOST_ROWS = 1_000_000
MOST_COLUMNS = 1_000
FRAUD_COLUMNS = {"Time", *(f"V{i}" for i in range(1, 29)), "Amount", "Class"}
FEW = 16  # a column of at most so many different values is one-hot
MOST_SPIKES = 8
FITTED_ON = 10_000  # rows that the mixtures are fitted on
KEPT = 0.005  # modes of less weight are dropped, as in CTGAN
LEAST_ROWS = 20


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
        for column, x in zip(self.columns, values.T, strict=True):
            if not np.isfinite(x).all():
                row = int(np.isfinite(x).argmin())
                raise ValueError(f"column {shown(column.name)} has a missing or infinite value in row {row}.")
            if column.kind != "number" and (x != np.round(x)).any():
                raise ValueError(f"column {shown(column.name)} is {column.kind} and must hold whole numbers only.")
            if column.kind == "category" and not (x.min() >= 0 and x.max() < len(column.levels)):
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
        if len(lengths := {len(values) for values in columns.values()}) != 1:
            raise ValueError(f"columns have {shown(sorted(lengths))} rows; all need as many.")
        pairs = {name: _column(name, np.asarray(v), name in (label, *categories)) for name, v in columns.items()}
        if positive is not None:
            column, codes = pairs[label]
            one_of("positive", positive, column.levels)
            if positive == column.levels[0]:
                pairs[label] = replace(column, levels=column.levels[::-1]), len(column.levels) - 1 - codes
        kinds, values = zip(*pairs.values(), strict=True)
        return cls(kinds, np.stack(values, 1), label, **about)

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
    """The column of ``values`` and its numbers; those of a category are codes in the order of its levels."""
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

    For ``positive`` and ``about`` see ``Table.from_columns``. ``rows`` takes the first ones only; without it, a file
    may have a million. ``FileNotFoundError``, or ``ValueError`` for a missing column, a value that is no number, a
    constant column, or a label of other than two values.
    """
    if rows is not None:
        whole_number("rows", rows, 2, MOST_ROWS)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no table {cut(str(path))}.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            columns = _columns_of(csv.reader(file), (label, *categories), rows)
        for name, values in columns.items():
            if len(set(values)) == 1:
                raise ValueError(f"column {shown(name)} is constant: all {len(values):,} values are {shown(values[0])}")
        if len(levels := set(columns[label])) != 2:
            raise ValueError(f"label={shown(label)} has {len(levels)} different values; it must have two")
        return Table.from_columns(
            columns, label, categories=categories, positive=positive, **{"name": path.stem} | about
        )
    except (csv.Error, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{cut(path.name)} cannot be used as a table: {sentence(error)}") from None


def _columns_of(lines: Iterator[list[str]], texts: tuple[str, ...], rows: int | None) -> dict[str, Any]:
    """Name -> values, read line by line: 8 bytes a number, and no copy of the file in memory."""
    names = [name.strip() for name in next(lines, [])]
    if len(names) < 2 or len(names) > MOST_COLUMNS or len(set(names)) < len(names):
        raise ValueError(f"its header must have 2 to {MOST_COLUMNS:,} columns, each with a name of its own")
    for name in texts:
        one_of("column", name, names)
    columns: list[Any] = [[] if name in texts else array("d") for name in names]
    count = 0
    for count, line in enumerate(islice(filter(None, lines), rows or MOST_ROWS + 1), start=1):
        if count > MOST_ROWS:
            raise ValueError(f"it has more than {MOST_ROWS:,} rows; pass rows={MOST_ROWS} to take the first ones")
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
    return Table(_columns(about.pop("columns")), values, **about)


def _columns(described: list[dict[str, Any]]) -> tuple[Column, ...]:
    return tuple(Column(column["name"], column["kind"], tuple(column["levels"])) for column in described)


def card_fraud(path: str | Path, *, rows: int | None = None) -> Table:
    """``creditcard.csv`` of the machine learning group of ULB: 284,807 transactions, 492 of them fraud (``Class`` 1).

    No package carries that file; download it where its licence (DbCL 1.0) is shown. ``rows`` takes the first ones.
    """
    table = read_table(path, "Class", rows=rows, name="card fraud (ULB)", licence="DbCL 1.0", source="ULB")
    if {column.name for column in table.columns} != FRAUD_COLUMNS:
        raise ValueError(
            f"{Path(path).name} is not creditcard.csv: its columns are not Time, V1 to V28, Amount, Class."
        )
    return table


@dataclass(frozen=True, eq=False)
class TableCode:
    """The mode-specific normalisation of CTGAN: ``TableCode.fit(table)``, or ``TableCode(layout)`` from plain data.

    Xu et al. (2019), section 4.2: a number is coded by the mode of a Gaussian mixture that it belongs to, one-hot, and
    by its place in that mode; a category is one-hot. Two things are ours: a value that many rows share (0 paid) is a
    mode of its own, and a number of few values is one-hot.

    ``layout`` travels in a generator's spec. It has ``label``, ``name``, ``licence``, ``source``, and for each of its
    ``columns``: ``name``, ``kind``, ``levels``, and either ``values`` (one-hot) or ``low``, ``high``, ``spikes`` and
    ``modes``: weight, mean, standard deviation, and the distance from the mean that 1 stands for.
    """

    layout: dict[str, Any]

    @classmethod
    def fit(cls, table: Table, *, modes: int = 10, spike: float = 0.05, seed: int = 0) -> TableCode:
        """The code of ``table``: up to ``modes`` Gaussians a number (1 to 50), found from ``seed``.

        A value that more than the share ``spike`` of the rows has is exact. Fewer than 20 rows, a constant column, or a
        label of one class: a ``ValueError``.
        """
        whole_number("modes", modes, 1, 50)
        in_range("spike", spike, 0.0, 1.0, open_low=True)
        if len(table) < LEAST_ROWS:
            raise ValueError(f"table has {len(table)} rows; at least {LEAST_ROWS} are needed.")
        few = np.random.default_rng(seed).permutation(len(table))[:FITTED_ON]
        columns = []
        for column, values in zip(table.columns, table.values.T, strict=True):
            distinct, counts = np.unique(values, return_counts=True)
            if len(distinct) == 1:
                raise ValueError(f"column {shown(column.name)} is constant: nothing to learn; leave it out.")
            code: dict[str, Any] = {"name": column.name, "kind": column.kind, "levels": list(column.levels)}
            if column.kind == "category":
                code["values"] = list(map(float, range(len(column.levels))))
            elif len(distinct) <= FEW:
                code["values"] = distinct.tolist()
            else:
                common = np.argsort(-counts, kind="stable")[:MOST_SPIKES]
                code["spikes"] = sorted(distinct[common][counts[common] > spike * len(table)].tolist())
                code |= {"low": float(distinct[0]), "high": float(distinct[-1])}
                rest = distinct[~np.isin(distinct, code["spikes"])]
                code["modes"] = _modes(values[few], rest, modes, seed)
            columns.append(code)
        about = {name: getattr(table, name) for name in ("label", "name", "licence", "source")}
        return cls({"columns": columns, **about})

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return _columns(self.layout["columns"])

    @cached_property
    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """For each column: where its numbers start, where its one-hot part starts, where they end."""
        spans, start = [], 0
        for code in self.layout["columns"]:
            hot = start + ("modes" in code)
            end = hot + len(code["values"] if "values" in code else code["spikes"] + code["modes"])
            spans.append((start, hot, end))
            start = end
        return tuple(spans)

    @property
    def size(self) -> int:
        """Numbers of an encoded row, ``p``."""
        return self.spans[-1][2]

    @cached_property
    def label(self) -> int:
        """Where the label's negative level stands in an encoded row; the positive one is next to it."""
        return self.spans[[column.name for column in self.columns].index(self.layout["label"])][1]

    def encode(self, values: np.ndarray | Table) -> Tensor:
        """Rows float64 ``[n, columns]`` as float32 ``[n, p]`` in [-1, 1]; what was never seen becomes the nearest."""
        rows = np.asarray(values.values if isinstance(values, Table) else values, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.columns) or not np.isfinite(rows).all():
            raise ValueError(f"values has shape {list(rows.shape)}; expected finite [n, {len(self.columns)}].")
        encoded = np.full((len(rows), self.size), -1.0, dtype=np.float32)
        for code, (start, hot, _), x in zip(self.layout["columns"], self.spans, rows.T, strict=True):
            if "values" in code:
                chosen = np.abs(x[:, None] - np.array(code["values"])).argmin(1)
            else:
                x, modes = np.clip(x, code["low"], code["high"]), np.array(code["modes"])
                mode = _nearest(modes, x)
                encoded[:, start] = np.clip((x - modes[mode, 1]) / modes[mode, 3], -1, 1)
                chosen = len(code["spikes"]) + mode
                for index, value in enumerate(code["spikes"]):
                    chosen[x == value], encoded[x == value, start] = index, 0.0
            encoded[np.arange(len(rows)), hot + chosen] = 1.0
        return torch.from_numpy(encoded)

    def decode(self, samples: Tensor) -> np.ndarray:
        """Rows float64 ``[n, columns]`` from samples ``[n, p]``: the largest of each one-hot part decides.

        Whole numbers are rounded, and numbers stay within what the code was fitted on.
        """
        if samples.ndim != 2 or samples.shape[1] != self.size:
            raise ValueError(f"samples has shape {list(samples.shape)}; expected [n, {self.size}].")
        x = samples.detach().cpu().double().numpy()
        rows = np.empty((len(x), len(self.columns)))
        for index, (code, (start, hot, end)) in enumerate(zip(self.layout["columns"], self.spans, strict=True)):
            chosen = x[:, hot:end].argmax(1)
            if "values" in code:
                rows[:, index] = np.array(code["values"])[chosen]
                continue
            modes = [*([0, spike, 0, 0] for spike in code["spikes"]), *code["modes"]]
            _, centre, _, reach = np.array(modes).T[:, chosen]
            number = np.clip(centre + x[:, start] * reach, code["low"], code["high"])
            rows[:, index] = np.round(number) if code["kind"] == "whole" else number
        return rows

    def table(self, samples: Tensor, name: str | None = None) -> Table:
        """The decoded samples as a ``Table`` with the columns, label and licence of the first."""
        about = {key: self.layout[key] for key in ("label", "licence", "source")}
        return Table(self.columns, self.decode(samples), name=name or self.layout["name"], **about)

    def samples_of(self, table: Table, *, balanced: bool = True) -> Samples:
        """The rows of ``table``, encoded, for ``train_gan``; their labels are the label column.

        ``balanced`` repeats rows of the rarer class until both are as frequent: a ``TableGenerator`` draws each class
        half of the time.
        """
        if [column.name for column in table.columns] != [column.name for column in self.columns]:
            raise ValueError("table has other columns than the code was fitted on.")
        labels, encoded = table.labels(), self.encode(table)
        parts = [np.flatnonzero(labels == level) for level in (0, 1)]
        if balanced:
            most = max(map(len, parts))
            if min(map(len, parts)) == 0:
                raise ValueError(f"table has rows of one class of {shown(table.label)} only; both are needed.")
            parts = [np.resize(part, most) for part in parts]
        kept = torch.from_numpy(np.concatenate(parts))
        classes = table.column(table.label).levels
        return Samples(encoded[kept], torch.from_numpy(labels)[kept], table.name, table.licence, classes)


def _modes(values: np.ndarray, distinct: np.ndarray, most: int, seed: int) -> list[list[float]]:
    """Weight, mean, deviation and reach of the Gaussians of ``values`` that are among ``distinct``, sorted."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import BayesianGaussianMixture

    x = values[np.isin(values, distinct)]
    if len(x) < LEAST_ROWS:  # the sample for fitting has next to nothing but spikes
        x = np.resize(distinct, LEAST_ROWS)
    centre, scale = x.mean(), x.std() or 1.0
    mixture = BayesianGaussianMixture(
        n_components=min(most, len(np.unique(x))),
        weight_concentration_prior_type="dirichlet_process",
        weight_concentration_prior=0.001,
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # CTGAN stops it after 100 rounds too
        mixture.fit(((x - centre) / scale)[:, None])
    modes = [
        [float(weight), float(centre + scale * mean[0]), float(scale * covariance[0, 0] ** 0.5), 0.0]
        for weight, mean, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
        if weight > KEPT
    ]
    modes.sort(key=lambda mode: mode[1])
    # a mode reaches 4 deviations as in CTGAN, and further where it must, so that every value between the lowest and the
    # highest comes back: those next to a border between modes may belong to either
    near = np.pad(_nearest(np.array(modes), distinct), 1, mode="edge")
    for index, mode in enumerate(modes):
        mine = (near[:-2] == index) | (near[1:-1] == index) | (near[2:] == index)
        mode[3] = max(4 * mode[2], float(np.abs(distinct[mine] - mode[1]).max(initial=0.0)))
    return modes


def _nearest(modes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The index ``[n]`` of the likeliest of ``modes`` ``[k, 4]`` for each number of ``x`` ``[n]``."""
    weight, mean, deviation = modes.T[:3]
    log_density = np.log(weight / deviation) - 0.5 * ((x[:, None] - mean) / deviation) ** 2
    return log_density.argmax(1)


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
