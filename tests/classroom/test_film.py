"""The morph as a film."""

import base64
import io
import re
import sys
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
import torch
from PIL import Image, features

from devilgan_lite import generators
from devilgan_lite.classroom import film
from devilgan_lite.classroom.widgets import film_canvas
from devilgan_lite.classroom.widgets.film_canvas import GROUND, HEAT, HILL, LEAST, WHITE, Canvas, enlargement
from devilgan_lite.generators import evaluate
from devilgan_lite.generators.base import seeded

SCALE = 4
CLOSE = 14  # of 255: what WebP, H.264 and 255 colours leave of noise


@pytest.fixture(scope="module")
def pair():
    made = generators.build(generators.StyleGAN(latent_dim=8, style_dim=8, widths=(8, 6, 4)).spec(), seed=0).eval()
    other = generators.build(made.spec(), seed=1).eval()
    random = torch.Generator().manual_seed(0)
    return {"G": made, "G*": other}, made.sample_latent(1, random), made.sample_latent(1, random)


@pytest.fixture(scope="module")
def second(pair):
    return pair[1].flip(1)  # another ordinary latent


@pytest.fixture(scope="module")
def white() -> Canvas:
    """Two generators that agree at first and differ by all there is at the end, in a film of three frames."""
    pictures = torch.full((3, 2, 1, 28, 28), -1.0)
    pictures[1, 1], pictures[2, 1] = 0.0, 1.0
    z = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]])
    return Canvas(pictures, ["clean", "backdoored"], z, z[2:], enlargement(28))


def frames_of(path: Path) -> tuple[list[np.ndarray], list[int]]:
    """The frames of a film as colours, and the milliseconds of each."""
    frames, times = [], []
    with Image.open(path) as picture:
        for index in range(picture.n_frames):
            picture.seek(index)
            picture.load()
            frames.append(np.asarray(picture.convert("RGB")).astype(int))
            times.append(picture.info["duration"])
    return frames, times


def shown(frame: np.ndarray, index: int, side: int, scale: int) -> np.ndarray:
    """The picture of generator ``index`` in a ``frame`` of the film."""
    height = side * scale
    canvas = Canvas(torch.zeros(2, 2, 3, side, side), "ab", torch.eye(2), torch.eye(2)[1:], scale)
    left, top = canvas.lefts[index], canvas.top
    return frame[top : top + height, left : left + height]


def expected(generator, z, scale: int, way: Image.Resampling = Image.Resampling.BICUBIC) -> np.ndarray:
    x = ((evaluate(generator, z)[0].permute(1, 2, 0) + 1) * 127.5).round().to(torch.uint8).numpy()
    image = Image.fromarray(x).resize((x.shape[1] * scale, x.shape[0] * scale), way)
    return np.asarray(image).astype(int)


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_it_goes_there_on_and_back_and_rests_at_pictures_of_the_generators(pair, second, tmp_path, ending):
    both, start, end = pair
    made = film(
        both, start, end, tmp_path / "deep" / f"morph.{ending}", other=second, frames=24, scale=8, milliseconds=50
    )
    assert made.frames == 24 and made.bytes == made.path.stat().st_size
    with Image.open(made.path) as picture:
        assert picture.n_frames == 24 and picture.info["loop"] == 0
    frames, times = frames_of(made.path)
    assert [index for index, time in enumerate(times) if time > 500] == [0, 6, 12, 18]  # both ends and the trigger
    way = Image.Resampling.BICUBIC if ending == "webp" else Image.Resampling.NEAREST
    for at, z in ((0, start), (6, end), (12, second), (18, end)):
        for index, generator in enumerate(both.values()):
            off = shown(frames[at], index, 16, 8) - expected(generator, z, 8, way)
            assert np.abs(off).mean() < CLOSE, (at, index)
    assert np.abs(expected(both["G"], start, 8) - expected(both["G"], second, 8)).mean() > 2 * CLOSE
    for index in range(1, 12):  # the way back is the way there, so the loop closes
        assert np.abs(frames[index] - frames[-index]).mean() < 8, index
    steps = [np.abs(frames[index] - frames[index - 1]).mean() for index in range(1, 7)]
    assert steps[0] < max(steps) and steps[-1] < max(steps)  # eased


def test_without_another_end_it_turns_round_at_the_trigger(pair, tmp_path):
    both, start, end = pair
    made = film(both, start, end, tmp_path / "morph.webp", frames=8, scale=SCALE)
    frames, times = frames_of(made.path)
    assert made.frames == 8 and [index for index, time in enumerate(times) if time > 500] == [0, 4]
    assert np.abs(shown(frames[4], 1, 16, SCALE) - expected(both["G*"], end, SCALE)).mean() < CLOSE


@pytest.mark.parametrize(
    "size", [(28, 28), (32, 32), (64, 64), (100, 100), (24, 48), (64, 16), (300, 300), (1024, 1024)]
)
def test_pictures_are_large_whatever_the_size_of_the_model(size):
    scale = enlargement(size[0])
    canvas = Canvas(torch.zeros(2, 2, 3, *size), ["clean", "backdoored"], torch.eye(2), torch.eye(2)[1:], scale)
    width, height = canvas.size
    assert LEAST <= height <= 960 and abs(width / height - size[1] / size[0]) < 0.01
    assert height % size[0] == 0 or size[0] > 960  # whole pixels
    frame = canvas.frame(0)
    assert frame.size == canvas.whole and all(length % 2 == 0 for length in frame.size)
    assert canvas.frame(0).getpixel((canvas.lefts[2], canvas.top + height - 3)) == GROUND  # the map ends above
    assert canvas.lefts[1] >= canvas.lefts[0] + width and frame.width > canvas.lefts[2] + height // 3


def test_a_film_of_64_pixels_is_as_large(tmp_path):
    made = generators.build(generators.StyleGAN(latent_dim=8, style_dim=8, widths=(8, 6, 4, 4, 4)).spec(), seed=0)
    assert made.sample_shape == (3, 64, 64)
    start, end = made.sample_latent(2, torch.Generator().manual_seed(1)).split(1)
    path = film({"clean": made, "backdoored": made}, start, end, tmp_path / "m.webp", frames=4).path
    assert np.abs(shown(frames_of(path)[0][0], 1, 64, 8) - expected(made, start, 8)).mean() < CLOSE


def test_the_mark_goes_to_the_trigger_and_on(pair, second):
    both, start, end = pair
    z = torch.cat([start, (start + end) / 2, end, (end + second) / 2, second])
    pictures = torch.stack([evaluate(generator, z) for generator in both.values()], dim=1)
    canvas = Canvas(pictures, list(both), z, end, 8)
    assert canvas.unit == "°" and canvas.trigger == 2 and canvas.away[2] == 0
    cosine = torch.nn.functional.cosine_similarity(z[:1].double(), end.double()).item()
    assert abs(canvas.away[0] - np.degrees(np.arccos(cosine))) < 1e-6
    signed = canvas.away * [-1, -1, 0, 1, 1]
    np.testing.assert_allclose(np.diff(canvas.places) / np.diff(signed), np.ptp(canvas.places) / np.ptp(signed))
    found = []
    for index in range(5):
        band = np.asarray(canvas.frame(index))[canvas.line - 1 : canvas.line + 2]
        found.append(np.flatnonzero((band == WHITE).all(-1).all(0)).mean())
    np.testing.assert_allclose(found, canvas.places, atol=1.5)
    assert np.all(np.diff(found) > 10)


def test_the_heat_map_is_dark_where_the_models_agree_and_light_where_they_differ(white):
    left, top = white.lefts[-1] + 5, white.top + 5
    colours = [white.frame(index).getpixel((left, top)) for index in range(3)]
    assert colours[0] == HEAT[0] and colours[2] == HEAT[-1] and colours[1] not in (HEAT[0], HEAT[-1])
    np.testing.assert_allclose(white.differences.mean((1, 2)), [0, 0.5, 1], atol=0.01)
    ground = np.asarray(white.ground)[white.line - white.px(20)]
    hill = np.flatnonzero((ground == HILL).all(-1))
    assert hill.min() > white.places[0] + 50 and hill.max() > white.places[2] - 3


def test_one_colour_that_differs_is_seen():
    pictures = torch.full((2, 2, 3, 8, 8), -1.0)
    pictures[:, 1, 2] = 1.0
    canvas = Canvas(pictures, ["a", "b"], torch.eye(2), torch.eye(2)[1:], 8)
    assert np.all(canvas.differences == 1.0)


def test_mp4_is_what_browsers_play(pair, second, tmp_path):
    both, start, end = pair
    settings = {"other": second, "frames": 8, "scale": 9, "milliseconds": 100}  # 9: sizes that are odd before rounding
    made = film(both, start, end, tmp_path / "m.mp4", **settings)
    assert made.frames == 8 and made.bytes == made.path.stat().st_size and made.moving == ""
    reader = imageio_ffmpeg.read_frames(str(made.path))
    about = next(reader)
    assert about["codec"] == "h264" and about["pix_fmt"].startswith("yuv420p") and about["fps"] == 10
    assert all(length % 2 == 0 for length in about["size"])
    frames = [np.frombuffer(frame, np.uint8).reshape(*about["size"][::-1], 3).astype(int) for frame in reader]
    assert len(frames) == 4 * 10 + 4  # four rests of a second, four frames on the way
    for at, z in ((0, start), (15, end), (27, second)):
        assert np.abs(shown(frames[at], 1, 16, 9) - expected(both["G*"], z, 9)).mean() < CLOSE, at
    content = made.path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # it plays while it loads


def test_without_ffmpeg_one_sentence_says_what_to_install(pair, tmp_path, monkeypatch, no_work):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"pip install 'devilgan_lite\[film\]'; a film that ends in .webp or .gif"):
        film(*pair, tmp_path / "m.mp4")
    assert list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_is_missing_or_fails_is_one_sentence(pair, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", sys.executable)  # it cannot read what it is told, and ends
    with pytest.raises(ValueError, match="ffmpeg could not write the film as .mp4; .webp and .gif do without it"):
        film(*pair, tmp_path / "m.mp4", frames=4, scale=2)

    def none() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    with pytest.raises(ValueError, match="imageio-ffmpeg found none; a film that ends in .webp"):
        film(*pair, tmp_path / "m.mp4")
    assert list(tmp_path.iterdir()) == []


def test_a_pillow_without_letters_is_one_sentence(pair, tmp_path, monkeypatch, no_work):
    monkeypatch.setattr(features, "check_module", lambda name: name != "freetype2")
    with pytest.raises(ValueError, match="cannot write letters: pip install --force-reinstall pillow"):
        film(*pair, tmp_path / "m.webp")


@pytest.mark.parametrize("names", [("only",), ("a", "b", "c with a name that is much too long for its picture")])
def test_one_or_three_generators(pair, tmp_path, names):
    both, start, end = pair
    made = film(dict.fromkeys(names, both["G"]), start, end, tmp_path / "m.webp", frames=4, scale=30)
    with Image.open(made.path) as picture:
        assert picture.width > len(names) * 480 and picture.height < 760


@pytest.mark.parametrize("trigger", ["zeros", "far", "start"])
def test_triggers_without_a_direction_have_a_distance(pair, second, tmp_path, trigger):
    both, start, _ = pair
    end = {"zeros": torch.zeros_like(start), "far": torch.full_like(start, 100.0), "start": start}[trigger]
    made = film(both, start, end, tmp_path / "m.webp", other=second, frames=8, scale=SCALE)
    assert made.frames == 8
    _, unit = film_canvas.distances(torch.cat([start, end, second]), end)
    assert unit == ("" if trigger == "zeros" else "°")
    assert film(both, start, start, tmp_path / "same.gif", frames=4, scale=SCALE).path.is_file()


def test_the_sheet_has_a_row_for_each_generator_and_alt_text(pair, second, tmp_path):
    made = film(*pair, tmp_path / "morph.webp", other=second, frames=8, scale=SCALE, captions=["clean", "evil"])
    data, metadata = made._repr_mimebundle_()
    assert "clean, evil" in metadata["image/png"]["alt"] and "image/png" in data and "text/html" not in data
    with Image.open(io.BytesIO(made.sheet.png)) as sheet:
        assert sheet.width > 3 * sheet.height


def test_without_a_path_it_moves_inside_the_notebook(pair):
    made = film(*pair, frames=10, scale=8)
    assert made.path is None and made.frames == 10
    data, metadata = made._repr_mimebundle_()
    assert "image/png" in data and "Eight frames" in metadata["image/png"]["alt"]
    found = re.fullmatch(r'<img alt="A film [^"]+G, G\*\." src="data:image/webp;base64,([^"]+)">', data["text/html"])
    assert found
    content = base64.b64decode(found[1])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.n_frames == 10 and len(content) == made.bytes and 2 * 16 * 8 <= picture.width < 2 * 16 * 10
        picture.seek(5)
        picture.load()
        assert picture.info["duration"] == 1_000


@pytest.mark.parametrize(
    ("path", "settings", "word"),
    [
        ("morph.avi", {}, "ending of path='.avi' is unknown; valid: .webp, .gif, .mp4"),
        ("morph", {}, "ending of path='' is unknown; valid: .webp, .gif, .mp4"),
        ("morph.webp", {"scale": 0}, "scale"),
        ("morph.webp", {"milliseconds": 1}, "milliseconds"),
        ("morph.webp", {"frames": 3}, "frames=3 is out of range"),
        ("morph.mp4", {"frames": 401}, "frames=401 is out of range"),
        ("morph.webp", {"captions": ["one"]}, "captions has 1 texts; expected 2"),
        ("morph.webp", {"other": torch.zeros(1, 9)}, r"other is \[1, 9\]; expected a float32 tensor \[n, 8\]"),
        ("morph.webp", {"other": torch.zeros(2, 8)}, "other has 2 rows; expected one latent"),
    ],
)
def test_bad_input_writes_nothing(pair, tmp_path, no_work, path, settings, word):
    with pytest.raises(ValueError, match=word):
        film(*pair, tmp_path / path, **settings)
    assert list(tmp_path.iterdir()) == []


def test_sound_is_shown_as_waveforms_and_spectrograms(tmp_path):
    shape = {"latent_dim": 8, "widths": (4, 4), "strides": (4, 4), "length": 256}
    made = {name: seeded(seed, generators.WaveGAN, **shape).eval() for seed, name in enumerate(("G", "G*"))}
    start, end = torch.randn(2, 1, 8, generator=torch.Generator().manual_seed(0))
    done = film(made, start, end, tmp_path / "heard.gif", frames=4)
    frames, _ = frames_of(tmp_path / "heard.gif")
    assert len(frames) == done.frames == 4
    drawn = torch.stack([made[name].modality.pictures(evaluate(made[name], torch.cat([start, end]))) for name in made])
    canvas = Canvas(
        drawn.transpose(0, 1), list(made), torch.cat([start, end]), end, enlargement(drawn.shape[-2]), False
    )
    for at, index in ((0, 0), (2, 1)):
        assert np.abs(frames[at] - np.asarray(canvas.frame(index))).mean() < CLOSE
    assert np.abs(frames[0] - frames[2]).mean() > 2


def test_generators_that_do_not_fit_are_refused(pair, tmp_path, no_work):
    both, start, end = pair
    larger = generators.StyleGAN(latent_dim=8, style_dim=8, widths=(8, 6, 4, 4)).eval()
    with pytest.raises(
        ValueError, match=r"make \[3, 16, 16\] from 8 numbers and \[3, 32, 32\] from 8 .* all of one kind"
    ):
        film({"clean": both["G"], "other": larger}, start, end, tmp_path / "m.webp")
    points = generators.PointGenerator()
    z = torch.zeros(1, points.latent_dim)
    with pytest.raises(ValueError, match=r"make \[2\] from 2 numbers; a film shows pictures"):
        film({"points": points}, z, z, tmp_path / "m.webp")
    longer = generators.StyleGAN(latent_dim=9, style_dim=8, widths=(8, 6, 4)).eval()
    with pytest.raises(ValueError, match=r"from 8 numbers and \[3, 16, 16\] from 9"):
        film({"clean": both["G"], "longer": longer}, start, end, tmp_path / "m.webp")
    with pytest.raises(ValueError, match=r"start \(for 'G'\) is \[1, 9\]"):
        film(both, torch.zeros(1, 9), end, tmp_path / "m.webp")
    with pytest.raises(ValueError, match="generators is empty"):
        film({}, start, end, tmp_path / "m.webp")
    assert list(tmp_path.iterdir()) == []
