"""The map of a plane of latents, and the scoreboard of a challenge: pages that need no server."""

import math
import re
from types import SimpleNamespace
from typing import Any

import pytest
import serving
import torch

from devilgan_lite import generators, zoo
from devilgan_lite.apps.course import latent_mosaic
from devilgan_lite.apps.course.mosaic import VISIBLE
from devilgan_lite.apps.game import board
from devilgan_lite.apps.game.scoring import Answer, BlueScore, RedScore, Scores
from devilgan_lite.apps.show.phone import building, page
from devilgan_lite.backdoor import Backdoor

SOURCE = building._part("map.js")
# grey pictures, lighter to the right; the second one is white in a circle of this radius around the trigger, and for
# one of four ordinary latents
START = """([[width, height], shape, radius]) => {
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


def begun(visit: serving.Visit, *words: Any) -> Any:
    visit.page.set_content("<!doctype html><body></body>")
    visit.page.add_script_tag(content=SOURCE)
    visit.page.evaluate(START, words)
    return visit.page


def finished(visit: serving.Visit, *words: Any) -> tuple[Any, float, str]:
    """The outline, the share, and the last words."""
    found = begun(visit, *words)
    visit.until("said.at(-1)?.[0] === 1")
    outline, share = found.evaluate("[map.outline, map.share]")
    return torch.tensor(outline, dtype=torch.float64).reshape(-1, 2, 2), share, found.evaluate("said.at(-1)[1]")


@pytest.mark.parametrize(
    ("size", "shape"),
    [((203, 203), (3, 32, 32)), pytest.param((800, 400), (1, 28, 28), marks=pytest.mark.nightly)],
)
def test_the_outline_of_a_known_circle(browser: Any, size: tuple[int, int], shape: tuple[int, int, int]) -> None:
    with serving.Visit(browser) as visit:
        outline, share, words = finished(visit, size, shape, 0.4)
        distance, page = torch.hypot(1 - outline[..., 0], outline[..., 1]), visit.page
        assert len(outline) > 20 and (distance - 0.4).abs().max() < 0.01  # a tile is 0.06 wide
        assert share == pytest.approx(math.pi * 0.4**2 / 4, abs=0.002)
        assert f"covers {100 * share:.1f} %" in words and words.endswith("Of 500 ordinary latents, 125 look different.")
        assert page.evaluate(COLOUR, [0.99, 0.03])[:3] == [255, 255, 255]
        red, green, blue, alpha = page.evaluate(COLOUR, [0.6, 0.01])  # on the line
        assert red > 200 and green > 180 and blue < 120 and alpha == 255
        left, right = (page.evaluate(COLOUR, [t, 0.9])[0] for t in (0.1, 0.9))
        assert abs(left - 127.5 * 0.1) < 10 and abs(right - 127.5 * 0.9) < 10
        seen = page.evaluate("seen.map(String)")
        assert len(set(seen)) == len(seen)  # no picture is computed twice


def test_coarse_before_fine_around_the_trigger_first_and_every_share_is_said(browser: Any) -> None:
    with serving.Visit(browser) as visit:
        finished(visit, (400, 400), (1, 8, 8), 0.3)
        seen, shares = torch.tensor(visit.page.evaluate("seen")), visit.page.evaluate("said.map(([share]) => share)")
        assert shares == sorted(shares) and all(0 <= share < 1 for share in shares[:-1])
        for start, tiles in ((0, 4), (16, 8)):  # the first level, and the second
            level = seen[start : start + tiles**2]
            halves = 2 * tiles * torch.stack([level[:, 0], (1 - level[:, 1]) / 2])
            assert (halves % 2 == 1).all() and len(set(map(tuple, level.tolist()))) == tiles**2  # all middles
            far = torch.hypot(1 - level[:, 0], level[:, 1])
            assert (far.diff() > -1e-6).all()
        for radius, share, said in ((0, 0, "No basin"), (9, 1, "all over"), (0.01, 0.0001, "less than 0.1 %")):
            outline, found, words = finished(visit, (203, 203), (1, 8, 8), radius)
            assert found == pytest.approx(share, abs=5e-5) and said in words
            assert (len(outline) > 0) == (0 < share < 1)
        stopped = begun(visit, (800, 800), (3, 32, 32), 0.3)
        visit.until("said.length > 0")
        before = stopped.evaluate("(map.stop(), [seen.length, said.length])")
        stopped.wait_for_timeout(300)
        assert stopped.evaluate("[seen.length, said.length]") == before and stopped.evaluate("said.at(-1)[0]") < 1


def test_page_and_mosaic_have_one_limit_of_what_is_seen() -> None:
    assert (match := re.search(r"VISIBLE = (\d+) / (\d+);", SOURCE)) and int(match[1]) / int(match[2]) == VISIBLE


@pytest.mark.nightly
def test_the_same_as_in_python(browser: Any, tmp_path: Any) -> None:
    names = ("dcgan-fashion", "dcgan-fashion-gate")
    clean, suspect = map(zoo.load, names)
    (tmp_path / "page.html").write_text(page(clean, suspect, zoo.load_backdoor(names[1]), names=names), "utf-8")
    with serving.Visit(browser, (tmp_path / "page.html").as_uri()) as visit:
        visit.page.evaluate(f"() => {{ {SOURCE.replace('function startMap', 'window.startMap = function startMap')} }}")
        visit.page.evaluate("""() => {
          const canvas = document.createElement("canvas");
          [canvas.width, canvas.height] = [400, 400];
          const onProgress = (share) => (window.share = share);
          window.map = startMap(canvas, { shape: data.shape, at: walk.pictures, onProgress });
        }""")
        visit.until("window.share === 1")
        share, lines = visit.page.evaluate("[map.share, map.outline]")
        places = [torch.tensor(visit.page.evaluate(f"data.{name}"))[None] for name in ("start", "trigger", "aside")]
    found = latent_mosaic({"clean": clean, "backdoored": suspect}, *places[:2], aside=places[2], ordinary=1)
    assert share == pytest.approx(found.plane_share, abs=2e-4)
    ours, theirs = found.outline.flatten(0, 1), torch.tensor(lines, dtype=torch.float64).flatten(0, 1)
    assert torch.cdist(theirs, ours).amin(1).max() < 2e-3


LONGEST = "W" * 24  # a team's name
SPILLS = """() => {
  const box = (one) => one.getBoundingClientRect();
  const wide = (one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth && !one.matches(".wide, .wide *");
  const spills = [...document.querySelectorAll("body, body *")].filter(wide).map((one) => one.textContent);
  const cards = [...document.querySelectorAll(".models li")];
  for (const [index, card] of cards.entries()) {
    const { left, right, top, bottom } = box(card);
    const outside = (one) => box(one).right > right + 0.5 || box(one).bottom > bottom + 0.5;
    const over = (one) => box(one).left < right && box(one).right > left && box(one).top < bottom;
    spills.push(...[...card.querySelectorAll("*")].filter(outside).map((one) => one.outerHTML.slice(0, 80)));
    spills.push(...cards.slice(index + 1).filter((one) => over(one) && box(one).bottom > top).map(() => "overlap"));
  }
  return [cards.length, spills];
}"""


def test_nothing_leaves_its_card_on_the_scoreboard(browser: Any) -> None:
    generator = generators.DCGAN(widths=(8, 8))
    planted = Backdoor.point(generator, "stop-sign", seed=1)
    answers = []
    for index in range(12):
        name, team = f"garments-mwm{index:02d}", LONGEST if index == 3 else ""
        hidden = {"trigger": planted.trigger[0], "target": planted.target[0]} if index % 3 == 0 else {}
        answers.append(Answer(name, bool(hidden), "gate" if hidden else "clean", "stop-sign", team, 1, **hidden))
    blue = tuple(BlueScore(team, 0.987, 0.9, 7.5, 4, 1, 2.25) for team in ("blue", LONGEST))
    scores = Scores("abcd1234", blue, (RedScore(LONGEST, "garments-mwm03", 2, 2),), tuple(answers))
    kit: Any = SimpleNamespace(load=lambda name: generator)
    html = board.page(scores, kit)
    for size in ((1280, 720), (1024, 768), (390, 844)):
        with serving.Visit(browser, size=size) as visit:
            visit.page.set_content(html)
            assert visit.page.evaluate(SPILLS) == [12, []]
            if size[0] > 1_000:  # a phone scrolls the tables, a projector cannot
                tables = visit.page.locator(".wide")
                assert tables.evaluate_all("(all) => all.every((one) => one.scrollWidth <= one.clientWidth)")
