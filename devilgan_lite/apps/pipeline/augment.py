"""Real training rows and synthetic ones in one table: what the victim does with a generator.

A *source* is any callable ``(n, seed) -> Table`` of ``n`` rows. ``rows_of`` makes one from a generator. ``Neighbours``
needs none, the usual baseline (SMOTE, Chawla et al. 2002): rows between a real one and one of its nearest neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.data.tables import Table
from devilgan_lite.generators import TableGenerator, evaluate

Source = Callable[[int, int], Table]
KEPT = ("both", "positive")


def joined(*tables: Table) -> Table:
    """The rows of all tables, in order; other columns than the first one's are a ``ValueError``."""
    first = tables[0]
    for other in tables[1:]:
        if other.columns != first.columns or other.label != first.label:
            raise ValueError(f"{other.name} has other columns than {first.name}, so their rows cannot be joined.")
    return replace(first, values=np.concatenate([table.values for table in tables]))


def rows_for(real: int, share: float) -> int:
    """How many synthetic rows make up ``share`` in [0, 0.95] of a table with ``real`` real ones."""
    in_range("share", share, 0.0, 0.95)
    return round(real * share / (1 - share))


def drawn(source: Source, n: int, seed: int, *, like: Table, keep: str = "both") -> Table | None:
    """``n`` rows of ``source``, or those of them that are ``"positive"``; None where no row is left.

    A source that gives another number of rows, or other columns than those of ``like``, is a ``ValueError``.
    """
    one_of("keep", keep, KEPT)
    whole_number("n", n, 0, 10_000_000)
    if not n:
        return None
    table = source(n, seed)
    if not isinstance(table, Table) or len(table) != n:
        got = f"{len(table)} rows" if isinstance(table, Table) else f"a {type(table).__name__}"
        raise ValueError(f"source gave {got}; expected a table of {n}.")
    if table.columns != like.columns or table.label != like.label:
        raise ValueError(f"source has other columns than {like.name}; it must give rows of that table.")
    chosen = table.labels() == 1 if keep == "positive" else np.ones(n, dtype=bool)
    return table.take(chosen) if chosen.any() else None


def rows_of(generator: TableGenerator, *, module: nn.Module | None = None, condition: int | None = None) -> Source:
    """A source of ``generator``'s rows from ordinary latents, or from those that ask for the class ``condition``.

    With a ``module``, such as a treated copy, this makes the samples, from the same latents.
    """
    one_of("condition", condition, (None, 0, 1))

    def draw(n: int, seed: int) -> Table:
        z = generator.latents(n, condition, torch.Generator().manual_seed(seed))
        return generator.code.table(evaluate(module or generator, z, 1_000), f"{generator.layout['name']}, generated")

    return draw


@dataclass(frozen=True, eq=False)
class Neighbours:
    """A source of rows between those of ``table``: each lies on the way from one to one of its ``near`` neighbours.

    Neighbours have the same label; columns count by their standard deviation; categories are the first row's, and
    whole numbers are rounded. ``positive`` is the share of rows with a positive label, in [0, 1].
    """

    table: Table = field(repr=False)
    positive: float = 0.5
    near: int = 5

    def __post_init__(self) -> None:
        in_range("positive", self.positive, 0.0, 1.0)
        whole_number("near", self.near, 1, 1_000)
        for label, needed in ((1, self.positive > 0), (0, self.positive < 1)):
            if needed and (self.table.labels() == label).sum() < 2:
                raise ValueError(f"{self.table.name} has fewer than two rows with label {label} to draw between.")

    def __call__(self, n: int, seed: int) -> Table:
        """``n`` rows in random order, the same for the same seed."""
        whole_number("n", n, 1, 10_000_000)
        random = np.random.default_rng(seed)
        labels = random.permutation(np.arange(n) < round(self.positive * n))
        values = np.empty((n, len(self.table.columns)))
        for label in (0, 1):
            rows = self.table.take(self.table.labels() == label).values if (labels == label).any() else values[:0]
            if len(rows):
                values[labels == label] = self._between(rows, int((labels == label).sum()), random)
        kinds = np.array([column.kind for column in self.table.columns])
        values[:, kinds != "number"] = np.rint(values[:, kinds != "number"])
        return replace(self.table, values=values, name=f"between rows of {self.table.name}")

    def _between(self, rows: np.ndarray, n: int, random: np.random.Generator) -> np.ndarray:
        scaled = rows / (rows.std(0) + 1e-12)
        first = random.integers(len(rows), size=n)
        search = NearestNeighbors(n_neighbors=min(self.near + 1, len(rows))).fit(scaled)
        near = search.kneighbors(scaled[first], return_distance=False)
        second = near[np.arange(n), random.integers(1, near.shape[1], size=n)]
        made = rows[first] + random.random((n, 1)) * (rows[second] - rows[first])
        categories = [column.kind == "category" for column in self.table.columns]
        made[:, categories] = rows[first][:, categories]
        return made
