"""Two editions from one source: nothing that gives an answer away for students, everything for instructors."""

import ast
import builtins
import re
from pathlib import Path
from typing import Any

import nbformat
import nbformat.v4 as v4
import pytest

from devilgan_lite.classroom.lesson.editions import (
    instructor,
    read_help,
    solutions,
    stubs,
    student,
    timing,
    write_editions,
)
from devilgan_lite.classroom.lesson.routes import ROUTES, write_route

ROOT = Path(__file__).resolve().parents[2]
PATHS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
DOCUMENTS = {path.stem[:2]: nbformat.read(path, as_version=4) for path in PATHS}


def text_of(document: Any) -> str:
    return "\n".join(cell.source for cell in document.cells)


def telling(code: str) -> set[str]:
    """The lines of a solution, without their indentation."""
    return {line.strip() for line in code.splitlines() if len(line.strip()) > 8 and "details>" not in line}


@pytest.mark.parametrize("number", DOCUMENTS)
def test_students_get_stubs_and_hints_and_no_solution(number: str) -> None:
    document, made = DOCUMENTS[number], student(DOCUMENTS[number])
    text = text_of(made)
    nbformat.validate(made)
    assert solutions(document) and solutions(made) == {}
    assert not re.search(r"^(solution|hint)\(|<summary>Solution", text, re.M)
    for name, (exercise, source) in stubs(document).items():
        assert stubs(made)[name] == (exercise, source)
    lesson = [c for c in document.cells if c.cell_type == "code" and read_help(c.source) is None]
    elsewhere = text_of(v4.new_notebook(cells=lesson))
    for name, code in solutions(document).items():
        secret = {line for line in telling(code) if line not in elsewhere}
        assert secret, f"{name}: no line of the solution is its own"
        assert [line for line in secret if line in text] == []
    assert all(cell.outputs == [] and cell.execution_count is None for cell in made.cells if cell.cell_type == "code")
    hints = sum(len(h.hints) for c in document.cells if c.cell_type == "code" and (h := read_help(c.source)))
    assert text.count("<summary>Hint") == hints + text_of(document).count("<summary>Hint") > 0


@pytest.mark.parametrize("number", DOCUMENTS)
def test_instructors_see_every_solution(number: str) -> None:
    document, made = DOCUMENTS[number], instructor(DOCUMENTS[number])
    text = text_of(made)
    nbformat.validate(made)
    for code in solutions(document).values():
        assert all(line in text for line in telling(code))
    assert "<details>" not in text and not any("<details>" in str(c.get("outputs", "")) for c in made.cells)
    for name, (exercise, _) in stubs(document).items():
        solved = [c.source for c in made.cells if c.cell_type == "code" and f'check("{exercise}", {name})' in c.source]
        assert len(solved) == 2 and "NotImplementedError" not in solved[1]  # the stub, then the solution
    assert "## For instructors: minutes" in made.cells[1].source


def names_without_a_cell(document: Any) -> set[str]:
    """Names that a cell reads at its top level, and that nothing before it (or in it) defines."""
    known = {*dir(builtins), "get_ipython", "display"}
    missing = set()
    for cell in document.cells:
        if cell.cell_type != "code":
            continue
        tree = ast.parse(cell.source)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                known.add(node.name)
            elif isinstance(node, ast.alias):
                known.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
            elif isinstance(node, ast.ExceptHandler) and node.name:
                known.add(node.name)
            elif isinstance(node, ast.arg):
                known.add(node.arg)
        missing |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in known}
    return missing


@pytest.mark.parametrize("number", DOCUMENTS)
def test_no_edition_misses_an_import(number: str) -> None:
    for make in (student, instructor):
        assert names_without_a_cell(make(DOCUMENTS[number])) == set()


def test_the_search_for_missing_names_finds_one() -> None:
    made = v4.new_notebook(cells=[v4.new_code_cell("import torch"), v4.new_code_cell("torch.ones(n)")])
    assert names_without_a_cell(made) == {"n"}


def test_a_solution_that_is_no_plain_text_is_refused() -> None:
    with pytest.raises(ValueError, match="not a plain text"):
        read_help('solution(f"{1 + 1}")')
    assert read_help("hint('a', 1)\nx = 1") is None
    helped = read_help("from devilgan_lite.classroom import check, hint\n\nhint('a', 2)")
    assert helped and helped.hints == [(2, "a")] and helped.imports == "from devilgan_lite.classroom import check"


def test_minutes_are_counted() -> None:
    document = v4.new_notebook(
        cells=[
            v4.new_markdown_cell("# T\n\n**Time and hardware:** three minutes.\n\n## Round 1: a\n\n" + "word " * 290),
            v4.new_code_cell('predict("?", ["a", "b"], key="k")'),
            v4.new_markdown_cell("## Exercises\n\n**1. One** (easy, 5 minutes). Do it."),
        ]
    )
    text = timing(document)
    assert "The machine: three minutes." in text
    assert "| Round 1: a | 2 | 1 |  |" in text and "| Exercises | 1 |  | 5 |" in text


def test_all_editions_are_written(tmp_path: Path) -> None:
    written = write_editions(PATHS[:1], tmp_path)
    assert [path.parent.name for path in written] == ["student", "instructor", "core"]
    for path in written:
        made = nbformat.read(path, as_version=4)
        nbformat.validate(made)
        assert made.metadata.devilgan_edition == path.parent.name
        assert len({cell.id for cell in made.cells}) == len(made.cells)


def broken(path: Path, text: str) -> list[str]:
    """The relative addresses in ``text``, of the file at ``path``, at which there is no file."""
    found = re.findall(r"\]\(([^)\s]+)\)|(?:href|src)=[\"']([^\"']+)[\"']", text)
    names = [(one or other).partition("#")[0] for one, other in found if not re.match(r"\w+:", one or other)]
    return [f"{path.name}: {name}" for name in names if name and not (path.parent / name).exists()]


def test_every_link_of_an_edition_or_a_route_leads_to_a_file(tmp_path: Path) -> None:
    written = write_editions(PATHS, tmp_path)
    for name in ROUTES:
        written += write_route(name, tmp_path / "routes" / name)
    texts = {}
    for path in written:
        cells = nbformat.read(path, as_version=4).cells
        texts[path] = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    texts |= {page: page.read_text(encoding="utf-8") for page in tmp_path.glob("routes/*/index.md")}
    assert len(texts) == len(written) + len(ROUTES)
    assert sum("](" in text for text in texts.values()) > len(ROUTES)  # there are some in notebooks, too
    assert [one for path, text in texts.items() for one in broken(path, text)] == []
