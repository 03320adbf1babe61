"""Few real samples: what the commands are given here."""

import pytest

from devilgan_lite import data


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> data.Samples:
    """The first 600 garments and 100 faces are all that there are."""
    garments = data.fashion_mnist().first(600)
    monkeypatch.setitem(data.DATASETS, "fashion", lambda: garments)
    monkeypatch.setitem(data.DATASETS, "faces", lambda: data.faces(100))
    return garments
