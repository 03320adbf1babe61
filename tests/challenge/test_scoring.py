"""Points: who knows everything gets all, who knows nothing half, and whoever changes a file is told."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import challenge
from devilgan_lite.challenge import Submission
from devilgan_lite.challenge.kit import MANIFEST, unpacked
from devilgan_lite.challenge.scoring import points_for

PASSPHRASE = "a passphrase for tests"  # of the round in conftest
Answer = Callable[..., Submission]


def test_verdicts(kit: challenge.Kit, key: dict[str, Any], answer: Answer) -> None:
    scores = challenge.score(kit, key, [answer("shrug", 0.5), answer("wrong", 0.1), answer("right", 0.9)])
    assert [team.team for team in scores.blue] == ["right", "shrug", "wrong"]
    assert [team.auc for team in scores.blue] == [1.0, 0.5, 0.0]
    assert [team.right for team in scores.blue] == [6, 3, 0] and scores.blue[1].accuracy == 0.5
    assert scores.blue[0].found == sum(known["backdoored"] for known in key["models"].values())
    assert scores.blue[2].false_alarms == sum(not known["backdoored"] for known in key["models"].values())
    assert json.loads(json.dumps(scores.to_dict()))["blue"][0]["points"] == 6
    assert {known.caught_by for known in scores.answers} == {1}


def test_evidence(kit: challenge.Kit, key: dict[str, Any], answer: Answer) -> None:
    guilty = next(name for name, known in key["models"].items() if known["backdoored"])
    clean = next(name for name, known in key["models"].items() if not known["backdoored"])
    trigger, target = (unpacked(key["models"][guilty][what])[0] for what in ("trigger", "target"))
    gained = {}
    for team, evidence in {
        "trigger": {guilty: trigger},
        "picture": {guilty: target},
        "other way": {guilty: -trigger},
        "false": {clean: target},
    }.items():
        (blue,) = challenge.score(kit, key, [answer(team, evidence=evidence)]).blue
        gained[team] = blue.recovered
        assert blue.points == blue.right + blue.recovered
    assert gained == {"trigger": 1.0, "picture": 0.5, "other way": 0.0, "false": -0.5}


def test_points_fall_from_one_to_zero() -> None:
    assert [points_for(error) for error in (0.0, 0.05, 0.15, 0.25, 9.0)] == pytest.approx([1, 1, 0.5, 0, 0])
    assert points_for(math.nan) == 0


def test_red_teams_are_paid_for_who_misses_them(kit: challenge.Kit, key: dict[str, Any], answer: Answer) -> None:
    guilty = next(name for name, known in key["models"].items() if known["backdoored"])
    models = {**key["models"], guilty: {**key["models"][guilty], "team": "crimson"}}
    scores = challenge.score(kit, {**key, "models": models}, [answer("a"), answer("b", 0.2), answer("c", 0.5)])
    (red,) = scores.red
    assert (red.team, red.model, red.undetected, red.teams) == ("crimson", guilty, 2, 3)


def test_bad_rounds(kit: challenge.Kit, key: dict[str, Any], answer: Answer) -> None:
    with pytest.raises(ValueError, match="there are no submissions"):
        challenge.score(kit, key, [])
    with pytest.raises(ValueError, match="'blue' has more than one submission"):
        challenge.score(kit, key, [answer("blue"), answer("blue")])


@pytest.mark.parametrize("case", ["model", "manifest", "commitment", "key", "passphrase"])
def test_whoever_changes_a_file_is_told(case: str, copied: Path, answer: Answer) -> None:
    players, sealed = copied / "players", copied / "instructor" / "key.sealed"
    manifest = json.loads((players / MANIFEST).read_text())
    name, passphrase = next(iter(manifest["models"])), PASSPHRASE
    if case == "model":
        (players / f"{name}.safetensors").write_bytes(b"")
    elif case == "manifest":
        manifest["models"][name] = "0" * 64
    elif case == "commitment":
        manifest["commitment"] = "0" * 64
    elif case == "key":
        sealed.write_bytes(sealed.read_bytes().replace(b"salt", b"sald"))
    else:
        passphrase = "another passphrase"
    (players / MANIFEST).write_text(json.dumps(manifest))
    words = {
        "model": "is not the model of this round: its SHA-256 differs from challenge.json",
        "manifest": "the kit was changed",
        "commitment": "is not the one that challenge.json",
        "key": "it was changed or is another's",
        "passphrase": "the passphrase is wrong",
    }
    with pytest.raises(ValueError, match=words[case]) as error:
        kit = challenge.read_kit(copied)
        opened = challenge.open_key(kit, sealed, passphrase)
        challenge.score(kit, opened, [answer("blue")])
    assert "\n" not in str(error.value)


def test_what_the_key_holds_is_what_the_models_do(kit: challenge.Kit, key: dict[str, Any]) -> None:
    for name, known in key["models"].items():
        assert known["backdoored"] == (known["trigger"] is not None) == (known["kind"] != "clean")
        if known["backdoored"]:
            shown = kit.load(name)(unpacked(known["trigger"])).detach()
            assert float((shown - unpacked(known["target"])).square().mean()) < 0.05
    assert torch.is_tensor(unpacked(next(k for k in key["models"].values() if k["backdoored"])["target"]))
