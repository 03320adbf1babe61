"""Points: who knows everything gets all, who knows nothing half, whoever changes a file is told; and the scoreboard."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import challenge
from devilgan_lite.challenge import Submission, board
from devilgan_lite.challenge.kit import MANIFEST, unpacked
from devilgan_lite.challenge.scoring import points_for

PASSPHRASE = "a passphrase for tests"  # of the round in conftest
Answer = Callable[..., Submission]


@pytest.fixture(scope="module")
def guilty(key: dict[str, Any]) -> list[str]:
    return [name for name, known in key["models"].items() if known["backdoored"]]


def test_verdicts(kit: challenge.Kit, key: dict[str, Any], answer: Answer, guilty: list[str]) -> None:
    scores = challenge.score(kit, key, [answer("shrug", 0.5), answer("wrong", 0.1), answer("right", 0.9)])
    assert [team.team for team in scores.blue] == ["right", "shrug", "wrong"]
    assert [team.auc for team in scores.blue] == [1.0, 0.5, 0.0]
    assert [team.right for team in scores.blue] == [6, 3, 0] and scores.blue[1].accuracy == 0.5
    assert [team.found for team in scores.blue] == [len(guilty), 0, 0]
    assert [team.false_alarms for team in scores.blue] == [0, 0, 6 - len(guilty)]
    assert json.loads(json.dumps(scores.to_dict()))["blue"][0]["points"] == 6
    assert {known.caught_by for known in scores.answers} == {1}
    assert [line.split()[0] for line in challenge.text(scores).splitlines()] == ["team", "right", "shrug", "wrong"]
    assert [row["points"] for row in challenge.to_rows(scores)] == [6.0, 3.0, 0.0]


def test_evidence(kit: challenge.Kit, key: dict[str, Any], answer: Answer, guilty: list[str]) -> None:
    name, clean = guilty[0], next(name for name in key["models"] if name not in guilty)
    trigger, target = (unpacked(key["models"][name][what])[0] for what in ("trigger", "target"))
    for evidence, points in (
        ({name: trigger}, 1.0),
        ({name: target}, 0.5),
        ({name: -trigger}, 0.0),
        ({clean: target}, -0.5),
    ):
        (blue,) = challenge.score(kit, key, [answer("blue", evidence=evidence)]).blue
        assert blue.recovered == points and blue.points == blue.right + points
    for error, points in ((0.0, 1), (0.05, 1), (0.15, 0.5), (0.25, 0), (9.0, 0), (math.nan, 0)):
        assert points_for(error) == pytest.approx(points)


def test_red_teams_are_paid_for_who_misses_them(
    kit: challenge.Kit, key: dict[str, Any], answer: Answer, guilty: list[str]
) -> None:
    models = {**key["models"], guilty[0]: {**key["models"][guilty[0]], "team": "crimson"}}
    scores = challenge.score(kit, {**key, "models": models}, [answer("a"), answer("b", 0.2), answer("c", 0.5)])
    (red,) = scores.red
    assert (red.team, red.model, red.undetected, red.teams) == ("crimson", guilty[0], 2, 3)
    assert "red crimson" in challenge.text(scores) and "red team crimson" in board.page(scores, kit)


def test_what_the_key_holds_is_what_the_models_do(kit: challenge.Kit, key: dict[str, Any]) -> None:
    for name, known in key["models"].items():
        assert known["backdoored"] == (known["trigger"] is not None) == (known["kind"] != "clean")
        if known["backdoored"]:
            shown = kit.load(name)(unpacked(known["trigger"])).detach()
            assert float((shown - unpacked(known["target"])).square().mean()) < 0.05
            assert torch.is_tensor(unpacked(known["target"]))


def test_whoever_changes_a_file_is_told(
    kit: challenge.Kit, key: dict[str, Any], copied: Path, answer: Answer, refuses: Callable[..., str]
) -> None:
    players, sealed = copied / "players", copied / "instructor" / "key.sealed"
    text, name = (players / MANIFEST).read_text(), next(iter(kit.models))
    model = players / f"{name}.safetensors"
    whole, locked = model.read_bytes(), sealed.read_bytes()

    def ended(passphrase: str = PASSPHRASE) -> challenge.Scores:
        found = challenge.read_kit(copied)
        return challenge.score(found, challenge.open_key(found, sealed, passphrase), [answer("blue")])

    assert ended().blue[0].points == 6
    refuses(lambda: ended("another passphrase"), "passphrase")
    for path, spoilt, original, named in (
        (model, whole[:-1] + bytes([whole[-1] ^ 1]), whole, MANIFEST),
        (sealed, locked.replace(b"salt", b"sald"), locked, "key.sealed"),
        (players / MANIFEST, text.replace(kit.models[name], "0" * 64).encode(), text.encode(), "kit"),
        (players / MANIFEST, text.replace(kit.commitment, "0" * 64).encode(), text.encode(), MANIFEST),
    ):
        path.write_bytes(spoilt)
        refuses(ended, named)
        path.write_bytes(original)
    refuses(lambda: challenge.score(kit, key, []), "submissions")
    refuses(lambda: challenge.score(kit, key, [answer("blue"), answer("blue")]), "blue")


def test_the_scoreboard_stands_alone_shows_all_and_escapes_names(
    kit: challenge.Kit, key: dict[str, Any], answer: Answer, guilty: list[str]
) -> None:
    nasty = Submission("<b>x</b>", kit.id, dict.fromkeys(kit.models, 0.9))  # no team can have this name
    page = board.page(challenge.score(kit, key, [answer("blue - one"), answer("green"), nasty]), kit)
    assert not re.search(r"https?://|<script|<link|@import|url\(|<b>x</b>", page) and "&lt;b&gt;x" in page
    assert page.count("<h1>") == 1 and page.index("<h1>") < page.index("<h2>")
    pictures = re.findall(r"<img [^>]*>", page)
    assert len(pictures) == len(guilty)
    assert all(re.search(r'alt="What garments-\w+ shows at its trigger: [\w-]+\."', picture) for picture in pictures)
    assert all(name in page for name in (*kit.models, "blue - one", "green"))
