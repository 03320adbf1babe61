"""The code in the solutions of open exercises, which no check tries: it runs behind the last state of its notebook."""

import contextlib
import io
from typing import Any

import matplotlib
import pytest

from devilgan_lite.classroom import lesson
from devilgan_lite.classroom.lesson.reading import notebook_paths, read

OPEN = {number: asides for number, path in notebook_paths().items() if (asides := read(path).asides)}
PRINTED = {  # notebook -> how many lines its solution prints, and a word of them
    "01": (3, "clumps"),
    "04": (6, "TarDis"),
    "05": (3, "TarDis"),
    "06": (4, "ReX, from suspected directions"),
    "07": (3, "TarDis"),
    "09": (7, "0.9"),
    "10": (1, "TarDis"),
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
