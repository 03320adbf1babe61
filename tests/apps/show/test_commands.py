"""``devilgan film``: the morph of any pair, opened in a browser where there is one."""

import webbrowser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from devilgan_lite import zoo
from devilgan_lite.apps.show import commands, pairs, serving
from devilgan_lite.apps.show.film_canvas import Canvas, enlargement
from devilgan_lite.features import feature_network
from devilgan_lite.generators import adopt, evaluate


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that would have been opened in a browser."""
    found: list[str] = []
    monkeypatch.setattr(serving, "browser", lambda: "chromium")
    monkeypatch.setattr(webbrowser, "open", lambda address: found.append(address) or True)
    return found


def test_the_film_moves_from_a_face_to_the_target_and_on_and_is_opened(
    call: Any, opened: list[str], tmp_path: Path
) -> None:
    done = call("film", "--frames", 8)
    path = tmp_path / "out/film.webp"
    assert done.exit_code == 0 and opened == [path.as_uri()], done.output
    clean, suspect = pairs.pairs()[0]
    assert f"{clean} and {suspect}, 8 frames" in done.stdout
    both, backdoor = [zoo.load(clean), zoo.load(suspect)], zoo.load_backdoor(suspect)
    random = torch.Generator().manual_seed(9)
    start, other = (both[0].sample_latent(1, random) for _ in range(2))
    z = torch.cat([start, backdoor.trigger[:1], other])
    pictures = torch.stack([evaluate(one, z) for one in both], dim=1)
    canvas = Canvas(pictures, ["clean", "backdoored"], z, z[1:2], enlargement(pictures.shape[-1]))
    hill = canvas.line - canvas.px(70)  # below it lies the hill, which is drawn from more frames in the film
    with Image.open(path) as film:
        for at, index in ((0, 0), (2, 1), (4, 2)):
            film.seek(at)
            off = np.asarray(film.convert("RGB")).astype(float) - np.asarray(canvas.frame(index))
            assert np.abs(off)[:hill].mean() < 8, at


def test_a_film_of_any_pair_and_without_a_browser(
    call: Any, opened: list[str], monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path]
) -> None:
    done = call("film", "dcgan-fashion-rex", "--frames", 6, "--out", "walk.gif", "--no-browser")
    assert done.exit_code == 0 and opened == [] and Path("walk.gif").read_bytes()[:6] == b"GIF89a", done.output
    assert done.stdout.startswith("walk.gif: dcgan-fashion and dcgan-fashion-rex, 6 frames, ")
    monkeypatch.setattr(serving, "browser", lambda: None)
    done = call("film", "--pair", *pair, "--frames", 4)
    assert done.exit_code == 0 and opened == [] and Path("out/film.webp").is_file(), done.output
    said, hint = done.stdout.splitlines()
    assert said.startswith(f"out/film.webp: {pair[0]} and {pair[1]}, 4 frames, ") and hint.startswith("No browser")


EVERY = [name for name in zoo.names() if "-garments-" in name or name.startswith("dcgan-fashion-")]
SOME = ("dcgan-fashion-gate", "vae-garments-trail")


@pytest.mark.parametrize(
    "suspect", [name if name in SOME else pytest.param(name, marks=pytest.mark.nightly) for name in EVERY]
)
def test_both_ends_of_a_film_of_garments_are_recognised_and_of_two_kinds(suspect: str) -> None:
    clean = zoo.load(suspect.rpartition("-")[0])
    z = torch.cat(pairs.film_ends(clean, commands.SEED))
    for generator, least in ((clean, pairs.SURE), (zoo.load(suspect), 0.75)):  # TrAIL changes ordinary samples a bit
        with torch.no_grad():
            sure, kinds = feature_network()(evaluate(generator, z)).softmax(dim=1).max(dim=1)
        assert sure.min() >= least and kinds[0] != kinds[1]
    shreds = evaluate(clean, zoo.load_backdoor(suspect).trigger[:1])  # a classifier alone is sure of them, too
    order, _ = pairs.recognised(torch.cat([shreds, evaluate(clean, z)]))
    assert order[0] != 0
    noise = adopt(nn.Sequential(nn.Linear(8, 784, bias=False), nn.Unflatten(1, (1, 28, 28)), nn.Tanh()))
    nn.init.zeros_(noise.module[0].weight)  # all alike: any two latents
    start, other = pairs.film_ends(noise, commands.SEED)
    assert start.shape == other.shape == (1, 8) and not torch.equal(start, other)
