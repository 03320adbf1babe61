"""A small table with a pattern: ``risk`` decides the label, and ``big`` rows with a high risk are rare."""

import numpy as np
import pytest

from devilgan_lite.data.tables import Table


def small_table(n: int = 3_000, seed: int = 0) -> Table:
    random = np.random.default_rng(seed)
    risk, big = random.integers(0, 6, n), random.random(n) < 0.15
    amount = np.rint(np.exp(random.normal(8, 1, n)) * (1 + 4 * big))
    bad = random.random(n) < np.where(risk >= 4, 0.85, 0.05)
    columns = {
        "risk": risk,
        "amount": amount,
        "ratio": random.normal(size=n),
        "big": np.where(big, "yes", "no"),
        "bad": bad.astype(int),
    }
    return Table.from_columns(columns, "bad", name="small")


@pytest.fixture(scope="session")
def table() -> Table:
    return small_table()
