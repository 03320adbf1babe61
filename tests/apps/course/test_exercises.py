"""All exercises: the stub fails, the notebook's solution passes, every usual mistake has its own sentence; the quiz."""

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import nbformat
import pytest
import torch

from devilgan_lite.apps.course import EXERCISES, NotYet, check, hint, hints, slerp, solution
from devilgan_lite.apps.course.lesson import predict, quiz, reveal
from devilgan_lite.apps.course.lesson.editions import function_in, solutions, stubs
from devilgan_lite.apps.course.lesson.reading import notebook_paths
from devilgan_lite.generators import evaluate

NAMES = {"torch": torch, "slerp": slerp, "evaluate": evaluate}  # that a notebook's solutions take from other cells


@cache
def taught() -> dict[str, tuple[str, str]]:
    """Exercise -> the name of the learner's function in the notebook, and its stub."""
    documents = [nbformat.read(path, as_version=4) for path in notebook_paths().values()]
    return {exercise: (name, stub) for one in documents for name, (exercise, stub) in stubs(one).items()}


def test_every_exercise_is_taught_and_every_stub_has_its_solution() -> None:
    assert set(EXERCISES) == set(taught())
    for path in notebook_paths().values():
        document = nbformat.read(path, as_version=4)
        for name, (exercise, _) in stubs(document).items():
            assert solutions(document)[name] == EXERCISES[exercise].code, f"{path.name}: {name}"


def off(right: Any) -> Callable[..., Any]:
    """A function that is wrong in its own way: training steps run twice, truths are turned, numbers are moved."""

    def wrong(*given: Any) -> Any:
        answer = right(*given)
        if isinstance(answer, bool):
            return not answer
        if isinstance(answer, dict):
            return right(*given)
        moved = torch.as_tensor(answer)
        return ~moved if moved.dtype == torch.bool else 1.7 * moved + 0.3

    return wrong


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_and_wrong_answers(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    judge, (name, stub) = EXERCISES[exercise], taught()[exercise]
    assert not check(exercise, function_in(stub, name, NAMES)) and not check(exercise, lambda *given: None)
    stands, nothing = capsys.readouterr().out.splitlines()
    assert "The stub is still there" in stands and "returns None" in nothing
    right = judge.quick or function_in(judge.code, name, NAMES)
    assert check(exercise, right)
    assert len(capsys.readouterr().out.splitlines()) == 1
    assert len(judge.mistakes) >= 3 and len(judge.hints) >= 2
    for sentence, wrong in judge.mistakes.items():
        with pytest.raises(NotYet) as reason:
            judge(wrong)
        assert str(reason.value) == sentence.strip() and "\n" not in sentence
    if not judge.quick:
        with pytest.raises(NotYet, match=r"^[^\n]+$"):
            judge(off(right))


def test_checks_of_the_call_itself(capsys: pytest.CaptureFixture[str], refuses: Callable[..., str]) -> None:
    for exercise, wrong, words in (
        ("block_diagonal", lambda w, v: torch.block_diag(w.add_(1), v), "changes its inputs"),
        ("slice_recall", lambda scores, *rest: scores.sort(), "returns None"),
        ("slice_recall", lambda scores, *rest: scores.sort() or 1, "changes its inputs"),
        ("tardis", lambda a, y: 1 / 0, "ZeroDivisionError"),
        ("tardis", lambda a, y: a - y, "returns a tensor of shape [1, 1, 4, 4]; it must return a single number"),
        ("block_diagonal", lambda w, v: [w, v], "returns a list; it must return a tensor"),
        ("blind_spread", lambda m, n: "wide", "returns a str; it must return one number"),
        ("blind_spread", lambda m, n: float("nan"), "not finite"),
        ("may_enter", lambda report, accept: len(accept), "returns a int; it must return True or False"),
    ):
        assert not check(exercise, wrong) and words in capsys.readouterr().out
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
