"""The morph as a film: frames and times of each kind of file, the canvas, refusals."""

import base64
import io
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, features
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.apps.show.film import film
from devilgan_lite.apps.show.film_canvas import (
    GROUND,
    HEAT,
    HILL,
    LEAST,
    WHITE,
    Canvas,
    distances,
    enlargement,
)
from devilgan_lite.generators import evaluate
from devilgan_lite.generators.base import seeded

SCALE = 4
CLOSE = 14  # of 255: what WebP, H.264 and 255 colours leave of noise


def style_gan(seed: int = 0, latent_dim: int = 8, levels: int = 3) -> Any:
    made = generators.StyleGAN(latent_dim=latent_dim, style_dim=8, widths=(8, 6, 4, 4, 4)[:levels])
    return generators.build(made.spec(), seed=seed).eval()


@pytest.fixture(scope="module")
def pair() -> tuple[dict[str, Any], Tensor, Tensor]:
    made, random = style_gan(), torch.Generator().manual_seed(0)
    return {"G": made, "G*": style_gan(seed=1)}, made.sample_latent(1, random), made.sample_latent(1, random)


@pytest.fixture(scope="module")
def second(pair: Any) -> Tensor:
    return pair[1].flip(1)  # another ordinary latent


def frames_of(source: Any) -> tuple[list[np.ndarray], list[int]]:
    """The frames of a film as colours, and the milliseconds of each."""
    frames, times = [], []
    with Image.open(source) as picture:
        assert picture.info["loop"] == 0
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
            times.append(picture.info["duration"])
    return frames, times


def rests(times: list[int]) -> list[int]:
    return [index for index, time in enumerate(times) if time > 500]


def off(
    frame: np.ndarray, index: int, made: Any, z: Tensor, scale: int, way: Any = Image.Resampling.BICUBIC
) -> np.floating[Any]:
    """How far the picture of generator ``index`` in a frame is from what ``made`` draws at ``z``."""
    x = ((evaluate(made, z)[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    side, height = len(x), len(x) * scale
    canvas = Canvas(torch.zeros(2, 2, 3, side, side), "ab", torch.eye(2), torch.eye(2)[1:], scale)
    part = frame[canvas.top : canvas.top + height, canvas.lefts[index] : canvas.lefts[index] + height]
    return np.abs(part - np.asarray(Image.fromarray(x).resize((height, height), way)).astype(int)).mean()


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_it_goes_there_on_and_back_and_rests_at_pictures_of_the_generators(
    pair: Any, second: Tensor, tmp_path: Path, ending: str
) -> None:
    both, start, end = pair
    way = Image.Resampling.BICUBIC if ending == "webp" else Image.Resampling.NEAREST
    path = tmp_path / "deep" / f"morph.{ending}"
    made = film(both, start, end, path, other=second, frames=24, scale=8, milliseconds=50)
    frames, times = frames_of(made.path)
    assert made.frames == len(frames) == 24 and made.bytes == made.path.stat().st_size and made.moving == ""
    assert rests(times) == [0, 6, 12, 18] and {time for time in times if time <= 500} == {50}  # both ends, the trigger
    for at, z in ((0, start), (6, end), (12, second), (18, end)):
        for index, generator in enumerate(both.values()):
            assert off(frames[at], index, generator, z, 8, way) < CLOSE, (at, index)
    assert off(frames[0], 0, both["G"], second, 8) > 1.5 * CLOSE < off(frames[0], 0, both["G*"], start, 8)
    for index in range(1, 12):  # the way back is the way there, so the loop closes
        assert np.abs(frames[index] - frames[-index]).mean() < 8, index
    steps = [np.abs(frames[index] - frames[index - 1]).mean() for index in range(1, 7)]
    assert steps[0] < max(steps) and steps[-1] < max(steps)  # eased
    turned = film(both, start, end, tmp_path / f"turned.{ending}", frames=8, scale=SCALE)  # back from the trigger
    frames, times = frames_of(turned.path)
    assert turned.frames == 8 and rests(times) == [0, 4] and off(frames[4], 1, both["G*"], end, SCALE, way) < CLOSE


def test_pictures_are_large_whatever_the_size_of_the_model() -> None:
    for size in ((28, 28), (64, 64), (24, 48), (64, 16), (300, 300), (1024, 1024)):
        z = torch.eye(2)
        canvas = Canvas(torch.zeros(2, 2, 3, *size), ["clean", "evil"], z, z[1:], enlargement(size[0]))
        width, height = canvas.size
        assert LEAST <= height <= 960 and abs(width / height - size[1] / size[0]) < 0.01, size
        assert height % size[0] == 0 or size[0] > 960  # whole pixels
        frame = canvas.frame(0)
        assert frame.size == canvas.whole and all(length % 2 == 0 for length in frame.size)
        assert frame.getpixel((canvas.lefts[2], canvas.top + height - 3)) == GROUND  # the map ends above
        assert canvas.lefts[1] >= canvas.lefts[0] + width and frame.width > canvas.lefts[2] + height // 3


def test_the_mark_goes_to_the_trigger_and_on(pair: Any, second: Tensor) -> None:
    both, start, end = pair
    z = torch.cat([start, (start + end) / 2, end, (end + second) / 2, second])
    pictures = torch.stack([evaluate(generator, z) for generator in both.values()], dim=1)
    canvas = Canvas(pictures, list(both), z, end, 8)
    assert canvas.unit == "°" and canvas.trigger == 2 and canvas.away[2] == 0
    cosine = torch.nn.functional.cosine_similarity(z[:1].double(), end.double()).item()
    assert abs(canvas.away[0] - np.degrees(np.arccos(cosine))) < 1e-6
    signed = canvas.away * [-1, -1, 0, 1, 1]
    np.testing.assert_allclose(np.diff(canvas.places) / np.diff(signed), np.ptp(canvas.places) / np.ptp(signed))
    bands = [np.asarray(canvas.frame(index))[canvas.line - 1 : canvas.line + 2] for index in range(5)]
    found = [np.flatnonzero((band == WHITE).all(-1).all(0)).mean() for band in bands]
    np.testing.assert_allclose(found, canvas.places, atol=1.5)
    assert np.all(np.diff(found) > 10)
    for trigger, unit in ((torch.zeros_like(start), ""), (torch.full_like(start, 100.0), "°"), (start, "°")):
        assert distances(torch.cat([start, trigger, second]), trigger)[1] == unit  # without a direction no angle


def test_the_heat_map_is_dark_where_the_models_agree_and_light_where_they_differ() -> None:
    pictures = torch.full((3, 2, 1, 28, 28), -1.0)
    pictures[1, 1], pictures[2, 1] = 0.0, 1.0
    z = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    white = Canvas(pictures, ["clean", "backdoored"], z, z[2:], enlargement(28))
    colours = [white.frame(index).getpixel((white.lefts[-1] + 5, white.top + 5)) for index in range(3)]
    assert colours[0] == HEAT[0] and colours[2] == HEAT[-1] and colours[1] not in (HEAT[0], HEAT[-1])
    np.testing.assert_allclose(white.differences.mean((1, 2)), [0, 0.5, 1], atol=0.01)
    hill = np.flatnonzero((np.asarray(white.ground)[white.line - white.px(20)] == HILL).all(-1))
    assert hill.min() > white.places[0] + 50 and hill.max() > white.places[2] - 3
    pictures = torch.full((2, 2, 3, 8, 8), -1.0)
    pictures[:, 1, 2] = 1.0  # one colour that differs is seen
    assert np.all(Canvas(pictures, ["a", "b"], torch.eye(2), torch.eye(2)[1:], 8).differences == 1.0)


def test_mp4_is_what_browsers_play(pair: Any, second: Tensor, tmp_path: Path) -> None:
    both, start, end = pair
    settings = {"other": second, "frames": 8, "scale": 9, "milliseconds": 100}  # 9: sizes that are odd before rounding
    made = film(both, start, end, tmp_path / "m.mp4", **settings)
    assert made.frames == 8 and made.bytes == made.path.stat().st_size
    reader = imageio_ffmpeg.read_frames(str(made.path))
    about = next(reader)
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p") and about["fps"] == 10
    assert all(length % 2 == 0 for length in about["size"])
    frames = [np.frombuffer(frame, np.uint8).reshape(*about["size"][::-1], 3).astype(int) for frame in reader]
    assert len(frames) == 4 * 10 + 4  # four rests of a second, four frames on the way
    for at, z in ((0, start), (15, end), (27, second)):
        assert off(frames[at], 1, both["G*"], z, 9) < CLOSE, at
    content = made.path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads


def test_one_or_three_generators_and_triggers_without_a_direction(pair: Any, second: Tensor, tmp_path: Path) -> None:
    both, start, _ = pair
    for names in (("only",), ("a", "b", "c with a name that is much too long for its picture")):
        made = film(dict.fromkeys(names, both["G"]), start, second, tmp_path / "m.webp", frames=4, scale=30)
        with Image.open(made.path) as picture:
            assert picture.width > len(names) * 480 and picture.height < 760
    for end, other in ((torch.zeros_like(start), second), (start, second), (start, None)):
        assert film(both, start, end, tmp_path / "m.gif", other=other, frames=4, scale=SCALE).path.is_file()


def test_it_is_shown_as_a_sheet_or_moves_inside_the_notebook(
    pair: Any, second: Tensor, tmp_path: Path, size: Callable[[bytes], tuple[int, int]]
) -> None:
    made = film(*pair, tmp_path / "morph.webp", other=second, frames=8, scale=SCALE, captions=["clean", "evil"])
    data, metadata = made._repr_mimebundle_()
    assert "clean, evil" in metadata["image/png"]["alt"] and "image/png" in data and "text/html" not in data
    assert size(made.sheet.png)[0] > 3 * size(made.sheet.png)[1]
    made = film(*pair, frames=10, scale=8)
    data, metadata = made._repr_mimebundle_()
    assert made.path is None and "image/png" in data and "Eight frames" in metadata["image/png"]["alt"]
    found = re.fullmatch(r'<img alt="A film [^"]+G, G\*\." src="data:image/webp;base64,([^"]+)">', data["text/html"])
    assert found
    content = base64.b64decode(found[1])
    frames, times = frames_of(io.BytesIO(content))
    assert len(frames) == made.frames == 10 and times[5] == 1_000 and len(content) == made.bytes
    assert 2 * 16 * 8 <= frames[0].shape[1] < 2 * 16 * 10


def test_sound_is_shown_as_waveforms_and_spectrograms(tmp_path: Path) -> None:
    shape = {"latent_dim": 8, "widths": (4, 4), "strides": (4, 4), "length": 256}
    made = {name: seeded(seed, generators.WaveGAN, **shape).eval() for seed, name in enumerate(("G", "G*"))}
    z = torch.randn(2, 8, generator=torch.Generator().manual_seed(0))
    frames, _ = frames_of(film(made, *z.split(1), tmp_path / "heard.gif", frames=4).path)
    drawn = torch.stack([model.modality.pictures(evaluate(model, z)) for model in made.values()], dim=1)
    canvas = Canvas(drawn, list(made), z, z[1:], enlargement(drawn.shape[-2]), False)
    for at, index in ((0, 0), (2, 1)):
        assert np.abs(frames[at] - np.asarray(canvas.frame(index))).mean() < CLOSE
    assert len(frames) == 4 and np.abs(frames[0] - frames[2]).mean() > 2


def test_bad_input_writes_nothing(
    pair: Any, tmp_path: Path, no_work: None, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    both, start, end = pair
    for path, settings, words in (
        ("morph.avi", {}, ["'.avi'", ".webp, .gif, .mp4"]),
        ("morph", {}, ["path=''"]),
        ("morph.webp", {"scale": 0}, ["scale"]),
        ("morph.webp", {"milliseconds": 1}, ["milliseconds"]),
        ("morph.webp", {"frames": 3}, ["frames=3"]),
        ("morph.mp4", {"frames": 401}, ["frames=401"]),
        ("morph.webp", {"captions": ["one"]}, ["captions"]),
        ("morph.webp", {"other": torch.zeros(1, 9)}, ["other"]),
        ("morph.webp", {"other": torch.zeros(2, 8)}, ["other has 2"]),
    ):
        refuses(lambda p=path, s=settings: film(*pair, tmp_path / p, **s), *words)
    points, z = generators.PointGenerator(), torch.zeros(1, 2)
    for made, begin, finish, word in (
        ({"clean": both["G"], "other": style_gan(levels=4)}, start, end, "[3, 32, 32]"),
        ({"points": points}, z, z, "[2] from 2 numbers"),
        ({"clean": both["G"], "longer": style_gan(latent_dim=9)}, start, end, "from 9"),
        (both, torch.zeros(1, 9), end, "start"),
        ({}, start, end, "generators"),
    ):
        refuses(lambda m=made, b=begin, f=finish: film(m, b, f, tmp_path / "m.webp"), word)
    monkeypatch.setattr(features, "check_module", lambda name: name != "freetype2")
    refuses(lambda: film(*pair, tmp_path / "m.webp"), "letters", "pip install")
    assert list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_is_missing_or_fails_is_one_sentence(
    pair: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)  # it cannot read what it is told, and ends
    refuses(lambda: film(*pair, tmp_path / "m.mp4", frames=4, scale=2), "ffmpeg", ".webp and .gif")
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    refuses(lambda: film(*pair, tmp_path / "m.mp4"), "imageio-ffmpeg")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    refuses(lambda: film(*pair, tmp_path / "m.mp4"), "pip install 'devilgan_lite[film]'", ".webp")
    assert list(tmp_path.iterdir()) == []


def test_a_generator_of_a_stranger_is_filmed(tmp_path: Path) -> None:
    stranger = torch.nn.Sequential(torch.nn.Linear(6, 64), torch.nn.Tanh(), torch.nn.Unflatten(1, (1, 8, 8)))
    network = generators.adopt(stranger, 6)
    start, trigger = network.sample(2).new_zeros(2, 6).normal_().split(1)
    made = film({"stranger": network}, start, trigger, tmp_path / "film.gif", frames=4)
    assert made.path is not None and made.path.exists()
