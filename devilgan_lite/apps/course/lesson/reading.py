"""Reading a notebook without running it: which cell makes a name, which names some cells need, where each step ends.

A cell is known by its number among all cells (from 1), the heading above it and its first line. A text cell whose
metadata say ``state`` opens the section in which that step is taken.
"""

import dis
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import CodeType


@dataclass(frozen=True)
class Cell:
    """A code cell: its number (from 1, text cells counted), the ``##`` heading above it, its source.

    ``section`` counts the headings above it. ``quick`` cells (tagged ``state``) take no time but for the statements
    that make a name of ``instead``, which maps it to code that does so at once, or to ``""``.
    """

    number: int
    heading: str
    source: str
    section: int = 0
    quick: bool = False
    instead: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        place = f"under {self.heading!r}" if self.heading else "at the top"
        lines = [line for line in self.source.splitlines() if line.strip()]
        return f"cell {self.number} ({place}, it begins with {lines[0].strip() if lines else '(empty)'})"


@dataclass(frozen=True)
class Notebook:
    """The code cells of a notebook, the section of each step, and the code in its text for learners to run."""

    name: str
    cells: tuple[Cell, ...]
    steps: dict[str, int]
    asides: tuple[Cell, ...] = ()

    def until(self, step: str) -> tuple[tuple[Cell, ...], tuple[Cell, ...]]:
        """The cells up to the end of the section of ``step``, and the rest."""
        last = self.steps[step]
        return (
            tuple(cell for cell in self.cells if cell.section <= last),
            tuple(cell for cell in self.cells if cell.section > last),
        )


def notebook_folder() -> Path:
    """Where the notebooks lie: beside the package, or in ``$DEVILGAN_NOTEBOOKS``."""
    return Path(os.environ.get("DEVILGAN_NOTEBOOKS") or Path(__file__).resolve().parents[4] / "notebooks")


def notebook_paths() -> dict[str, Path]:
    """Number -> file of every notebook of the sequence."""
    return {path.stem[:2]: path for path in sorted(notebook_folder().glob("[0-9][0-9]_*.ipynb"))}


@cache
def read(path: Path) -> Notebook:
    """The notebook at ``path``, kept in memory."""
    cells, asides, headings, steps = [], [], [""], {}
    for number, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"], start=1):
        source, about = "".join(cell["source"]), cell.get("metadata", {})
        if cell["cell_type"] != "code":
            headings += re.findall(r"^## (.+)$", source, re.M)
            if "state" in about:
                steps[about["state"]] = len(headings)
        place = (headings[-1], len(headings))
        if cell["cell_type"] == "code":
            cells.append(
                Cell(number, place[0], source, place[1], "state" in about.get("tags", []), about.get("instead", {}))
            )
        asides += [Cell(number, place[0], code) for code in re.findall(r"^```python\n(.*?)^```", source, re.M | re.S)]
    return Notebook(path.stem, tuple(cells), steps, tuple(asides))


def _code(source: str) -> CodeType | None:
    """Compiled ``source``; None if it is no Python (a magic)."""
    try:
        return compile(source, "<cell>", "exec")
    except SyntaxError:
        return None


def makes(source: str) -> set[str]:
    """Names that ``source`` binds at its top level."""
    code = _code(source)
    return {str(one.argval) for one in dis.get_instructions(code) if one.opname == "STORE_NAME"} if code else set()


def _globals(code: CodeType) -> set[str]:
    """Names that functions, classes and comprehensions inside ``code`` take from outside."""
    found: set[str] = set()
    for inner in (constant for constant in code.co_consts if isinstance(constant, CodeType)):
        bound = {one.argval for one in dis.get_instructions(inner) if one.opname == "STORE_NAME"}
        loads = {one.argval for one in dis.get_instructions(inner) if one.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        found |= (loads - bound) | _globals(inner)
    return found - {"__name__"}


def needed(cells: Iterable[Cell]) -> set[str]:
    """Names that ``cells``, run in order, read before they make them; what a function reads counts where it is made."""
    made, wanted = set[str](), set[str]()
    for code in filter(None, (_code(cell.source) for cell in cells)):
        for one in dis.get_instructions(code):
            if one.opname == "LOAD_NAME" and one.argval not in made:
                wanted.add(one.argval)
            elif one.opname == "STORE_NAME":
                made.add(one.argval)
        wanted |= _globals(code) - made
    return wanted
