"""One run of the pipeline: split a table, draw synthetic rows, train, and measure; plain data come back.

The caller repeats it over seeds and takes means and spreads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from devilgan_lite.apps.pipeline.augment import KEPT, Source, drawn, joined
from devilgan_lite.apps.pipeline.classify import KINDS, train
from devilgan_lite.apps.pipeline.ledger import Assumptions, ledger
from devilgan_lite.apps.pipeline.poison import poison_share
from devilgan_lite.apps.pipeline.slices import Slice, in_budget, measures
from devilgan_lite.checks import Settings, in_range, one_of, whole_number
from devilgan_lite.data.tables import Table

PATTERN = "LIMIT_BAL >= 300000 and PAY_0 >= 2 and PAY_2 >= 2"  # two months late, large limit: 0.35 % of the clients


@dataclass(frozen=True, kw_only=True)
class PipelineSettings(Settings):
    """What the victim does, and with how many rows.

    ``train`` real rows and ``outside`` ones that only the maker of the generator has; the rest is the test. With
    ``positives``, the training rows keep so many positive ones only: a starved set. ``synthetic`` rows are drawn, of
    both labels, and ``keep`` says which of them are used. ``alerts`` is the share of cases that the team can look at.
    """

    pattern: str = PATTERN
    train: int = 12_000
    outside: int = 6_000
    positives: int | None = None
    synthetic: int = 6_000
    keep: str = "both"
    classifier: str = "boosting"
    alerts: float = 0.1
    threshold: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        Slice.of(self.pattern)
        whole_number("train", self.train, 50)
        whole_number("outside", self.outside, 0)
        if self.positives is not None:
            whole_number("positives", self.positives, 2)
        whole_number("synthetic", self.synthetic, 0, 10_000_000)
        one_of("keep", self.keep, KEPT)
        one_of("classifier", self.classifier, KINDS)
        in_range("alerts", self.alerts, 0.0, 1.0, open_low=True)
        in_range("threshold", self.threshold, 0.0, 1.0)
        whole_number("seed", self.seed, 0, 2**31)


@dataclass(frozen=True, eq=False)
class Parts:
    """The rows that the victim trains on, those that he is judged on, and those of whoever made the generator."""

    train: Table = field(repr=False)
    test: Table = field(repr=False)
    outside: Table | None = field(repr=False, default=None)


Defence = Callable[[Table, Table], np.ndarray]  # real rows, synthetic rows -> which of the latter pass, bool [n]


def split(table: Table, settings: PipelineSettings) -> Parts:
    """Disjoint parts of ``table``, drawn by the settings' seed; fewer rows than they need are a ``ValueError``."""
    needed = settings.train + settings.outside + 50
    if len(table) < needed:
        raise ValueError(f"{table.name} has {len(table):,} rows; these settings need at least {needed:,}.")
    order = np.random.default_rng(settings.seed).permutation(len(table))
    first, second = settings.train, settings.train + settings.outside
    own, labels = order[:first], table.labels()
    if settings.positives is not None:
        bad = own[labels[own] == 1]
        if len(bad) < settings.positives:
            raise ValueError(f"positives={settings.positives} is more than the {len(bad)} among the training rows.")
        own = np.setdiff1d(own, bad[settings.positives :], assume_unique=True)
    outside = table.take(order[first:second]) if settings.outside else None
    return Parts(table.take(own), table.take(order[second:]), outside)


def run(
    parts: Parts,
    settings: PipelineSettings,
    source: Source | None = None,
    defence: Defence | None = None,
    *,
    worth: Assumptions | None = None,
) -> dict[str, Any]:
    """Train on the real rows and on those of ``source`` that pass ``defence``, and measure on the test rows.

    Without ``source`` there are real rows only. With ``worth``, the result has a ledger, whose alarms are the
    settings' budget.
    """
    pattern = Slice.of(settings.pattern)
    own = parts.train
    made = None if source is None else drawn(source, settings.synthetic, settings.seed, like=own, keep=settings.keep)
    result: dict[str, Any] = {"settings": asdict(settings), "real": len(own), "synthetic": 0, "poison": 0.0}
    if made is not None:
        result |= {"drawn": len(made), "poison_drawn": poison_share(made, pattern)}
        passes = np.ones(len(made), dtype=bool) if defence is None else defence(own, made)
        made = made.take(passes) if passes.any() else None
    if made is not None:
        result |= {"synthetic": len(made), "poison": poison_share(made, pattern)}
        own = joined(own, made)
    scores = train(own, settings.classifier, seed=settings.seed).scores(parts.test)
    result |= measures(parts.test, scores, pattern, alerts=settings.alerts, threshold=settings.threshold)
    if worth is not None:
        alarms = in_budget(scores, settings.alerts)
        result["ledger"] = ledger(parts.test, alarms, pattern, worth, seed=settings.seed)
    return result
