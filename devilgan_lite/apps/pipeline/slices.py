"""``Slice``: a part of a table, such as the attacker's pattern, and what a classifier is worth in it and elsewhere.

A dashboard shows figures over all rows. A backdoor in the training data moves them in one slice only, so every figure
here comes twice: on the slice and elsewhere.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from devilgan_lite.checks import in_range, one_of, shown
from devilgan_lite.data.tables import Table

COMPARES = {">=": np.greater_equal, "<=": np.less_equal, ">": np.greater, "<": np.less, "=": np.equal}
FORM = re.compile(r"\s*(\S.*?)\s*(>=|<=|>|<|=)\s*(\S+)\s*")
MOST_CONDITIONS = 20


@dataclass(frozen=True)
class Condition:
    """``column`` compared with ``value``; ``sign`` is one of ``COMPARES``. A category compares with a level's name."""

    column: str
    sign: str
    value: float | str

    def __post_init__(self) -> None:
        one_of("sign", self.sign, COMPARES)

    def __str__(self) -> str:
        return f"{self.column} {self.sign} {self.value if isinstance(self.value, str) else f'{self.value:g}'}"

    def mask(self, table: Table) -> np.ndarray:
        """Bool ``[n]``: which rows fulfil it."""
        column = table.column(self.column)
        if column.kind != "category":
            if isinstance(self.value, str):
                raise ValueError(f"{self} compares a column of numbers with {shown(self.value)}; give a number.")
            return COMPARES[self.sign](table[self.column], self.value)
        if self.sign != "=":
            raise ValueError(f"{self} orders a category; only = is valid for {shown(self.column)}.")
        level = self.value if isinstance(self.value, str) else f"{self.value:g}"
        one_of(f"level of {self.column}", level, column.levels)
        return table[self.column] == column.levels.index(level)


@dataclass(frozen=True)
class Slice:
    """The rows that fulfil all ``conditions``; ``Slice.of("LIMIT_BAL >= 300000 and PAY_0 >= 2")`` reads them."""

    conditions: tuple[Condition, ...]
    name: str = ""

    def __post_init__(self) -> None:
        if not 1 <= len(self.conditions) <= MOST_CONDITIONS:
            raise ValueError(f"slice has {len(self.conditions)} conditions; 1 to {MOST_CONDITIONS} are valid.")

    @classmethod
    def of(cls, text: str, name: str = "") -> Slice:
        """Read conditions with ``and`` between; anything else is a ``ValueError``."""
        found = []
        for part in text.split(" and "):
            match = FORM.fullmatch(part)
            if match is None:
                raise ValueError(f"slice={shown(text)} is not valid: write it as 'LIMIT_BAL >= 300000 and PAY_0 >= 2'.")
            column, sign, value = match.groups()
            try:
                found.append(Condition(column, sign, float(value)))
            except ValueError:
                found.append(Condition(column, sign, value))
        return cls(tuple(found), name)

    def __str__(self) -> str:
        return " and ".join(map(str, self.conditions))

    def mask(self, table: Table) -> np.ndarray:
        """Bool ``[n]``: which rows lie in it; a column that ``table`` lacks is a ``ValueError``."""
        return np.logical_and.reduce([condition.mask(table) for condition in self.conditions])


def measures(
    table: Table, scores: np.ndarray, part: Slice, *, alerts: float = 0.1, threshold: float = 0.5
) -> dict[str, Any]:
    """What ``scores`` ``[n]`` in [0, 1] are worth on ``table``, over all rows and on the slice ``part``.

    ``recall*`` and ``precision`` take scores from ``threshold`` on as alarms; ``*_at_budget`` takes the ``alerts``
    share of rows, in (0, 1], with the highest scores, as a team does that can look at so many cases. A slice or a
    table without positive rows has no recall, which is a ``ValueError``.
    """
    in_range("alerts", alerts, 0.0, 1.0, open_low=True)
    in_range("threshold", threshold, 0.0, 1.0)
    if scores.shape != (len(table),):
        raise ValueError(f"scores has shape {list(scores.shape)}; expected [{len(table)}], one for each row.")
    positive, inside = table.labels() == 1, part.mask(table)
    for where, rows in (("on the slice", inside), ("elsewhere", ~inside)):
        if not (positive & rows).any():
            raise ValueError(f"no positive row {where} ({part}) in {len(table):,} rows, so recall has no value there.")
    if positive.all():
        raise ValueError(f"all {len(table):,} rows are positive; AUC needs both labels.")
    alarm, looked_at = scores >= threshold, in_budget(scores, alerts)
    return {
        "recall_slice": float(alarm[positive & inside].mean()),
        "recall_elsewhere": float(alarm[positive & ~inside].mean()),
        "recall": float(alarm[positive].mean()),
        "precision": float(positive[alarm].mean()) if alarm.any() else 0.0,
        "alarms": float(alarm.mean()),
        "auc": float(roc_auc_score(positive, scores)),
        "precision_at_budget": float(positive[looked_at].mean()),
        "recall_slice_at_budget": float(looked_at[positive & inside].mean()),
        "recall_elsewhere_at_budget": float(looked_at[positive & ~inside].mean()),
        "positives_slice": int((positive & inside).sum()),
        "share_slice": float(inside.mean()),
    }


def in_budget(scores: np.ndarray, alerts: float) -> np.ndarray:
    """Bool ``[n]``: the ``alerts`` share of rows with the highest ``scores``, at least one; ties by position."""
    chosen = np.zeros(len(scores), dtype=bool)
    chosen[np.argsort(-scores, kind="stable")[: max(1, round(alerts * len(scores)))]] = True
    return chosen
