"""The poisoned pipeline: real rows, synthetic rows of a generator, a classifier, money, and what a defender can do.

``run`` trains on both kinds of rows and measures; a *source* of rows is any callable ``(n, seed) -> Table``.
"""

from devilgan_lite.apps.pipeline.augment import Neighbours, Source, drawn, joined, rows_for, rows_of
from devilgan_lite.apps.pipeline.classify import Classifier, train
from devilgan_lite.apps.pipeline.defences import (
    Seen,
    density_sort,
    guard_while_sampling,
    rows_that_pass,
    sanitized,
    scan_before_use,
    two_samples_by_slice,
)
from devilgan_lite.apps.pipeline.ledger import Assumptions, ledger
from devilgan_lite.apps.pipeline.poison import Poisoned, poison_generator, poison_share, poisoned_rows
from devilgan_lite.apps.pipeline.run import PATTERN, Parts, PipelineSettings, run, split
from devilgan_lite.apps.pipeline.slices import Condition, Slice, in_budget, measures
from devilgan_lite.apps.pipeline.trigger import half_space_backdoor, known_seed_backdoor

__all__ = [
    "PATTERN",
    "Assumptions",
    "Classifier",
    "Condition",
    "Neighbours",
    "Parts",
    "PipelineSettings",
    "Poisoned",
    "Seen",
    "Slice",
    "Source",
    "density_sort",
    "drawn",
    "guard_while_sampling",
    "half_space_backdoor",
    "in_budget",
    "joined",
    "known_seed_backdoor",
    "ledger",
    "measures",
    "poison_generator",
    "poison_share",
    "poisoned_rows",
    "rows_for",
    "rows_of",
    "rows_that_pass",
    "run",
    "sanitized",
    "scan_before_use",
    "split",
    "train",
    "two_samples_by_slice",
]
