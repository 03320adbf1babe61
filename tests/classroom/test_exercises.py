"""All exercises: the stub fails, a second right answer passes, every usual mistake has its own sentence; the quiz.

Second answers and mistakes stand in ``answers_*.py``; tests/test_notebooks.py runs the solutions of the notebooks.
"""

import contextlib
import io
import re
import runpy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import nbformat
import pytest
import torch
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.classroom import EXERCISES, NotYet, check, hint, hints, lesson, slerp, solution
from devilgan_lite.classroom.lesson import predict, quiz, reveal
from devilgan_lite.classroom.lesson.editions import function_in, stubs
from devilgan_lite.classroom.lesson.reading import notebook_paths, read

ANSWERS = [runpy.run_path(str(path)) for path in sorted(Path(__file__).parent.glob("answers_*.py"))]
ANOTHER = {name: answer for table in ANSWERS for name, answer in table["SOLUTIONS"].items()}
MISTAKES = {name: wrong for table in ANSWERS for name, wrong in table["MISTAKES"].items()}


@cache
def taught() -> dict[str, tuple[str, str]]:
    """Exercise -> the name of the learner's function, and its stub in the notebook."""
    documents = [nbformat.read(path, as_version=4) for path in notebook_paths().values()]
    return {exercise: (name, stub) for one in documents for name, (exercise, stub) in stubs(one).items()}


def test_every_exercise_is_taught_and_answered() -> None:
    assert set(EXERCISES) == set(taught()) == set(ANOTHER) == set(MISTAKES)


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right_and_wrong_answers(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, stub = taught()[exercise]
    assert not check(exercise, function_in(stub, name, {"torch": torch}))
    assert not check(exercise, lambda *given: None)
    stands, nothing = capsys.readouterr().out.splitlines()
    assert "The stub is still there" in stands and "returns None" in nothing
    assert check(exercise, ANOTHER[exercise])
    assert len(capsys.readouterr().out.splitlines()) == 1
    sentences = []
    for mistake in MISTAKES[exercise]:
        with pytest.raises(NotYet) as reason:
            EXERCISES[exercise](mistake)
        sentences.append(str(reason.value))
    assert len(sentences) >= 3 and len(set(sentences)) == len(sentences)
    assert all(sentence.strip() and "\n" not in sentence for sentence in sentences)


def test_rare_mistakes_and_wrong_calls(capsys: pytest.CaptureFixture[str], refuses: Callable[..., str]) -> None:
    def textbook(a: Tensor, b: Tensor, t: float) -> Tensor:  # divides by zero for equal vectors
        length = (1 - t) * a.norm() + t * b.norm()
        a, b = a / a.norm(), b / b.norm()
        angle = (a * b).sum().clamp(-1, 1).acos()
        return length * (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()

    with pytest.raises(NotYet, match="guard the division|NaN"):
        EXERCISES["slerp"](lambda a, b, t: textbook(a, b, t) if not torch.equal(a, b) else a * float("nan"))
    with pytest.raises(NotYet, match="kept weights"):  # right for one length only
        EXERCISES["smaller_kernel"](
            lambda kernel, before, after: kernel[before][:, after] * (1 if len(before) == len(after) else 2)
        )
    clean = generators.build(generators.DCGAN().spec(), seed=0)
    backdoor = SimpleNamespace(trigger=clean.sample_latent(3), target=torch.rand(3, *clean.sample_shape) * 2 - 1)
    assert not check("plant_pairs", lambda k: (clean, backdoor))
    assert not check("block_diagonal", lambda w, v: torch.block_diag(w.add_(1), v))
    assert "changes its inputs" in capsys.readouterr().out
    assert not check("tardis", lambda a, y: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().out
    refuses(lambda: check("slurp", slerp), "slurp", "'slerp'")
    refuses(lambda: check("slerp", None), "learner=None")  # type: ignore[arg-type]


PRINTED = {  # notebook -> how many lines the code in its text prints for an open exercise, and a word of them
    "01": (3, "clumps"),
    "09": (7, "0.9"),
    "10": (1, "TarDis"),
    "11": (1, "pt2"),
    "12": (1, "condition"),
    "13": (1, "TarDis"),
}


LONG = ("10", "11")  # they make a round, or a cure in the jail


@pytest.mark.parametrize("number", [pytest.param(n, marks=[pytest.mark.nightly] * (n in LONG)) for n in PRINTED])
def test_the_code_of_an_open_exercise_runs(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {one for one, path in notebook_paths().items() if read(path).asides} == set(PRINTED)
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    matplotlib.use("agg")
    last = [name for name in lesson.states() if name.startswith(f"{number}-")][-1]
    names: dict[str, Any] = dict(vars(lesson.load(last)))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in read(notebook_paths()[number]).asides:
            exec(compile(cell.source, f"{number}-open", "exec"), names)
    lines, word = PRINTED[number]
    assert len(said.getvalue().splitlines()) == lines and word in said.getvalue()


def test_a_prediction_is_remembered_and_compared(capsys: pytest.CaptureFixture[str], refuses: Any) -> None:
    prediction = predict("Which way does the loss go?", ["up", "down"], key="loss")
    assert reveal("loss", "down").passed is None
    prediction.radio.value = "B"
    assert reveal("loss", "down", "It is minimised.") and reveal("loss", 0).passed is False
    assert "You said B. Right, it is B, down. It is minimised." in capsys.readouterr().out
    refuses(lambda: reveal("lost", 0), "lost", "loss")
    refuses(lambda: reveal("loss", 2), "answer")


def test_the_quiz_counts_and_help_is_folded(refuses: Callable[..., str]) -> None:
    made = quiz([("Safe?", ["yes", "no"], 1, "It is < 1."), ("Where?", ["here", "there"], 0, "Here.")])
    made.radios[0].value = "A"
    assert made.score == 0 and "Not this one" in made.feedback[0].value
    made.radios[0].value = "B"
    assert made.score == 1 and "It is &lt; 1." in made.feedback[0].value
    assert made.static().data.count("<details>") == 2
    options = re.findall("<li>(.*?)</li>", made.static().data)  # the letters are text, or JupyterLab shows 1, 2, 3
    assert options == ["A. yes", "B. no", "A. here", "B. there"] and "<ol" not in made.static().data
    assert len(quiz("03").questions) == 5
    refuses(lambda: quiz("33"), "questions='33'")
    assert "<summary>Hint 2</summary>" in hint("a < b", 2).data and "a &lt; b" in hint("a < b").data
    assert "<pre><code>x &lt; 1</code></pre>" in solution("x < 1\n").data
    shown = hints("think <hard>", "think again", solution="x = 1").data
    assert shown.count("<details>") == 3 and "&lt;hard&gt;" in shown and shown.index("Hint 2") < shown.index("Solution")
