"""Reading a notebook without running it: which cell makes a name, which names a piece of code needs.

A cell is known by its number among all cells (from 1), the heading above it and its first line.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

BINDERS = (ast.comprehension, ast.For, ast.AsyncFor)


@dataclass(frozen=True)
class Cell:
    """A code cell: its number (from 1, text cells counted), the ``##`` heading above it, its source."""

    number: int
    heading: str
    source: str

    def __str__(self) -> str:
        place = f"under {self.heading!r}" if self.heading else "at the top"
        lines = [line for line in self.source.splitlines() if line.strip()]
        return f"cell {self.number} ({place}, it begins with {lines[0].strip() if lines else '(empty)'})"


@dataclass(frozen=True)
class Notebook:
    """The code cells of a notebook, the headings in order, and the code that stands in its text for learners to run."""

    name: str
    cells: tuple[Cell, ...]
    headings: tuple[str, ...]
    asides: tuple[Cell, ...] = ()

    def until(self, heading: str) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
        """The cells up to the end of the section that begins with ``heading`` (``""``: the opening), and the rest."""
        last = self.headings.index(next(name for name in self.headings if name.startswith(heading))) if heading else -1
        before = {"", *self.headings[: last + 1]}
        return (
            tuple(cell for cell in self.cells if cell.heading in before),
            tuple(cell for cell in self.cells if cell.heading not in before),
        )


def notebook_paths() -> dict[str, Path]:
    """Number -> file of every notebook of the sequence; they lie beside the package, or in ``$DEVILGAN_NOTEBOOKS``."""
    folder = Path(os.environ.get("DEVILGAN_NOTEBOOKS") or Path(__file__).resolve().parents[2] / "notebooks")
    return {path.stem[:2]: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}


@cache
def read(path: Path) -> Notebook:
    """The notebook at ``path``, kept in memory."""
    cells, headings, asides, now = [], [], [], ""
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], start=1):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            cells.append(Cell(number, now, source))
            continue
        asides += [Cell(number, now, code) for code in re.findall(r"^```python\n(.*?)^```", source, re.M | re.S)]
        if found := re.findall(r"^## (.+)$", source, re.M):
            headings += found
            now = found[-1]
    return Notebook(path.stem, tuple(cells), tuple(headings), tuple(asides))


def statements(source: str) -> list[ast.stmt]:
    """The top-level statements of a cell; none if it is no Python (a magic)."""
    try:
        return ast.parse(source).body
    except SyntaxError:
        return []


def _local(node: ast.AST) -> Iterator[str]:
    """Names that ``node`` itself binds for its own use: targets of loops and comprehensions, arguments, errors."""
    for part in ast.walk(node):
        if isinstance(part, BINDERS):
            yield from (name.id for name in ast.walk(part.target) if isinstance(name, ast.Name))
        elif isinstance(part, ast.FunctionDef | ast.Lambda):
            arguments = part.args
            yield from (argument.arg for argument in [*arguments.args, *arguments.kwonlyargs])
            if isinstance(part, ast.FunctionDef):
                inside = [name for line in part.body for name in ast.walk(line) if isinstance(name, ast.Name)]
                yield from (name.id for name in inside if isinstance(name.ctx, ast.Store))
        elif isinstance(part, ast.ExceptHandler) and part.name:
            yield part.name


def reads(node: ast.AST) -> set[str]:
    """Names that ``node`` takes from outside."""
    loads = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Load)}
    loads |= {
        part.target.id
        for part in ast.walk(node)
        if isinstance(part, ast.AugAssign) and isinstance(part.target, ast.Name)
    }
    return loads - set(_local(node))


def makes(node: ast.stmt) -> set[str]:
    """Names that ``node`` binds at the top level of its cell."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    hidden: set[str] = set()
    for part in ast.walk(node):
        if isinstance(part, ast.comprehension):
            hidden |= {name.id for name in ast.walk(part.target) if isinstance(name, ast.Name)}
    stored = {name.id for name in ast.walk(node) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)}
    return stored - hidden


def changes(node: ast.stmt) -> set[str]:
    """Names whose object ``node`` changes in place: ``rows[k] = ...`` and ``rows.append(...)``."""
    found = set()
    for part in ast.walk(node):
        if isinstance(part, ast.Subscript) and isinstance(part.ctx, ast.Store):
            found |= {name.id for name in ast.walk(part.value) if isinstance(name, ast.Name)}
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
        found.add(call.func.value.id)
    return found - makes(node)


def _first_reads(nodes: list[ast.stmt]) -> set[str]:
    """Names that ``nodes``, run in order, read before they make them."""
    made: set[str] = set()
    wanted: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.For):
            inside = _first_reads([*node.body, *node.orelse]) - {*_local(ast.Module([node], []))}
            found = reads(node.iter) | inside
        elif isinstance(node, ast.If):
            found = reads(node.test) | _first_reads(node.body) | _first_reads(node.orelse)
        else:
            found = reads(node)
        wanted |= found - made
        made |= makes(node)
    return wanted


def needed(cells: tuple[Cell, ...]) -> set[str]:
    """Names that ``cells``, run in order, read before they make them."""
    return _first_reads([node for cell in cells for node in statements(cell.source)])
