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


def test_it_stands_alone(page: str) -> None:
    assert not re.search(r"https?://|<script|<link|@import|url\(", page)
    assert page.count("<h1>") == 1 and page.index("<h1>") < page.index("<h2>")


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
    # no team can have this name; the page does not rely on it
    nasty = challenge.Submission("<b>x</b>", kit.id, verdicts)
    assert "<b>x</b>" not in board.page(challenge.score(kit, key, [nasty]), kit)


def test_text_and_rows(kit: challenge.Kit, key: dict[str, Any], answer: Callable[..., challenge.Submission]) -> None:
    scores = challenge.score(kit, key, [answer("blue"), answer("green", 0.1)])
    assert [line.split()[0] for line in challenge.text(scores).splitlines()] == ["team", "blue", "green"]
    assert [row["points"] for row in challenge.to_rows(scores)] == [6.0, 0.0]
