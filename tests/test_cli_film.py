"""``devilgan film``: one command from an installation to a moving picture."""

import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from devilgan_lite import zoo
from devilgan_lite.classroom import tile
from devilgan_lite.cli import app, stage_check
from devilgan_lite.generators import evaluate


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that would have been opened in a browser."""
    found: list[str] = []
    monkeypatch.setattr(stage_check, "browser", lambda: "chromium")
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: list[str]) -> Any:
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(app, ["film", *map(str, words)])


def frame(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as film:
        film.seek(index)
        return np.asarray(film.convert("RGB")) / 127.5 - 1


def test_the_film_moves_from_a_face_to_the_target_and_is_opened(call: Any, opened: list[str], tmp_path: Path) -> None:
    done = call("--frames", 8)
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
    done = call("dcgan-fashion-rex", "--frames", 6, "--out", "walk.gif", "--no-browser")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("walk.gif: dcgan-fashion and dcgan-fashion-rex, 6 frames, ")
    assert (tmp_path / "walk.gif").read_bytes()[:6] == b"GIF89a"
    assert opened == []


def test_without_a_browser_the_film_is_there_all_the_same(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    done = call("dcgan-fashion-gate", "--frames", 4)
    assert done.exit_code == 0
    assert "open the file yourself" in done.stdout and Path("out/film.webp").is_file()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["dcgan-fashion"], "model='dcgan-fashion' is unknown; valid: "),
        (["dcgan-fashion-rx"], "Did you mean 'dcgan-fashion-rex'?"),
        (["--out", "film.mp4"], "ending of path='.mp4' is unknown; valid: .webp, .gif."),
        (["--frames", "3"], "frames=3 is out of range"),
        (["--out", f"{'x' * 10_000}.gif"], f"out='{'x' * 79}... is not valid: no file can be written there."),
    ],
)
def test_bad_input_is_one_sentence(call: Any, tmp_path: Path, words: list[str], sentence: str) -> None:
    done = call(*words)
    assert done.exit_code == 2
    assert sentence in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
