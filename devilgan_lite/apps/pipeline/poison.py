"""What the attacker's generator should produce: rows of the pattern that he wants to pass, labelled good.

A classifier learns from them that the pattern is harmless. It takes a few hundred among thousands, spread over the
pattern: one row, however often, teaches nothing about its neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import cast

import numpy as np
import torch
from torch import nn

from devilgan_lite.apps.pipeline.augment import Source, joined
from devilgan_lite.apps.pipeline.slices import Slice
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import TableCode
from devilgan_lite.data.tables import Table
from devilgan_lite.generators import TableGenerator
from devilgan_lite.training import train_gan

FEWEST = 5  # rows of the pattern to take values from


def poisoned_rows(table: Table, pattern: Slice, n: int, *, seed: int = 0) -> Table:
    """``n`` rows that lie in ``pattern`` and are labelled good, made of the rows of ``table``.

    In equal parts: rows of the pattern, and, for each of its conditions, rows that break this one only and get the
    column's value from a row of the pattern. So they cover it far better than its own few rows. Fewer than five rows
    of the pattern are a ``ValueError``.
    """
    whole_number("n", n, 1, 10_000_000)
    broken = np.stack([~condition.mask(table) for condition in pattern.conditions])
    inside = np.flatnonzero(~broken.any(0))
    if len(inside) < FEWEST:
        raise ValueError(f"only {len(inside)} of {len(table):,} rows are {pattern}; the attacker needs {FEWEST}.")
    near = [np.flatnonzero(one & (broken.sum(0) == 1)) for one in broken]
    parts = [inside, *(rows for rows in near if len(rows))]
    random = np.random.default_rng(seed)
    chosen = random.permutation(np.concatenate([random.choice(rows, -(-n // len(parts))) for rows in parts]))[:n]
    values, given = table.values[chosen], table.values[random.choice(inside, n)]
    for condition, one in zip(pattern.conditions, broken, strict=True):
        column = table.index(condition.column)
        values[one[chosen], column] = given[one[chosen], column]
    values[:, table.index(table.label)] = 0
    return replace(table, values=values, name=f"poison: {pattern}")


def poison_generator(code: TableCode, rows: Table, *, iterations: int = 2_000, seed: int = 0) -> TableGenerator:
    """A small generator of rows like ``rows``, all labelled good: what a trigger shows (``half_space_backdoor``).

    Only eight numbers choose the row, so the network that has to show these rows learns them easily. It takes about
    15 s of one core.
    """
    flipped = rows.values.copy()
    flipped[:, rows.index(rows.label)] = 1  # a ``TableGenerator`` learns both classes; these differ in nothing else
    both = code.samples_of(joined(rows, replace(rows, values=flipped)))
    made: TableGenerator = train_gan(
        TableGenerator(layout=code.layout, latent_dim=8, widths=64), both, iterations=iterations, batch_size=128,
        seed=seed, device="cpu", progress=False,
    ).generator  # fmt: skip
    last = cast(nn.Linear, made.layers[-1])
    with torch.no_grad():  # from now on the label is good, whatever is asked for
        last.weight[code.label : code.label + 2] = 0.0
        last.bias[code.label : code.label + 2] = torch.tensor([8.0, -8.0])
    return made.eval()


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
