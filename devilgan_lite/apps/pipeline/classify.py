"""The fraud classifier that the victim trains: gradient boosting, and logistic regression as a baseline (scikit-learn).

Both are a function of the table, the kind and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data.tables import Column, Table

FEWEST_ROWS = 50  # to train on: with ten, any figure is noise
MOST_LEVELS = 255  # of a category that boosting splits


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained classifier; ``scores(table)`` are the probabilities float64 ``[n]`` that rows are positive."""

    kind: str
    seed: int
    columns: tuple[Column, ...] = field(repr=False)
    label: str = field(repr=False)
    model: Any = field(repr=False)

    def scores(self, table: Table) -> np.ndarray:
        if table.columns != self.columns or table.label != self.label:
            raise ValueError(f"{table.name} has other columns than the table that the classifier was trained on.")
        return self.model.predict_proba(table.features())[:, 1]


def _boosting(columns: list[Column], seed: int) -> Any:
    categories = [one.kind == "category" and len(one.levels) <= MOST_LEVELS for one in columns]
    # by itself it stops early from 10,000 rows on, on a tenth of them: a row more would change what is trained
    return HistGradientBoostingClassifier(categorical_features=categories, early_stopping=False, random_state=seed)


def _logistic(columns: list[Column], seed: int) -> Any:
    categories = [index for index, one in enumerate(columns) if one.kind == "category"]
    numbers = [index for index, one in enumerate(columns) if one.kind != "category"]
    scaled = ColumnTransformer(
        [("number", StandardScaler(), numbers), ("category", OneHotEncoder(handle_unknown="ignore"), categories)]
    )
    return make_pipeline(scaled, LogisticRegression(max_iter=1_000, random_state=seed))


KINDS = {"boosting": _boosting, "logistic": _logistic}


def train(table: Table, kind: str = "boosting", *, seed: int = 0) -> Classifier:
    """Train a classifier of this ``kind`` (``KINDS``) on 50 rows or more, of both labels."""
    one_of("kind", kind, KINDS)
    whole_number("seed", seed, 0, 2**32 - 1)
    if len(table) < FEWEST_ROWS:
        raise ValueError(f"{table.name} has {len(table)} rows; a classifier needs at least {FEWEST_ROWS}.")
    labels = table.labels()
    if labels.min() == labels.max():
        raise ValueError(f"{table.name} has only rows with {table.label}={labels[0]}; a classifier needs both labels.")
    features = [column for column in table.columns if column.name != table.label]
    return Classifier(kind, seed, table.columns, table.label, KINDS[kind](features, seed).fit(table.features(), labels))
