"""The scoreboard of a challenge in a real browser: no text leaves its card, on a projector or a phone."""

from types import SimpleNamespace
from typing import Any

import pytest
from conftest import new_page

from devilgan_lite import generators
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.challenge import board
from devilgan_lite.challenge.scoring import Answer, BlueScore, RedScore, Scores

LONGEST = "W" * 24  # a team's name
SPILLS = """() => {
  const box = (one) => one.getBoundingClientRect();
  const wide = (one) => one.scrollWidth > one.clientWidth + 1 && one.clientWidth && !one.matches(".wide, .wide *");
  const spills = [...document.querySelectorAll("body, body *")].filter(wide).map((one) => one.textContent);
  const cards = [...document.querySelectorAll(".models li")];
  for (const [index, card] of cards.entries()) {
    const { left, right, top, bottom } = box(card);
    const outside = (one) => box(one).right > right + 0.5 || box(one).bottom > bottom + 0.5;
    const over = (one) => box(one).left < right && box(one).right > left && box(one).top < bottom &&
      box(one).bottom > top;
    spills.push(...[...card.querySelectorAll("*")].filter(outside).map((one) => one.outerHTML.slice(0, 80)));
    spills.push(...cards.slice(index + 1).filter(over).map((one) => "two cards overlap"));
  }
  return [cards.length, spills];
}"""


@pytest.fixture(scope="module")
def scoreboard() -> str:
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
    return board.page(scores, kit)


@pytest.mark.parametrize("size", [(1280, 720), (1024, 768), (390, 844)], ids=lambda size: f"{size[0]}x{size[1]}")
def test_nothing_leaves_its_card_or_the_page(browser: Any, scoreboard: str, size: tuple[int, int]) -> None:
    page, errors = new_page(browser, viewport={"width": size[0], "height": size[1]})
    page.set_content(scoreboard)
    assert page.evaluate(SPILLS) == [12, []] and errors == []
    if size[0] > 1_000:  # a phone scrolls the tables, a projector cannot
        tables = page.locator(".wide")
        assert tables.evaluate_all("(all) => all.every((one) => one.scrollWidth <= one.clientWidth)")
    page.close()
