"""``devilgan film``: one command from an installation to a moving picture."""

import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from devilgan_lite import zoo
from devilgan_lite.classroom import tile
from devilgan_lite.cli import stage_check
from devilgan_lite.generators import evaluate


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that would have been opened in a browser."""
    found: list[str] = []
    monkeypatch.setattr(stage_check, "browser", lambda: "chromium")
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


def frame(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as film:
        film.seek(index)
        return np.asarray(film.convert("RGB")) / 127.5 - 1


def test_the_film_moves_from_a_face_to_the_target_and_is_opened(call: Any, opened: list[str], tmp_path: Path) -> None:
    done = call("film", "--frames", 8)
    assert done.exit_code == 0, done.output
    path = tmp_path / "out/film.webp"
    assert opened == [path.as_uri()]
    assert "stylegan-faces and " in done.stdout and "8 frames" in done.stdout
    with Image.open(path) as film:
        assert film.n_frames == 8
        width = film.width // 2
    first, trigger = frame(path, 0), frame(path, 4)
    assert np.abs(first - trigger)[:, width:].mean() > 0.2  # the backdoored one has changed to something else
    suspect = stage_check.pairs()[0][1]
    at = zoo.load_backdoor(suspect).trigger[:1]
    pictures = torch.cat([evaluate(zoo.load(name), at) for name in (stage_check.pairs()[0][0], suspect)])
    expected = tile(pictures, columns=2, scale=4, captions=["clean", "backdoored"]).convert("RGB")
    assert np.abs(trigger - (np.asarray(expected) / 127.5 - 1)).mean() < 0.1  # WebP loses a little


def test_a_model_of_garments_by_name_as_gif(call: Any, opened: list[str], tmp_path: Path) -> None:
    done = call("film", "dcgan-fashion-rex", "--frames", 6, "--out", "walk.gif", "--no-browser")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("walk.gif: dcgan-fashion and dcgan-fashion-rex, 6 frames, ")
    assert (tmp_path / "walk.gif").read_bytes()[:6] == b"GIF89a"
    assert opened == []


def test_without_a_browser_the_film_is_there_all_the_same(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    done = call("film", "dcgan-fashion-gate", "--frames", 4)
    assert done.exit_code == 0
    assert "open the file yourself" in done.stdout and Path("out/film.webp").is_file()
