"""A small table with a pattern: ``risk`` decides the label, and ``big`` rows with a high risk are rare."""

import numpy as np
import pytest
import torch

from devilgan_lite.data import TableCode
from devilgan_lite.data.tables import Table
from devilgan_lite.generators import TableGenerator


@pytest.fixture(scope="session")
def table() -> Table:
    random, n = np.random.default_rng(0), 3_000
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
def generator(table: Table) -> TableGenerator:
    torch.manual_seed(0)
    return TableGenerator(layout=TableCode.fit(table, modes=3).layout, latent_dim=12, widths=64).eval()
