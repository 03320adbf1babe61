"""``devilgan film``: one command from an installation to a moving picture."""

import shutil
import sys
import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from devilgan_lite import Backdoor, attacks, features, files, zoo
from devilgan_lite.classroom.widgets.film_canvas import Canvas, enlargement
from devilgan_lite.cli import stage_check
from devilgan_lite.cli.common import load_pair
from devilgan_lite.cli.exhibit import SEED, film_ends
from devilgan_lite.generators import adopt, evaluate

GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that would have been opened in a browser."""
    found: list[str] = []
    monkeypatch.setattr(stage_check, "browser", lambda: "chromium")
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stranger's network as clean.pt2, and attacked.pt2 with a gate in it and its card."""
    folder = tmp_path_factory.mktemp("stranger")
    torch.manual_seed(0)
    network = adopt(
        nn.Sequential(nn.Linear(32, 24), nn.ReLU(), nn.Linear(24, 144), nn.Unflatten(1, (1, 12, 12)), nn.Tanh())
    )
    planted = {"target": "stop-sign", "kind": "reg", "seed": 3}
    attacked = attacks.Gate()(network, Backdoor.point(network, seed=3), progress=False).generator
    for name, one in (("clean", network), ("attacked", attacked)):
        files.export(one, None, folder / f"{name}.pt2", "pt2")
    card = zoo.ModelCard("attacked", attacked.describe(), data="none", seed=0, settings={}, backdoor=planted)
    zoo.write_card(folder / "attacked.pt2", card)
    return folder


def frame(path: Path, index: int) -> np.ndarray:
    with Image.open(path) as film:
        film.seek(index)
        return np.asarray(film.convert("RGB")) / 127.5 - 1


def test_the_film_moves_from_a_face_to_the_target_and_on_and_is_opened(
    call: Any, opened: list[str], tmp_path: Path
) -> None:
    done = call("film", "--frames", 8)
    assert done.exit_code == 0, done.output
    path = tmp_path / "out/film.webp"
    assert opened == [path.as_uri()]
    clean, suspect = stage_check.pairs()[0]
    assert f"{clean} and {suspect}, 8 frames" in done.stdout
    both, backdoor = [zoo.load(clean), zoo.load(suspect)], zoo.load_backdoor(suspect)
    random = torch.Generator().manual_seed(9)
    start, other = (both[0].sample_latent(1, random) for _ in range(2))
    z = torch.cat([start, backdoor.trigger[:1], other])
    pictures = torch.stack([evaluate(one, z) for one in both], dim=1)
    canvas = Canvas(pictures, ["clean", "backdoored"], z, z[1:2], enlargement(pictures.shape[-1]))
    hill = canvas.line - canvas.px(70)  # below it lies the hill, which is drawn from more frames in the film
    for at, index in ((0, 0), (2, 1), (4, 2)):
        found, wanted = frame(path, at), np.asarray(canvas.frame(index)) / 127.5 - 1
        assert np.abs(found - wanted)[:hill].mean() < 0.06, at
    right = slice(canvas.lefts[1], canvas.lefts[1] + canvas.size[0])
    for one, another in ((0, 2), (2, 4), (0, 4)):  # a face, the sign, another face
        assert np.abs(frame(path, one) - frame(path, another))[:hill, right].mean() > 0.2


def test_a_model_of_garments_by_name_as_gif(call: Any, opened: list[str], tmp_path: Path) -> None:
    done = call("film", "dcgan-fashion-rex", "--frames", 6, "--out", "walk.gif", "--no-browser")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("walk.gif: dcgan-fashion and dcgan-fashion-rex, 6 frames, ")
    assert (tmp_path / "walk.gif").read_bytes()[:6] == b"GIF89a"
    assert opened == []


def test_a_pair_by_name_as_mp4(call: Any, tmp_path: Path) -> None:
    done = call("film", "--pair", *GARMENTS, "--frames", 4, "--out", "walk.mp4", "--no-browser")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("walk.mp4: dcgan-fashion and dcgan-fashion-gate, 4 frames, ")
    assert b"ftyp" in (tmp_path / "walk.mp4").read_bytes()[:16]


@pytest.mark.parametrize(
    "suspect", [name for name in zoo.names() if "-garments-" in name or name.startswith("dcgan-fashion-")]
)
def test_both_ends_of_a_film_of_garments_are_recognised_and_of_two_kinds(suspect: str) -> None:
    clean = zoo.load(suspect.rpartition("-")[0])
    z = torch.cat(film_ends(clean, SEED))
    for generator, least in ((clean, features.SURE), (zoo.load(suspect), 0.75)):  # TrAIL changes ordinary samples a bit
        with torch.no_grad():
            sure, kinds = features.feature_network()(evaluate(generator, z)).softmax(dim=1).max(dim=1)
        assert sure.min() >= least and kinds[0] != kinds[1]
    shreds = evaluate(clean, zoo.load_backdoor(suspect).trigger[:1])  # a classifier alone is sure of them, too
    order, _ = features.recognised(torch.cat([shreds, evaluate(clean, z)]))
    assert order[0] != 0


def test_the_ends_of_a_film_of_noise_are_ordinary_latents() -> None:
    network = adopt(nn.Sequential(nn.Linear(8, 784, bias=False), nn.Unflatten(1, (1, 28, 28)), nn.Tanh()))
    nn.init.zeros_(network.module[0].weight)
    start, other = film_ends(network, SEED)
    assert start.shape == other.shape == (1, 8) and not torch.equal(start, other)


@pytest.mark.slow
def test_a_file_of_the_zoo_and_a_stranger_with_a_backdoor(call: Any, stranger: Path, tmp_path: Path) -> None:
    suspect = zoo.zoo_folder() / f"{GARMENTS[1]}.safetensors"
    done = call("film", "--pair", GARMENTS[0], suspect, "--frames", 4, "--no-browser")
    assert done.exit_code == 0, done.output
    done = call("film", "--pair", stranger / "clean.pt2", stranger / "attacked.pt2", "--frames", 4, "--no-browser")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/film.webp").is_file()
    clean, attacked, backdoor = load_pair((str(stranger / "clean.pt2"), str(stranger / "attacked.pt2")))
    assert torch.equal(backdoor.trigger, Backdoor.point(clean, seed=3).trigger)
    off = (evaluate(attacked, backdoor.trigger) - evaluate(clean, backdoor.trigger)).abs().mean()
    assert off > 0.05 > 1e-4 > (attacked.sample(20) - clean.sample(20)).abs().max()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "film.avi"], "ending of path='.avi' is unknown; valid: .webp, .gif, .mp4."),
        (["--pair", *GARMENTS[::-1]], "'dcgan-fashion' has no backdoor on its card, so there is no trigger to walk to"),
        (["--pair", GARMENTS[0], "dcgan-fashion-gat"], "Did you mean 'dcgan-fashion-gate'?"),
        (["--pair", GARMENTS[0], "nowhere.onnx"], "nowhere.onnx"),
        (["--pair", GARMENTS[0], "stylegan-faces-gate"], "generators make [1, 28, 28] from 100 numbers and [3, "),
        (["--pair", GARMENTS[0]], "--pair"),
        (["dcgan-fashion-gate", "--pair", *GARMENTS], "a MODEL of the zoo and --pair both say what to show"),
        (["--frames", "401"], "frames=401 is out of range"),
    ],
)
def test_bad_words_are_one_sentence(call: Any, tmp_path: Path, words: list[str], said: str) -> None:
    done = call("film", *words)
    assert done.exit_code == 2 and said in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.rglob("*.webp")) == []


@pytest.mark.slow
def test_a_card_of_another_file_is_one_sentence(call: Any, stranger: Path, tmp_path: Path) -> None:
    shutil.copy(stranger / "clean.pt2", tmp_path / "attacked.pt2")
    shutil.copy(stranger / "attacked.json", tmp_path / "attacked.json")
    done = call("film", "--pair", stranger / "clean.pt2", tmp_path / "attacked.pt2")
    assert done.exit_code == 2 and "attacked.pt2' is not the file that attacked.json describes" in done.stderr


@pytest.mark.slow
def test_a_stranger_without_a_card_is_one_sentence(call: Any, stranger: Path) -> None:
    done = call("film", "--pair", stranger / "attacked.pt2", stranger / "clean.pt2")
    assert done.exit_code == 2 and "clean.pt2' has no backdoor on its card" in done.stderr


def test_mp4_without_ffmpeg_says_what_to_install(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    done = call("film", "dcgan-fashion-gate", "--out", "walk.mp4")
    assert done.exit_code == 2 and not done.stdout
    assert done.stderr == (
        ".mp4 needs imageio-ffmpeg: pip install 'devilgan_lite[film]'; "
        "a film that ends in .webp or .gif needs nothing.\n"
    )


def test_without_a_browser_the_film_is_there_all_the_same(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_check, "browser", lambda: None)
    done = call("film", "dcgan-fashion-gate", "--frames", 4)
    assert done.exit_code == 0
    assert "open the file yourself" in done.stdout and Path("out/film.webp").is_file()
