"""All exercises: the stub fails, the notebook's solution passes, every usual mistake has its own sentence; the quiz."""

import re
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from devilgan_lite.apps.course import EXERCISES, NotYet, check, hint, hints, slerp, solution
from devilgan_lite.apps.course.lesson import predict, quiz, reveal
from devilgan_lite.apps.course.lesson.editions import function_in, solutions, stubs
from devilgan_lite.apps.course.lesson.reading import notebook_paths
from devilgan_lite.generators import evaluate

ANSWERS = runpy.run_path(str(Path(__file__).with_name("answers.py")))
NAMES = {"torch": torch, "slerp": slerp, "evaluate": evaluate}  # that a notebook's solutions take from other cells


@cache
def taught() -> dict[str, tuple[str, str, str]]:
    """Exercise -> the name of the learner's function in the notebook, its stub, and the folded solution."""
    documents = [nbformat.read(path, as_version=4) for path in notebook_paths().values()]
    return {
        exercise: (name, stub, solutions(one)[name])
        for one in documents
        for name, (exercise, stub) in stubs(one).items()
    }


def sentences(exercise: str) -> list[str]:
    """What is said to each wrong answer."""
    wrong, said, last = ANSWERS["WRONG"][exercise], list[str](), False

    def learner(*given: Any) -> Any:
        nonlocal last
        answers = wrong if isinstance(wrong, list) else wrong(*given)
        chosen, last = answers[len(said)], len(said) + 1 == len(answers)
        return chosen(*given) if callable(chosen) else chosen

    while not last:
        last = True
        with pytest.raises(NotYet) as reason:
            EXERCISES[exercise](learner)
        said.append(str(reason.value))
    return said


def test_every_exercise_is_taught_and_has_wrong_answers() -> None:
    assert set(EXERCISES) == set(taught()) == set(ANSWERS["WRONG"])


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_and_wrong_answers(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, stub, solved = taught()[exercise]
    assert not check(exercise, function_in(stub, name, NAMES)) and not check(exercise, lambda *given: None)
    stands, nothing = capsys.readouterr().out.splitlines()
    assert "The stub is still there" in stands and "returns None" in nothing
    right = {"plant_pairs": ANSWERS["planted"]}  # in the notebook it trains for a minute
    assert check(exercise, right.get(exercise) or function_in(solved, name, NAMES))
    assert len(capsys.readouterr().out.splitlines()) == 1
    said = sentences(exercise)
    assert len(said) >= 3 and len(set(said)) == len(said), said
    assert all(sentence.strip() and "\n" not in sentence for sentence in said)


def test_checks_of_the_call_itself(capsys: pytest.CaptureFixture[str], refuses: Callable[..., str]) -> None:
    assert not check("block_diagonal", lambda w, v: torch.block_diag(w.add_(1), v))
    assert "changes its inputs" in capsys.readouterr().out
    assert not check("tardis", lambda a, y: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().out
    refuses(lambda: check("slurp", slerp), "slurp", "'slerp'")
    refuses(lambda: check("slerp", None), "learner=None")  # type: ignore[arg-type]


def test_predictions_are_compared_and_quizzes_count(capsys: pytest.CaptureFixture[str], refuses: Any) -> None:
    prediction = predict("Which way does the loss go?", ["up", "down"], key="loss")
    assert reveal("loss", "down").passed is None
    prediction.radio.value = "B"
    assert reveal("loss", "down", "It is minimised.") and reveal("loss", 0).passed is False
    assert "You said B. Right, it is B, down. It is minimised." in capsys.readouterr().out
    made = quiz([("Safe?", ["yes", "no"], 1, "It is < 1."), ("Where?", ["here", "there"], 0, "Here.")])
    for answer, score, words in (("A", 0, "Not this one"), ("B", 1, "It is &lt; 1.")):
        made.radios[0].value = answer
        assert made.score == score and words in made.feedback[0].value
    page = made.static().data
    assert page.count("<details>") == 2 and "<summary>Answer</summary>B. It is &lt; 1." in page
    options = re.findall("<li>(.*?)</li>", page)  # the letters are text, or JupyterLab shows 1, 2, 3
    assert options == ["A. yes", "B. no", "A. here", "B. there"] and "<ol" not in page
    assert len(quiz("03").questions) == 5
    for call, name in (
        (lambda: reveal("lost", 0), "lost"),
        (lambda: reveal("loss", 2), "answer"),
        (lambda: quiz("33"), "questions='33'"),
    ):
        refuses(call, name)


def test_help_is_folded() -> None:
    assert "<summary>Hint 2</summary>" in hint("a < b", 2).data and "a &lt; b" in hint("a < b").data
    assert "<pre><code>x &lt; 1</code></pre>" in solution("x < 1\n").data
    shown = hints("think <hard>", "think again", solution="x = 1").data
    assert shown.count("<details>") == 3 and "&lt;hard&gt;" in shown and shown.index("Hint 2") < shown.index("Solution")
