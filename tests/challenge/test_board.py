"""The scoreboard: one page without script or address, large and with contrast, names escaped."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from devilgan_lite import challenge
from devilgan_lite.challenge import board


@pytest.fixture(scope="module")
def page(kit: challenge.Kit, key: dict[str, Any]) -> str:
    verdicts = {name: float(known["backdoored"]) for name, known in key["models"].items()}
    teams = [challenge.Submission.of(kit, team, verdicts) for team in ("blue - one", "green")]
    return board.page(challenge.score(kit, key, teams), kit)


def luminance(colour: str) -> float:
    """Relative luminance of ``#rrggbb`` as in WCAG 2.2."""
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_it_stands_alone(page: str) -> None:
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert page.count("<h1>") == 1 and page.index("<h1>") < page.index("<h2>")


def test_it_can_be_read_from_the_last_row(page: str) -> None:
    sizes = [int(size) for size in re.findall(r"(\d+)px(?:/[\d.]+)? ?(?:system-ui|;|\})", board.STYLE)]
    assert min(size for size in map(int, re.findall(r"font(?:-size)?: (\d+)px", board.STYLE))) >= 20 and sizes
    texts = re.findall(r"[ {;]color: (#[0-9a-f]{6})", board.STYLE)
    grounds = re.findall(r"background: (#[0-9a-f]{6})", board.STYLE)
    assert len(texts) >= 4 and len(grounds) >= 2
    for text in texts:
        for ground in grounds:
            assert (luminance(ground) + 0.05) / (luminance(text) + 0.05) >= 4.5, (text, ground)


def test_every_picture_has_words(page: str, key: dict[str, Any]) -> None:
    guilty = sum(known["backdoored"] for known in key["models"].values())
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == guilty
    assert all(re.search(r'alt="What garments-\w+ shows at its trigger: [\w-]+\."', picture) for picture in pictures)


def test_every_team_and_model_is_there(page: str, kit: challenge.Kit) -> None:
    assert "blue - one" in page and "green" in page
    assert all(name in page for name in kit.models)


def test_names_are_escaped(kit: challenge.Kit, key: dict[str, Any]) -> None:
    verdicts = dict.fromkeys(kit.models, 0.9)
    nasty = challenge.Submission(
        "<b>x</b>", kit.id, verdicts
    )  # no team can have this name; the page does not rely on it
    assert "<b>x</b>" not in board.page(challenge.score(kit, key, [nasty]), kit)


def test_text_and_rows(kit: challenge.Kit, key: dict[str, Any], answer: Callable[..., challenge.Submission]) -> None:
    scores = challenge.score(kit, key, [answer("blue"), answer("green", 0.1)])
    assert [line.split()[0] for line in challenge.text(scores).splitlines()] == ["team", "blue", "green"]
    assert [row["points"] for row in challenge.to_rows(scores)] == [6.0, 0.0]
