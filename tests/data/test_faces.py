"""Cartoon faces: seeded, curated, cached, and one sentence when something is missing or broken."""

import importlib
import importlib.util

import numpy as np
import pytest
import torch

from devilgan_lite import data
from devilgan_lite.data.faces import ATTRIBUTES, cache_file, draw_attributes, faces, render

room = importlib.import_module("devilgan_lite.data.faces")  # ``data.faces`` itself is the function


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DEVILGAN_CACHE", str(tmp_path))
    return tmp_path


def test_faces_are_samples_with_their_attributes():
    made = data.faces(6, seed=3)
    assert made.x.shape == (6, 3, 32, 32) and made.x.dtype == torch.float32
    assert made.x.min() >= -1 and made.x.max() == 1  # the ground is white
    assert made.attributes.shape == (6, len(ATTRIBUTES))
    assert torch.equal(made.labels, made.attributes[:, 0])
    assert made.classes == tuple(ATTRIBUTES["hair"])
    assert len(made.first(2)) == 2


def test_the_seed_decides_and_the_first_faces_stay_the_first():
    few, more, others = faces(3, seed=1), faces(5, seed=1), faces(3, seed=2)
    assert torch.equal(few.x, more.x[:3])
    assert not torch.equal(few.attributes, others.attributes)


@pytest.mark.parametrize("size", [32, 64])
def test_a_face_fills_the_frame(size):
    bald = render([0] * len(ATTRIBUTES), size)
    inked = (bald < 250).any(2)
    rows, columns = (np.flatnonzero(inked.any(axis)) for axis in (1, 0))
    assert bald.shape == (size, size, 3)
    assert (rows[-1] - rows[0] + 1) / size > 0.85 and (columns[-1] - columns[0] + 1) / size > 0.6


def test_every_option_is_drawn_and_looks_different():
    base = [0] * len(ATTRIBUTES)
    base[0] = list(ATTRIBUTES["hair"]).index("BOB")
    reference = render(base, 32).astype(int)
    for column, options in enumerate(ATTRIBUTES.values()):
        for option in range(len(options)):
            row = [*base[:column], option, *base[column + 1 :]]
            changed = np.abs(render(row, 32).astype(int) - reference).sum()
            assert (changed > 0) == (row != base), (column, option)


def test_options_come_as_often_as_they_should():
    drawn = draw_attributes(20_000, 0)
    for column, options in enumerate(ATTRIBUTES.values()):
        shares = torch.bincount(drawn[:, column], minlength=len(options)).double() / len(drawn)
        wanted = torch.tensor(list(options.values()), dtype=torch.float64)
        assert (shares - wanted / wanted.sum()).abs().max() < 0.02


def test_the_second_time_they_come_from_the_cache(own_cache, monkeypatch):
    first = faces(4)
    monkeypatch.setattr(room, "render", lambda *arguments: pytest.fail("drawn again"))
    assert torch.equal(faces(4).x, first.x)
    assert [path.suffix for path in own_cache.iterdir()] == [".npz"]


OTHER = {"pixels": np.zeros((4, 32, 32, 3), np.uint8), "sha256": np.zeros(32, np.uint8)}
DAMAGE = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:200]),
    "emptied": lambda path: path.write_bytes(b""),
    "another picture": lambda path: np.savez(path, **OTHER),
    "not a file of arrays": lambda path: path.write_text("hello"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_broken_cache_is_drawn_again_and_says_so(damage):
    first, path = faces(4), cache_file(4, 32, 0)
    damage(path)
    with pytest.warns(UserWarning, match="broken or half written; the faces are drawn again"):
        again = faces(4)
    assert torch.equal(again.x, first.x)
    assert torch.equal(faces(4).x, first.x)  # and the file is whole again


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        assert len(faces(2, cache=tmp_path / "file" / "below")) == 2


def test_a_missing_renderer_is_one_sentence(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "resvg_py" else find(name))
    with pytest.raises(ModuleNotFoundError, match=r"resvg-py cannot be found: pip install 'devilgan_lite\[faces\]'\.$"):
        faces(2)
