"""All exercises, whatever file they are in: the notebook's stub, its solution, another answer, and three mistakes."""

from __future__ import annotations

import ast
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

from devilgan_lite import Backdoor, attacks, zoo
from devilgan_lite.classroom import EXERCISES, NotYet, check, slerp
from devilgan_lite.classroom.lesson.editions import function_in, solutions, stubs
from devilgan_lite.generators import evaluate

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
Answer = Callable[..., Any]


def collected(table: str) -> dict[str, Any]:
    """The entries of ``table`` in all files of exercises beside this one."""
    found: dict[str, Any] = {}
    for path in sorted(HERE.glob("test_exercises*.py")):
        found |= runpy.run_path(str(path)).get(table, {})
    return found


ANOTHER: dict[str, Answer] = collected("SOLUTIONS")
MISTAKES: dict[str, list[Answer]] = collected("MISTAKES")
ALL = pytest.mark.parametrize("exercise", EXERCISES)


def of_the_notebooks() -> dict[str, tuple[str, str, str]]:
    """Exercise -> the name of the learner's function, its stub and its solution."""
    found = {}
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        document = nbformat.read(path, as_version=4)
        solved = solutions(document)
        found |= {exercise: (name, stub, solved[name]) for name, (exercise, stub) in stubs(document).items()}
    return found


TAUGHT = of_the_notebooks()
SLOW = {"plant_pairs"}  # its solution trains


@ALL
def test_the_stub_fails(exercise: str, capsys: pytest.CaptureFixture[str]) -> None:
    name, stub, _ = TAUGHT[exercise]
    assert not check(exercise, function_in(stub, name, {}))
    assert "The stub is still there" in capsys.readouterr().out


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
def test_a_second_answer_passes(exercise: str) -> None:
    assert check(exercise, ANOTHER[exercise])


def operations(code: str) -> list[str]:
    """What a piece of code calls and computes, in order of name, whatever its variables are called."""
    nodes = list(ast.walk(ast.parse(code)))
    calls = [ast.unparse(n.func).split(".")[-1] for n in nodes if isinstance(n, ast.Call)]
    return sorted([*calls, *(type(n.op).__name__ for n in nodes if isinstance(n, ast.BinOp))])


def test_the_second_answer_is_another_one() -> None:
    written: dict[str, str] = {}
    for path in HERE.glob("test_exercises*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict)
            target = getattr(node, "target", None) or getattr(node, "targets", [None])[0]
            if named and isinstance(target, ast.Name) and target.id == "SOLUTIONS":
                written |= {k.value: ast.unparse(v) for k, v in zip(node.value.keys, node.value.values, strict=True)}
    assert set(written) == set(EXERCISES)
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
