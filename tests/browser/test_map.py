"""The mosaic of a plane of latents in a real browser: coarse before fine, a known basin, and the same as in Python."""

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serving
import torch
from conftest import new_page

from devilgan_lite import phone, zoo
from devilgan_lite.classroom import latent_mosaic
from devilgan_lite.cli import phones

SOURCE = (Path(phone.__file__).parent / "map.js").read_text(encoding="utf-8")
GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")
# grey pictures, lighter to the right; the second one is white in a circle of this radius around the trigger, and for
# one of four ordinary latents
START = """([width, height, shape, radius]) => {
  const canvas = document.body.appendChild(document.createElement("canvas"));
  [canvas.width, canvas.height] = [width, height];
  const filled = (value) => new Float32Array(shape[0] * shape[1] * shape[2]).fill(value);
  window.seen = [];
  window.said = [];
  const at = (t, across) => {
    seen.push([t, across]);
    return [filled(t - 1), filled(Math.hypot(1 - t, across) < radius ? 1 : t - 1)];
  };
  let drawn = 0;
  const ordinary = () => [filled(0), filled(drawn++ % 4 ? 0 : 1)];
  window.map = startMap(canvas, { shape, at, ordinary, onProgress: (...news) => said.push(news), budget: 5 });
}"""
COLOUR = """([t, across]) => {
  const canvas = document.querySelector("canvas");
  const place = [t * canvas.width, (canvas.height * (1 - across)) / 2].map(Math.floor);
  return [...canvas.getContext("2d").getImageData(...place, 1, 1).data];
}"""


def until(page: Any, condition: str) -> None:
    end = time.monotonic() + serving.PATIENCE
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(20)


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    page, errors = new_page(browser)
    page.set_content("<!doctype html><body></body>")
    page.add_script_tag(content=SOURCE)
    yield page
    page.close()
    assert errors == []


def finished(page: Any, width: int, height: int, shape: tuple[int, int, int], radius: float) -> tuple[Any, float, str]:
    """The outline, the share, and the last words."""
    page.evaluate(START, [width, height, shape, radius])
    until(page, "said.at(-1)?.[0] === 1")
    outline, share = page.evaluate("[map.outline, map.share]")
    return torch.tensor(outline, dtype=torch.float64).reshape(-1, 2, 2), share, page.evaluate("said.at(-1)[1]")


@pytest.mark.parametrize(
    ("size", "shape"), [((400, 400), (3, 32, 32)), ((800, 400), (1, 28, 28)), ((203, 203), (3, 64, 64))]
)
def test_the_outline_of_a_known_circle(page: Any, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    outline, share, words = finished(page, *size, shape, radius=0.4)
    distance = torch.hypot(1 - outline[..., 0], outline[..., 1])
    assert len(outline) > 20 and (distance - 0.4).abs().max() < 0.01  # a tile is 0.06 wide
    assert share == pytest.approx(math.pi * 0.4**2 / 4, abs=0.002)
    assert f"covers {100 * share:.1f} %" in words and words.endswith(" Of 500 ordinary latents, 125 look different.")
    assert page.evaluate(COLOUR, [0.99, 0.03])[:3] == [255, 255, 255]
    red, green, blue, alpha = page.evaluate(COLOUR, [0.6, 0.01])  # on the line
    assert red > 200 and green > 180 and blue < 120 and alpha == 255
    left, right = (page.evaluate(COLOUR, [t, 0.9])[0] for t in (0.1, 0.9))
    assert abs(left - 127.5 * 0.1) < 10 and abs(right - 127.5 * 0.9) < 10
    seen = page.evaluate("seen.map(String)")
    assert len(set(seen)) == len(seen)  # no picture is computed twice
    serving.photograph(page, f"map_{size[0]}")


def test_coarse_before_fine_and_around_the_trigger_first(page: Any) -> None:
    finished(page, 400, 400, (1, 8, 8), radius=0.3)
    seen, shares = torch.tensor(page.evaluate("seen")), page.evaluate("said.map(([share]) => share)")
    assert shares == sorted(shares) and all(0 <= share < 1 for share in shares[:-1])
    for start, tiles in ((0, 4), (16, 8)):  # the first level, and the second
        level = seen[start : start + tiles**2]
        halves = 2 * tiles * torch.stack([level[:, 0], (1 - level[:, 1]) / 2])
        assert (halves % 2 == 1).all() and len(set(map(tuple, level.tolist()))) == tiles**2  # all middles
        far = torch.hypot(1 - level[:, 0], level[:, 1])
        assert (far.diff() > -1e-6).all()


@pytest.mark.parametrize(
    ("radius", "share", "said"), [(0, 0, "No basin"), (9, 1, "differently all over"), (0.01, 0.0001, "less than 0.1 %")]
)
def test_nothing_everything_and_very_little(page: Any, radius: float, share: float, said: str) -> None:
    outline, found, words = finished(page, 400, 400, (1, 8, 8), radius)
    assert found == pytest.approx(share, abs=5e-5) and said in words
    assert (len(outline) > 0) == (0 < share < 1)


def test_stop_stops(page: Any) -> None:
    page.evaluate(START, [800, 800, (3, 32, 32), 0.3])
    until(page, "said.length > 0")
    before = page.evaluate("(map.stop(), [seen.length, said.length])")
    page.wait_for_timeout(300)
    assert page.evaluate("[seen.length, said.length]") == before and page.evaluate("said.at(-1)[0]") < 1


def test_the_same_as_in_python(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(phones.built(GARMENTS), encoding="utf-8")
    page, errors = new_page(browser)
    page.goto((tmp_path / "page.html").as_uri())
    page.evaluate(f"() => {{ {SOURCE.replace('function startMap', 'window.startMap = function startMap')} }}")
    page.evaluate("""() => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [400, 400];
      const onProgress = (share) => (window.share = share);
      window.map = startMap(canvas, { shape: data.shape, at: walk.pictures, onProgress });
    }""")
    until(page, "window.share === 1")
    share, lines = page.evaluate("[map.share, map.outline]")
    places = [torch.tensor(page.evaluate(f"data.{name}"))[None] for name in ("start", "trigger", "aside")]
    page.close()
    assert errors == []
    pair = dict(zip(("clean", "backdoored"), map(zoo.load, GARMENTS), strict=True))
    found = latent_mosaic(pair, *places[:2], aside=places[2], ordinary=1)
    assert share == pytest.approx(found.plane_share, abs=2e-4)
    ours, theirs = found.outline.flatten(0, 1), torch.tensor(lines, dtype=torch.float64).flatten(0, 1)
    assert torch.cdist(theirs, ours).amin(1).max() < 2e-3
