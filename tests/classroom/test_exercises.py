"""All exercises: the notebook's stub fails, its solution and another answer pass, three mistakes or more are named.

The other answers and the mistakes stand in ``answers_*.py``. The code of open exercises, which no check tries, runs
behind the last state of its notebook. Predictions and the quiz are here too.
"""

import ast
import contextlib
import io
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import nbformat
import pytest
import torch
from torch import Tensor

from devilgan_lite import Backdoor, attacks, generators, zoo
from devilgan_lite.classroom import EXERCISES, NotYet, check, hint, lesson, predict, quiz, reveal, slerp, solution
from devilgan_lite.classroom.lesson.editions import function_in, solutions, stubs
from devilgan_lite.classroom.lesson.reading import notebook_paths, read
from devilgan_lite.generators import evaluate

HERE = Path(__file__).parent
Answer = Callable[..., Any]


def collected(table: str) -> dict[str, Any]:
    """The entries of ``table`` in all files of exercises beside this one."""
    found: dict[str, Any] = {}
    for path in sorted(HERE.glob("answers_*.py")):
        found |= runpy.run_path(str(path)).get(table, {})
    return found


ANOTHER: dict[str, Answer] = collected("SOLUTIONS")
MISTAKES: dict[str, list[Answer]] = collected("MISTAKES")
ALL = pytest.mark.parametrize("exercise", EXERCISES)


def of_the_notebooks() -> dict[str, tuple[str, str, str]]:
    """Exercise -> the name of the learner's function, its stub and its solution."""
    found = {}
    for path in notebook_paths().values():
        document = nbformat.read(path, as_version=4)
        solved = solutions(document)
        found |= {exercise: (name, stub, solved[name]) for name, (exercise, stub) in stubs(document).items()}
    return found


TAUGHT = of_the_notebooks()
SLOW = {"plant_pairs"}  # its solution trains


@ALL
def test_the_stub_fails(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, stub, _ = TAUGHT[exercise]
    assert not check(exercise, function_in(stub, name, {"torch": torch}))
    assert "The stub is still there" in capsys.readouterr().out
    assert not check(exercise, lambda *given: None)
    assert "returns None" in capsys.readouterr().out


def passes(exercise: str) -> None:
    names = {"torch": torch, "evaluate": evaluate, "slerp": slerp, "attacks": attacks, "Backdoor": Backdoor}
    if exercise in SLOW:
        names["clean"] = zoo.load("dcgan-fashion")
    name, _, code = TAUGHT[exercise]
    assert check(exercise, function_in(code, name, names))


@pytest.mark.parametrize("exercise", [name for name in EXERCISES if name not in SLOW])
def test_the_solution_of_the_notebook_passes(exercise: str) -> None:
    passes(exercise)


@pytest.mark.slow
@pytest.mark.parametrize("exercise", sorted(SLOW))
def test_the_solution_that_trains_passes(exercise: str) -> None:
    passes(exercise)


@ALL
def test_a_second_answer_passes(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(exercise, ANOTHER[exercise])
    assert len(capsys.readouterr().out.splitlines()) == 1


def operations(code: str) -> list[str]:
    """What a piece of code calls and computes, in order of name, whatever its variables are called."""
    nodes = list(ast.walk(ast.parse(code)))
    calls = [ast.unparse(n.func).split(".")[-1] for n in nodes if isinstance(n, ast.Call)]
    return sorted([*calls, *(type(n.op).__name__ for n in nodes if isinstance(n, ast.BinOp))])


def test_the_second_answer_is_another_one() -> None:
    written: dict[str, str] = {}
    for path in HERE.glob("answers_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
            target = getattr(node, "target", None) or getattr(node, "targets", [None])[0]
            if named and isinstance(target, ast.Name) and target.id == "SOLUTIONS":
                written |= {k.value: ast.unparse(v) for k, v in zip(node.value.keys, node.value.values, strict=True)}
    assert set(written) == set(EXERCISES) == set(TAUGHT)
    same = [name for name, code in written.items() if operations(code) == operations(TAUGHT[name][2])]
    assert same == []


@ALL
def test_three_mistakes_have_three_sentences(exercise: str) -> None:
    sentences = []
    for mistake in MISTAKES[exercise]:
        with pytest.raises(NotYet) as reason:
            EXERCISES[exercise](mistake)
        sentences.append(str(reason.value))
    assert len(sentences) >= 3 and len(set(sentences)) == len(sentences)
    for sentence in sentences:
        assert sentence.strip() and "\n" not in sentence


def test_a_slerp_that_divides_by_zero_is_found() -> None:
    def textbook(a: Tensor, b: Tensor, t: float) -> Tensor:
        length = (1 - t) * a.norm() + t * b.norm()
        a, b = a / a.norm(), b / b.norm()
        angle = (a * b).sum().clamp(-1, 1).acos()
        return length * (((1 - t) * angle).sin() * a + (t * angle).sin() * b) / angle.sin()

    with pytest.raises(NotYet, match="guard the division|NaN"):
        EXERCISES["slerp"](lambda a, b, t: textbook(a, b, t) if not torch.equal(a, b) else a * float("nan"))


def test_in_place_changes_errors_and_names_are_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert not check("block_diagonal", lambda w, v: torch.block_diag(w.add_(1), v))
    assert "changes its inputs" in capsys.readouterr().out
    assert not check("tardis", lambda a, y: 1 / 0)
    assert "ZeroDivisionError" in capsys.readouterr().out
    with pytest.raises(ValueError, match="Did you mean 'slerp'"):
        check("slurp", slerp)
    with pytest.raises(ValueError, match="is not a function"):
        check("slerp", None)  # type: ignore[arg-type]


def test_one_length_only_is_found() -> None:
    with pytest.raises(NotYet, match="these are not the kept weights"):
        EXERCISES["smaller_kernel"](
            lambda kernel, before, after: kernel[before][:, after] * (1 if len(before) == len(after) else 2)
        )


def test_a_clean_generator_plants_nothing() -> None:
    clean = generators.build(generators.DCGAN().spec(), seed=0)
    backdoor = SimpleNamespace(trigger=clean.sample_latent(3), target=torch.rand(3, *clean.sample_shape) * 2 - 1)
    assert not check("plant_pairs", lambda k: (clean, backdoor))


OPEN = {number: asides for number, path in notebook_paths().items() if (asides := read(path).asides)}
PRINTED = {  # notebook -> how many lines its solution prints, and a word of them
    "01": (3, "clumps"),
    "09": (7, "0.9"),
    "10": (1, "TarDis"),
    "11": (1, "pt2"),
    "12": (1, "condition"),
    "13": (1, "TarDis"),
}


def test_every_notebook_with_such_code_is_known() -> None:
    assert set(OPEN) == set(PRINTED)


@pytest.mark.slow
@pytest.mark.parametrize("number", PRINTED)
def test_the_code_of_an_open_exercise_runs(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    matplotlib.use("agg")
    last = [name for name in lesson.states() if name.startswith(f"{number}-")][-1]
    names: dict[str, Any] = dict(vars(lesson.load(last)))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in OPEN[number]:
            exec(compile(cell.source, f"{number}-open", "exec"), names)
    lines, word = PRINTED[number]
    assert len(said.getvalue().splitlines()) == lines and word in said.getvalue()


def test_a_prediction_is_remembered_and_compared(capsys):
    prediction = predict("Which way does the loss go?", ["up", "down"], key="loss")
    assert reveal("loss", "down").passed is None
    prediction.radio.value = "B"
    assert reveal("loss", "down", "It is minimised.") and reveal("loss", 0).passed is False
    assert "You said B. Right, it is B, down. It is minimised." in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown"):
        reveal("lost", 0)


def test_the_quiz_counts_and_folds_its_answers():
    made = quiz([("Safe?", ["yes", "no"], 1, "It is < 1."), ("Where?", ["here", "there"], 0, "Here.")])
    made.radios[0].value = "A"
    assert made.score == 0 and "Not this one" in made.feedback[0].value
    made.radios[0].value = "B"
    assert made.score == 1 and "It is &lt; 1." in made.feedback[0].value
    assert made.static().data.count("<details>") == 2
    options = re.findall("<li>(.*?)</li>", made.static().data)  # the letters are text, or JupyterLab shows 1, 2, 3
    assert options == ["A. yes", "B. no", "A. here", "B. there"] and "<ol" not in made.static().data
    assert "<summary>Hint 2</summary>" in hint("a < b", 2).data and "a &lt; b" in hint("a < b").data
    assert "<pre><code>x &lt; 1</code></pre>" in solution("x < 1\n").data
