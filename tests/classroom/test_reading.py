"""Reading a notebook without running it: what a cell makes and needs, and where a step ends."""

import json
from pathlib import Path

from devilgan_lite.classroom.lesson.reading import Cell, makes, needed, read


def needs(*sources: str) -> set[str]:
    return needed(Cell(1, "", source) for source in sources)


def test_what_code_makes_and_needs() -> None:
    assert makes("a, b = c(d)") == {"a", "b"} and needs("a, b = c(d)") == {"c", "d"}
    assert makes("import torch.nn as nn, os.path") == {"nn", "os"}
    assert makes("x = [k * y for k in z]") == {"x"} and needs("x = [k * y for k in z]") == {"y", "z"}
    assert needs("for k in z:\n    print(k, n)") == {"z", "n", "print"}
    assert makes("for k in z:\n    s = k") == {"k", "s"}
    assert makes("def f(a):\n    b = a + g\n    return b") == {"f"}
    assert needs("def f(a, *, c=d):\n    b = a + g + c\n    return b") == {"g", "d"}
    assert needs("x += 1") == {"x"} == makes("x += 1") and needs("rows[k] = 1") == {"rows", "k"}
    assert makes("%matplotlib inline") == needs("%matplotlib inline") == set()


def test_needed_names_are_read_before_they_are_made() -> None:
    assert needs("b = a\nprint(b)", "c = b + d") == {"a", "d", "print"}
    assert needs("def f():\n    return later\nlater = 1") == set()


def test_sections_and_cells(tmp_path: Path) -> None:
    def cell(kind: str, source: str, **about: object) -> dict[str, object]:
        return {"cell_type": kind, "source": source.splitlines(True), "metadata": about}

    path = tmp_path / "00_small.ipynb"
    every = [
        cell("markdown", "# Title", state="setup"),
        cell("code", "a = 1", tags=["state"], instead={"a": "2"}),
        cell("markdown", "## Round 1: go\n\ntext", state="attack"),
        cell("code", "\nb = a\nc = b"),
        cell("markdown", "## Round 2"),
        cell("code", "d = c"),
    ]
    path.write_text(json.dumps({"cells": every}))
    notebook = read(path)
    assert list(notebook.steps) == ["setup", "attack"]
    before, after = notebook.until("attack")
    assert [one.number for one in before] == [2, 4] and [one.number for one in after] == [6]
    assert [one.number for one in notebook.until("setup")[0]] == [2]
    assert str(before[1]) == "cell 4 (under 'Round 1: go', it begins with b = a)"
    assert before[0].quick and before[0].instead == {"a": "2"} and not before[1].quick
