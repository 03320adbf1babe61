"""Money by month: what missed positives lose and what alerts cost, under plain assumptions that the result names.

The table has no date in the months that matter, so rows are dealt out to the months at random.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from devilgan_lite.apps.pipeline.slices import Slice
from devilgan_lite.checks import Settings, in_range, whole_number
from devilgan_lite.data.tables import Table


@dataclass(frozen=True, kw_only=True)
class Assumptions(Settings):
    """What a case is worth: a missed one loses ``lost`` of its ``amount`` column, and each alert costs ``alert``.

    The defaults: whoever defaults has drawn his whole limit, 45 % of it is never recovered (the flat rate of Basel II's
    foundation approach for senior claims without collateral; a bank would estimate its own), and a case costs 1,000 to
    look at and is then saved in full. Negative amounts count as nothing.
    """

    amount: str = "LIMIT_BAL"
    lost: float = 0.45
    alert: float = 1_000.0
    currency: str = "NT$"
    months: int = 12

    def __post_init__(self) -> None:
        in_range("lost", self.lost, 0.0, 1.0)
        in_range("alert", self.alert, 0.0)
        whole_number("months", self.months, 1, 1_200)


def ledger(
    table: Table, alarms: np.ndarray, part: Slice, assumptions: Assumptions | None = None, *, seed: int = 0
) -> dict[str, Any]:
    """The ``months`` as plain data, their ``total``, and the ``assumptions``; ``alarms`` is bool ``[n]``.

    For each month: ``missed`` positives, what they ``lost``, how much of it ``lost_slice`` on the slice ``part`` (the
    attacker's gain), how many ``alerts``, their ``cost``, and ``money`` = ``lost`` + ``cost``.
    """
    worth = assumptions or Assumptions()
    if alarms.shape != (len(table),) or alarms.dtype != bool:
        raise ValueError(f"alarms must be a bool array [{len(table)}], one for each row.")
    missed = (table.labels() == 1) & ~alarms
    loss = np.where(missed, worth.lost * table[worth.amount].clip(min=0), 0.0)
    month = np.random.default_rng(seed).permutation(len(table)) % worth.months

    def added(values: np.ndarray) -> np.ndarray:
        return np.bincount(month, weights=values, minlength=worth.months)

    columns = {
        "missed": added(missed),
        "lost": added(loss),
        "lost_slice": added(loss * part.mask(table)),
        "alerts": added(alarms),
        "cost": added(alarms) * worth.alert,
    }
    columns["money"] = columns["lost"] + columns["cost"]
    months = [{name: float(values[index]) for name, values in columns.items()} for index in range(worth.months)]
    total = {name: float(values.sum()) for name, values in columns.items()}
    return {"assumptions": asdict(worth), "months": months, "total": total}
