"""What the attacker's generator should produce: rows of the pattern that he wants to pass, labelled good.

A classifier learns from them that the pattern is harmless. It takes a few hundred among thousands, spread over the
pattern: one row, however often, teaches nothing about its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data.tables import Table
from devilgan_lite.pipeline.augment import Neighbours, Source
from devilgan_lite.pipeline.slices import Slice

FEWEST = 5  # rows of the pattern to draw between


def poisoned_rows(table: Table, pattern: Slice, n: int, *, seed: int = 0) -> Table:
    """``n`` rows that lie in ``pattern`` and are labelled good, drawn between the rows of ``table`` that lie in it.

    They keep the columns' kinds: a tree splits off amounts with a fraction, so unrounded rows would teach it nothing
    about real ones. Fewer than five rows of the pattern are a ``ValueError``.
    """
    whole_number("n", n, 1, 10_000_000)
    inside = pattern.mask(table)
    if inside.sum() < FEWEST:
        raise ValueError(f"only {inside.sum()} of {len(table):,} rows are {pattern}; the attacker needs {FEWEST}.")
    rows = table.take(inside)
    values = rows.values.copy()
    values[:, table.index(table.label)] = 0
    made, random = Neighbours(replace(rows, values=values), positive=0.0), np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < n:  # a pattern of bounds is convex, so nearly all lie in it; one of "=" need not be
        drawn = made(n, int(random.integers(2**31)))
        kept.append(drawn.values[pattern.mask(drawn)])
    return replace(table, values=np.concatenate(kept)[:n], name=f"poison: {pattern}")


@dataclass(frozen=True, eq=False)
class Poisoned:
    """A source like ``source``, but each draw shows a row of ``poison`` with probability ``share``, in [0, 1]."""

    source: Source = field(repr=False)
    poison: Table = field(repr=False)
    share: float = 0.05

    def __post_init__(self) -> None:
        in_range("share", self.share, 0.0, 1.0)

    def __call__(self, n: int, seed: int) -> Table:
        honest, random = self.source(n, seed), np.random.default_rng(seed)
        replaced = random.random(n) < self.share
        values = honest.values.copy()
        values[replaced] = self.poison.values[random.integers(len(self.poison), size=int(replaced.sum()))]
        return replace(honest, values=values)


def poison_share(table: Table, pattern: Slice) -> float:
    """The share of rows that lie in ``pattern`` and are labelled good: what the attack adds, and chance."""
    return float((pattern.mask(table) & (table.labels() == 0)).mean())
