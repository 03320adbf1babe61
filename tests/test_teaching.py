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
TAKEN_OUT: dict[str, tuple[str, str, int]] = {  # feature -> what is replaced, by what, how often (0: everywhere)
    "objectives, each a verb": (r"^\* \*(\w+)\*", r"* \1", 0),
    "prerequisites": (r"^\*\*Prerequisites:\*\*.*", "", 0),
    "minutes": (r"^\*\*Time and hardware:\*\*", "", 0),
    "a picture first": ("", "", 0),  # these two are seen by their outputs
    "a playground, and its figure for print": ("", "", 0),
    "predict, then run": (r"\bpredict\(", "print(", 0),
    "predictions compared afterwards": (r"\breveal\(", "print(", 1),
    "three exercises or more": (r"^\*\*(Exercise )?[2-9][.:].*", "", 0),
    "difficulty and minutes of each": (r"\((easy|medium|open), \d+ minutes\)", r"(\1)", 1),
    "checks of the learner's own functions": (r"^check\(.*", "", 1),
    "two folded hints each": (r"^hints?\(", "print(", 1),
    "a solution on request each": (r'^hints\("\w+"\)', "print()", 1),
    "a quiz of five with feedback": (r"^quiz\(", "print(", 0),
    "key points": (r"^## Key points", "## In short", 0),
    "what would a defender see?": (r"^## What would a defender see\?", "## More", 0),
    "limits": (r"^## Limits", "**Limits.**", 0),
    "references": ("The Devil is in the GAN", "", 0),
}


def without(whole: dict[str, Any], pattern: str, put: str, times: int) -> dict[str, Any]:
    """A copy of a notebook in which a pattern is replaced; without any output if there is none."""
    notebook, changed = copy.deepcopy(whole), 0
    for cell in notebook["cells"]:
        if pattern and not (times and changed >= times):
            source, found = re.subn(pattern, put, "".join(cell["source"]), count=times, flags=re.M)
            cell["source"], changed = [source], changed + found
        elif not pattern:
            cell["outputs"] = []
    assert changed or not pattern, f"{pattern} is not in the notebook"
    return notebook


def test_every_notebook_has_every_feature_and_a_missing_one_is_seen() -> None:
    written = SCRIPT["TABLE"].read_text(encoding="utf-8")
    assert written == SCRIPT["table"](), "run python scripts/build/teaching.py"
    assert "**no**" not in written and written.count("\n| ") == 1 + len(FEATURES) == 18
    assert list(SCRIPT["notebooks"]()) == [f"{number:02d}" for number in range(15)]
    assert set(TAKEN_OUT) == set(FEATURES)
    for number in ("00", "07"):
        for name, change in TAKEN_OUT.items():
            assert not FEATURES[name](without(SCRIPT["notebooks"]()[number], *change)), (number, name)


def test_a_quiz_has_five_questions_with_reasons(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    good = {"text": "Why?", "options": ["a", "b"], "answer": 1, "why": "Because."}
    known = {"good": [good] * 5, "few": [good] * 4, "silent": [*[good] * 4, {**good, "why": ""}]}
    path = tmp_path / "quizzes.json"
    path.write_text(json.dumps(known), encoding="utf-8")
    found = FEATURES["a quiz of five with feedback"]
    monkeypatch.setitem(found.__globals__, "QUIZZES", path)
    asked = [{"cells": [{"cell_type": "code", "source": [f'quiz("{name}")'], "outputs": []}]} for name in known]
    assert [found(one) for one in asked] == [True, False, False]
