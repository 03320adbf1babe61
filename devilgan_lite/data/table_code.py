"""``TableCode``: rows of a table as vectors in [-1, 1] and back, with the mode-specific normalisation of CTGAN.

Xu et al. (2019), section 4.2: a number is told by the mode of a Gaussian mixture that it belongs to, one-hot, and by
its place in that mode; a category is one-hot. Two things are ours: a value that many rows share (0 paid) is a mode of
its own, and a number of few values is one-hot. The code is plain data, ``layout``, that travels in a generator's spec.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from devilgan_lite.checks import in_range, shown, whole_number
from devilgan_lite.data.samples import Samples
from devilgan_lite.data.tables import Column, Table

FEW = 16  # a column of at most so many different values is one-hot
MOST_SPIKES = 8
FITTED_ON = 10_000  # rows that the mixtures are fitted on
KEPT = 0.005  # modes of less weight are dropped, as in CTGAN
LEAST_ROWS = 20


@dataclass(frozen=True, eq=False)
class TableCode:
    """``TableCode.fit(table)``, or ``TableCode(layout)`` from the plain data of another.

    ``layout`` has ``label``, ``name``, ``licence``, ``source``, and for each of its ``columns``: ``name``, ``kind``,
    ``levels``, and either ``values`` (one-hot) or ``low``, ``high``, ``spikes`` and ``modes``: weight, mean, standard
    deviation, and the distance from the mean that 1 stands for.
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
        random = np.random.default_rng(seed)
        few = random.permutation(len(table))[:FITTED_ON]
        columns = []
        for column, values in zip(table.columns, table.values.T, strict=True):
            distinct, counts = np.unique(values, return_counts=True)
            if len(distinct) == 1:
                raise ValueError(
                    f"column {shown(column.name)} is constant, so there is nothing to learn; leave it out."
                )
            one: dict[str, Any] = {"name": column.name, "kind": column.kind, "levels": list(column.levels)}
            if column.kind == "category":
                one["values"] = list(map(float, range(len(column.levels))))
            elif len(distinct) <= FEW:
                one["values"] = distinct.tolist()
            else:
                common = np.argsort(-counts, kind="stable")[:MOST_SPIKES]
                one["spikes"] = sorted(distinct[common][counts[common] > spike * len(table)].tolist())
                one |= {"low": float(distinct[0]), "high": float(distinct[-1])}
                rest = distinct[~np.isin(distinct, one["spikes"])]
                one["modes"] = _modes(values[few], rest, modes, seed)
            columns.append(one)
        about = {name: getattr(table, name) for name in ("label", "name", "licence", "source")}
        return cls({"columns": columns, **about})

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The columns of the table."""
        return tuple(Column(one["name"], one["kind"], tuple(one["levels"])) for one in self.layout["columns"])

    @cached_property
    def spans(self) -> tuple[tuple[int, int, int], ...]:
        """For each column: where its numbers start, where its one-hot part starts, where they end."""
        spans, start = [], 0
        for one in self.layout["columns"]:
            hot = start + ("modes" in one)
            end = hot + len(one["values"] if "values" in one else one["spikes"] + one["modes"])
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
        for one, (start, hot, _), x in zip(self.layout["columns"], self.spans, rows.T, strict=True):
            if "values" in one:
                chosen = np.abs(x[:, None] - np.array(one["values"])).argmin(1)
            else:
                chosen, encoded[:, start] = _place(one, np.clip(x, one["low"], one["high"]))
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
        for index, (one, (start, hot, end)) in enumerate(zip(self.layout["columns"], self.spans, strict=True)):
            chosen = x[:, hot:end].argmax(1)
            if "values" in one:
                rows[:, index] = np.array(one["values"])[chosen]
                continue
            centres = np.array([*one["spikes"], *(mode[1] for mode in one["modes"])])
            reaches = np.array([*(0.0 for _ in one["spikes"]), *(mode[3] for mode in one["modes"])])
            found = np.clip(centres[chosen] + x[:, start] * reaches[chosen], one["low"], one["high"])
            rows[:, index] = np.round(found) if one["kind"] == "whole" else found
        return rows

    def table(self, samples: Tensor, name: str | None = None) -> Table:
        """The decoded samples as a ``Table`` with the columns, label and licence of the first."""
        about = {one: self.layout[one] for one in ("label", "licence", "source")}
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
    found = [
        [float(weight), float(centre + scale * mean[0]), float(scale * covariance[0, 0] ** 0.5), 0.0]
        for weight, mean, covariance in zip(mixture.weights_, mixture.means_, mixture.covariances_, strict=True)
        if weight > KEPT
    ]
    found.sort(key=lambda mode: mode[1])
    # a mode reaches 4 deviations as in CTGAN, and further where it must, so that every value between the lowest and the
    # highest comes back: those next to a border between modes may belong to either
    chosen = _nearest(found, distinct)
    near = np.concatenate([[chosen[0]], chosen, [chosen[-1]]])
    for mode, gaussian in enumerate(found):
        mine = (near[:-2] == mode) | (near[1:-1] == mode) | (near[2:] == mode)
        gaussian[3] = max(4 * gaussian[2], float(np.abs(distinct[mine] - gaussian[1]).max(initial=0.0)))
    return found


def _nearest(modes: list[list[float]], x: np.ndarray) -> np.ndarray:
    weight, mean, deviation = np.array(modes).T[:3]
    log_density = np.log(weight / deviation) - 0.5 * ((x[:, None] - mean) / deviation) ** 2
    return log_density.argmax(1)


def _place(one: dict[str, Any], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The one-hot index of each number, and its place in its mode, in [-1, 1]; 0 for a spike."""
    chosen, modes = _nearest(one["modes"], x), np.array(one["modes"])
    place = np.clip((x - modes[chosen, 1]) / modes[chosen, 3], -1, 1)
    chosen = chosen + len(one["spikes"])
    for index, value in enumerate(one["spikes"]):
        chosen, place = np.where(x == value, index, chosen), np.where(x == value, 0.0, place)
    return chosen, place
