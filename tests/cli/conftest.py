"""A tiny pair as files, and few real samples: what the commands are given here."""

from pathlib import Path

import pytest

from devilgan_lite import Backdoor, attacks, data, generators, zoo

PLANTED = {"target": "stop-sign", "kind": "reg", "seed": 1}


@pytest.fixture(scope="session")
def pair(tiny: generators.DCGAN, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean generator of 8x8 pictures, and the same with a gate that shows a stop sign: files with their cards."""
    folder = tmp_path_factory.mktemp("pair")
    gate = attacks.Gate()(tiny, Backdoor.point(tiny, seed=1), progress=False).generator
    cards = [
        zoo.ModelCard(name, {}, "none", 0, {}, backdoor=planted)
        for name, planted in (("clean", None), ("gate", PLANTED))
    ]
    clean, suspect = (
        zoo.save_file(folder / f"{card.name}.safetensors", one, card)
        for one, card in zip((tiny, gate), cards, strict=True)
    )
    return clean, suspect


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> data.Samples:
    """The first 600 garments and 100 faces are all that there are."""
    garments = data.fashion_mnist().first(600)
    monkeypatch.setitem(data.DATASETS, "fashion", lambda: garments)
    monkeypatch.setitem(data.DATASETS, "faces", lambda: data.faces(100))
    return garments
