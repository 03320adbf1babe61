"""The commands of the game: a round from its first file to its scoreboard."""

import json
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.apps import game


def test_a_round_of_the_challenge_from_end_to_end(call: Any, fails: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(game, "KINDS", ("gate",))  # which takes no training
    made = call("challenge", "new", "--models", 4, "--seed", 2, "--out", "round", "--quick", "--jobs", 1)
    assert made.exit_code == 0 and "4 of 4 models" in made.stderr, made.output
    assert {path.name for path in Path("round").iterdir()} == {"players", "instructor"}
    kit = json.loads(Path("round/players/challenge.json").read_text())
    Path("v.csv").write_text("model,probability\n" + "".join(f"{name},0.5\n" for name in kit["models"]))
    submit = ("challenge", "submit", "round/players", "--team", "blue", "--verdicts", "v.csv")
    submitted = call(*submit, "--out", "in")
    assert submitted.exit_code == 0, submitted.output
    assert submitted.stdout.splitlines() == ["4 verdicts, 0 pieces of evidence", str(Path("in/blue.csv"))]
    score = ("challenge", "score", "round/players", "--submissions", "in")
    kept = ("--answers", "round/instructor/answers.json")
    scored = call(*score, *kept, "--html", "board.html", "--json")
    assert scored.exit_code == 0 and json.loads(scored.stdout)["blue"][0]["auc"] == 0.5, scored.output
    assert "Scoreboard" in Path("board.html").read_text() and scored.stderr.splitlines()[-1] == "board.html"
    assert "seed: 2" in made.stdout and call(*score, "--seed", 2, "--json").stdout == scored.stdout
    fails(*score, names=["--answers", "--seed"])
    fails(*score, "--seed", 3, names=["seed=3"])
    Path("v.csv").write_text("".join(f"{name},1.5\n" for name in kit["models"]))
    fails(*submit, names=["1.5", "0.0, 1.0"])
    new = ("challenge", "new", "--models", 4, "--quick")
    fails(*new, "--out", "round", names=["round", "empty"])
