"""A small table with a pattern: ``risk`` decides the label, and ``big`` rows with a high risk are rare."""

import numpy as np
import pytest

from devilgan_lite.data.tables import Table


@pytest.fixture(scope="session")
def table() -> Table:
    random, n = np.random.default_rng(0), 3_000
    risk, big = random.integers(0, 6, n), random.random(n) < 0.15
    amount = np.rint(np.exp(random.normal(8, 1, n)) * (1 + 4 * big))
    bad = random.random(n) < np.where(risk >= 4, 0.85, 0.05)
    columns = {"risk": risk, "amount": amount, "ratio": random.normal(size=n), "big": np.where(big, "yes", "no")}
    return Table.from_columns({**columns, "bad": bad.astype(int)}, "bad", name="small")
