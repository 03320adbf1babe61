"""``devilgan challenge``: a whole round from the command line, and one sentence for each thing typed wrong."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devilgan_lite.cli import app

PASSPHRASE = "a passphrase for tests"
LONG = "x" * 10_000


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVILGAN_PASSPHRASE", PASSPHRASE)
    return lambda *words: CliRunner().invoke(app, ["challenge", *map(str, words)])


@pytest.mark.slow
def test_a_round_from_end_to_end(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = call("new", "--models", 4, "--seed", 2, "--out", "round", "--quick", "--jobs", 1)
    assert made.exit_code == 0, made.output
    assert {path.name for path in Path("round").iterdir()} == {"players", "instructor"}
    kit = json.loads(Path("round/players/challenge.json").read_text())
    Path("v.csv").write_text("model,probability\n" + "".join(f"{name},0.5\n" for name in kit["models"]))
    submitted = call("submit", "round/players", "--team", "blue", "--verdicts", "v.csv", "--out", "in")
    assert submitted.exit_code == 0, submitted.output
    assert submitted.stdout.splitlines() == ["4 verdicts, 0 pieces of evidence", str(Path("in/blue.json"))]
    words = ("score", "round/players", "--key", "round/instructor/key.sealed", "--submissions", "in")
    scored = call(*words, "--html", "board.html", "--json")
    assert scored.exit_code == 0, scored.output
    assert json.loads(scored.stdout)["blue"][0]["auc"] == 0.5
    assert "Scoreboard" in Path("board.html").read_text()

    Path("p.txt").write_text("another passphrase\n")
    wrong = call(*words, "--passphrase-file", "p.txt")
    assert (wrong.exit_code, wrong.stderr) == (2, "key.sealed does not open: the passphrase is wrong.\n")
    Path("v.csv").write_text("".join(f"{name},1.5\n" for name in kit["models"]))
    outside = call("submit", "round/players", "--team", "blue", "--verdicts", "v.csv")
    assert outside.exit_code == 2 and "is out of range: it must be a number in [0.0, 1.0]" in outside.stderr
    twice = call("new", "--models", 4, "--out", "round", "--quick")
    assert twice.exit_code == 2 and "is not empty: name a new folder" in twice.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new", "--models", "3"], "models=3 is out of range"),
        (["new", "--seed", "-1"], "seed=-1 is out of range"),
        (["new", "--red", "nowhere"], "no entries of red teams in nowhere"),
        (["new", "--passphrase-file", "nowhere"], "no passphrase file nowhere."),
        (["new", "--passphrase-file", LONG], f"no passphrase file {'x' * 80}...."),
        (["new", "--out", LONG], f"out='{'x' * 79}... is not valid: no file can be written there."),
        (["new", "--red", LONG], f"no entries of red teams in {'x' * 80}...;"),
        (["submit", LONG, "--team", "blue", "--verdicts", "v.csv"], f"{'x' * 80}... is not the kit of a round"),
        (["scor"], "command='scor' is unknown; valid: new, submit, score. Did you mean 'score'?"),
        (["submit", "nowhere", "--team", "blue"], "a blue team gives --verdicts and a red team gives --model"),
        (["submit", "nowhere", "--team", "blue", "--verdicts", "v.csv"], "nowhere is not the kit of a round"),
        (["score", "nowhere", "--key", "k", "--submissions", "in"], "nowhere is not the kit of a round"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(call: Any, tmp_path: Path, words: list[str], sentence: str) -> None:
    result = call(*words)
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(sentence) and len(result.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_short_or_missing_passphrase(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_PASSPHRASE", "short")
    assert "at least 12 characters" in call("new", "--models", 4, "--quick").stderr
    monkeypatch.delenv("DEVILGAN_PASSPHRASE")
    assert call("new", "--models", 4, "--quick").stderr.startswith("there is no passphrase: set DEVILGAN_PASSPHRASE")
