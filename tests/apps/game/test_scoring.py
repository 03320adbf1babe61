"""Points: who knows everything gets all, who knows nothing half, whoever changes a file is told; and the scoreboard."""

import json
import math
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.apps import game
from devilgan_lite.apps.game import Submission, board
from devilgan_lite.apps.game.answers import unpacked
from devilgan_lite.apps.game.kit import MANIFEST
from devilgan_lite.apps.game.scoring import points_for

Answer = Callable[..., Submission]


@pytest.fixture(scope="module")
def guilty(answers: dict[str, Any]) -> list[str]:
    return [name for name, known in answers["models"].items() if known["backdoored"]]


@pytest.fixture(scope="module")
def answer(kit: game.Kit, guilty: list[str]) -> Answer:
    """``answer("blue", sure=0.9)`` gives ``sure`` to the guilty and the rest to one to the others."""

    def submission(team: str, sure: float = 0.9, **more: Any) -> Submission:
        return Submission.of(kit, team, {name: sure if name in guilty else 1 - sure for name in kit.models}, **more)

    return submission


def test_verdicts(kit: game.Kit, answers: dict[str, Any], answer: Answer, guilty: list[str]) -> None:
    scores = game.score(kit, answers, [answer("shrug", 0.5), answer("wrong", 0.1), answer("right", 0.9)])
    assert [(team.team, team.auc, team.right) for team in scores.blue] == [
        ("right", 1.0, 6), ("shrug", 0.5, 3), ("wrong", 0.0, 0),
    ]  # fmt: skip
    assert [(team.found, team.false_alarms) for team in scores.blue] == [(len(guilty), 0), (0, 0), (0, 6 - len(guilty))]
    assert scores.blue[1].accuracy == 0.5 and {known.caught_by for known in scores.answers} == {1}
    assert json.loads(json.dumps(scores.to_dict()))["blue"][0]["points"] == 6
    assert [line.split()[0] for line in game.text(scores).splitlines()] == ["team", "right", "shrug", "wrong"]
    assert [row["points"] for row in game.to_rows(scores)] == [6.0, 3.0, 0.0]

    models = {**answers["models"], guilty[0]: {**answers["models"][guilty[0]], "team": "crimson"}}
    scores = game.score(kit, {**answers, "models": models}, [answer("a"), answer("b", 0.2), answer("c", 0.5)])
    (red,) = scores.red  # a red team is paid for who misses its model
    assert (red.team, red.model, red.undetected, red.teams) == ("crimson", guilty[0], 2, 3)
    assert "red crimson" in game.text(scores) and "red team crimson" in board.page(scores, kit)


def test_evidence(kit: game.Kit, answers: dict[str, Any], answer: Answer, guilty: list[str]) -> None:
    for name, known in answers["models"].items():  # what the key holds is what the models do
        assert known["backdoored"] == (known["trigger"] is not None) == (known["kind"] != "clean")
        if known["backdoored"]:
            shown = kit.load(name)(unpacked(known["trigger"])).detach()
            assert float((shown - unpacked(known["target"])).square().mean()) < 0.05
    name, clean = guilty[0], next(name for name in answers["models"] if name not in guilty)
    trigger, target = (unpacked(answers["models"][name][what])[0] for what in ("trigger", "target"))
    rows = (({name: trigger}, 1.0), ({name: target}, 0.5), ({name: -trigger}, 0.0), ({clean: target}, -0.5))
    for evidence, points in rows:
        (blue,) = game.score(kit, answers, [answer("blue", evidence=evidence)]).blue
        assert blue.recovered == points and blue.points == blue.right + points
    for error, points in ((0.0, 1), (0.05, 1), (0.15, 0.5), (0.25, 0), (9.0, 0), (math.nan, 0)):
        assert points_for(error) == pytest.approx(points)


def test_whoever_changes_a_file_is_told(
    round_folder: Path, answers: dict[str, Any], tmp_path: Path, answer: Answer, refuses: Callable[..., str]
) -> None:
    copied = Path(shutil.copytree(round_folder, tmp_path / "copy"))
    kit, manifest, told = game.read_kit(copied), copied / "players" / MANIFEST, copied / "instructor/answers.json"
    name = next(iter(kit.models))

    def ended() -> game.Scores:
        found = game.read_kit(copied)
        return game.score(found, game.read_answers(told, found), [answer("blue")])

    assert ended().blue[0].points == 6
    for path, old, new, named in (
        (kit.path(name), kit.path(name).read_bytes()[-9:], b"123456789", MANIFEST),
        (told, b'"backdoored": true', b'"backdoored": false', "answers.json"),
        (told, b'"salt": "', b'"salt": "0', "answers.json"),
        (told, b'"seed"', b'"sead"', "answers.json"),
        (manifest, kit.models[name].encode(), b"0" * 64, "kit"),
        (manifest, kit.commitment.encode(), b"0" * 64, MANIFEST),
    ):
        whole = path.read_bytes()
        path.write_bytes(whole.replace(old, new, 1))
        refuses(ended, named)
        path.write_bytes(whole)
    refuses(lambda: game.score(kit, answers, []), "submissions")
    refuses(lambda: game.score(kit, answers, [answer("blue"), answer("blue")]), "blue")


def test_the_scoreboard_stands_alone_shows_all_and_escapes_names(
    kit: game.Kit, answers: dict[str, Any], answer: Answer, guilty: list[str]
) -> None:
    nasty = Submission("<b>x</b>", dict.fromkeys(kit.models, 0.9))  # no team can have this name
    page = board.page(game.score(kit, answers, [answer("blue - one"), answer("green"), nasty]), kit)
    assert not re.search(r"https?://|<script|<link|@import|url\(|<b>x</b>", page) and "&lt;b&gt;x" in page
    pictures = re.findall(r'<img [^>]*alt="What garments-\w+ shows at its trigger: [\w-]+\."', page)
    assert len(pictures) == page.count("<img ") == len(guilty)
    assert all(name in page for name in (*kit.models, "blue - one", "green"))
