"""What makes a notebook a lesson: 17 features, found in every notebook, and missed where they are taken out."""

import copy
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts/build/teaching.py"))
FEATURES: dict[str, Callable[[dict[str, Any]], bool]] = SCRIPT["FEATURES"]


def test_the_page_is_in_step_and_every_notebook_has_every_feature() -> None:
    written = SCRIPT["TABLE"].read_text(encoding="utf-8")
    assert written == SCRIPT["table"](), "run python scripts/build/teaching.py"
    assert "**no**" not in written and written.count("\n| ") == 1 + len(FEATURES) == 18
    assert list(SCRIPT["notebooks"]()) == [f"{number:02d}" for number in range(15)]


def without(pattern: str, with_what: str = "", kind: str = "", times: int = 0) -> Callable[[dict[str, Any]], None]:
    """A change of the source of every cell of ``kind`` (both, if empty); it must change something."""

    def change(notebook: dict[str, Any]) -> None:
        changed = 0
        for cell in notebook["cells"]:
            if (not kind or cell["cell_type"] == kind) and not (times and changed >= times):
                source, found = re.subn(pattern, with_what, "".join(cell["source"]), count=times, flags=re.M)
                changed += found
                cell["source"] = [source]
        assert changed, f"{pattern} is not in the notebook"

    return change


def all_pictures(notebook: dict[str, Any]) -> None:
    for cell in notebook["cells"]:
        cell["outputs"] = []


TAKEN_OUT: dict[str, list[Callable[[dict[str, Any]], None]]] = {
    "objectives, each a verb": [without(r"\*\*Objectives\.\*\*"), without(r"^\* \*(\w+)\*", r"* \1")],
    "prerequisites": [without(r"^\*\*Prerequisites:\*\*.*")],
    "minutes": [without(r"\bminutes?\b", kind="markdown"), without(r"^\*\*Time and hardware:\*\*")],
    "a picture first": [all_pictures],
    "predict, then run": [without(r"\bpredict\(", "print(", kind="code")],
    "predictions compared afterwards": [
        without(r"\breveal\(", "print(", kind="code", times=1),
        without(r"key=\"\w+\"", 'key="another"', kind="code", times=1),
    ],
    "three exercises or more": [without(r"^\*\*(Exercise )?[2-9][.:].*")],
    "difficulty and minutes of each": [
        without(r"\((easy|medium|open), ", "(", times=1),
        without(r"\((easy|medium|open), \d+ minutes\)", r"(\1)", times=1),
    ],
    "checks of the learner's own functions": [without(r"^check\(.*", kind="code", times=1)],
    "two folded hints each": [without(r"^hints?\(", "print(", kind="code", times=1)],
    "a solution on request each": [without(r"^( *)solution([(=])", r"\1print\2", kind="code", times=1)],
    "a quiz of five with feedback": [without(r"^quiz\(", "print(", kind="code")],
    "a playground, and its figure for print": [without(r"^## Playground", "## Round 9"), all_pictures],
    "key points": [without(r"^## Key points", "## In short")],
    "what would a defender see?": [without(r"^## What would a defender see\?", "## More")],
    "limits": [without(r"^## Limits", "**Limits.**")],
    "references": [without(r"^## References"), without("The Devil is in the GAN")],
}


def test_a_missing_feature_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert set(TAKEN_OUT) == set(FEATURES)
    for number in ("00", "03", "07"):
        whole = SCRIPT["notebooks"]()[number]
        for name, changes in TAKEN_OUT.items():
            for take_out in changes:
                notebook = copy.deepcopy(whole)
                take_out(notebook)
                assert not FEATURES[name](notebook), (number, name)
    good = {"text": "Why?", "options": ["a", "b"], "answer": 1, "why": "Because."}  # a quiz has five, with reasons
    known = {"good": [good] * 5, "few": [good] * 4, "silent": [*[good] * 4, {**good, "why": ""}]}
    path = tmp_path / "quizzes.json"
    path.write_text(json.dumps(known), encoding="utf-8")
    found = FEATURES["a quiz of five with feedback"]
    monkeypatch.setitem(found.__globals__, "QUIZZES", path)

    def asks(name: str) -> dict[str, Any]:
        return {"cells": [{"cell_type": "code", "source": [f'quiz("{name}")'], "outputs": []}]}

    assert [found(asks(name)) for name in ("good", "few", "silent", "missing")] == [True, False, False, False]
