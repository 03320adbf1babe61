"""Reading a notebook without running it: what a statement makes, reads and changes."""

from __future__ import annotations

import ast
import json
from pathlib import Path

from devilgan_lite.classroom.reading import Cell, changes, makes, needed, notebook_paths, read, reads, statements


def one(code: str) -> ast.stmt:
    return ast.parse(code).body[0]


def test_what_a_statement_makes_reads_and_changes() -> None:
    assert makes(one("a, b = c(d)")) == {"a", "b"} and reads(one("a, b = c(d)")) == {"c", "d"}
    assert makes(one("import torch.nn as nn, os.path")) == {"nn", "os"}
    assert makes(one("x = [k * y for k in z]")) == {"x"} and reads(one("x = [k * y for k in z]")) == {"y", "z"}
    assert reads(one("for k in z:\n    print(k, n)")) == {"z", "n", "print"}
    assert makes(one("for k in z:\n    s = k")) == {"k", "s"}
    assert makes(one("def f(a):\n    b = a + g\n    return b")) == {"f"}
    assert reads(one("def f(a, *, c=d):\n    b = a + g + c\n    return b")) == {"g", "d"}
    assert reads(one("x += 1")) == {"x"} == makes(one("x += 1"))
    assert changes(one("rows[k] = 1")) == {"rows"} and changes(one("rows.append(1)")) == {"rows"}
    assert changes(one("rows = rows[k]")) == set()
    assert statements("%matplotlib inline") == []


def test_needed_names_are_read_before_they_are_made() -> None:
    cells = (Cell(1, "", "b = a\nprint(b)"), Cell(2, "", "c = b + d"))
    assert needed(cells) == {"a", "d", "print"}
    assert needed((Cell(1, "", "for k in z:\n    m = k\n    print(m, n)"),)) == {"z", "n", "print"}


def test_sections_and_cells(tmp_path: Path) -> None:
    def cell(kind: str, source: str) -> dict[str, object]:
        return {"cell_type": kind, "source": source.splitlines(True)}

    path = tmp_path / "00_small.ipynb"
    every = [
        cell("markdown", "# Title"),
        cell("code", "a = 1"),
        cell("markdown", "## Round 1: go\n\ntext"),
        cell("code", "\nb = a\nc = b"),
        cell("markdown", "## Round 2"),
        cell("code", "d = c"),
    ]
    path.write_text(json.dumps({"cells": every}))
    notebook = read(path)
    assert notebook.headings == ("Round 1: go", "Round 2")
    before, after = notebook.until("Round 1")
    assert [one.number for one in before] == [2, 4] and [one.number for one in after] == [6]
    assert [one.number for one in notebook.until("")[0]] == [2]
    assert str(before[1]) == "cell 4 (under 'Round 1: go', it begins with b = a)"


def test_all_notebooks_are_found() -> None:
    assert {f"{number:02d}" for number in range(10)} <= set(notebook_paths())
