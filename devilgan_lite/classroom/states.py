"""Put a learner behind any step of any notebook, in a second or two: ``lesson.load("03-after-attack")``.

A state is what the cells up to the end of a step would have left behind: the notebook's own imports, functions,
settings and whatever is quick to make are made by its own code. What was trained is taken from the zoo instead, by the
stand-ins below, which are notebook code as well; so this room needs no attack. What neither is quick nor ships stays
away, and ``State.missing`` says which cell makes it.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import time
from typing import Any

from devilgan_lite.checks import nearest
from devilgan_lite.classroom.reading import (
    Cell,
    changes,
    makes,
    needed,
    notebook_paths,
    read,
    reads,
    statements,
)
from devilgan_lite.classroom.stand_ins import SLOW, STAND_INS, STEPS


class State:
    """Names as in the notebook: ``state.clean``, ``state.evil``; ``missing`` maps a name to the cell that makes it.

    ``stand_ins`` are the names that come from the zoo or from a shorter training than the notebook's.
    """

    def __init__(
        self, name: str, names: dict[str, Any], missing: dict[str, Cell], stand_ins: list[str], seconds: float
    ) -> None:
        self.__dict__.update(names)
        self.stand_ins = stand_ins
        self._name, self._names, self.missing, self._seconds = name, names, missing, seconds

    def __getattr__(self, name: str) -> Any:
        missing = self.__dict__.get("missing", {})
        if name in missing:
            raise AttributeError(f"{name} takes longer to make than a state may: run {missing[name]}.")
        known = self.__dict__.get("_names", {})
        raise AttributeError(f"the state has no {name!r}.{nearest(name, known)}")

    def __repr__(self) -> str:
        away = f" Run the cells for the rest: {', '.join(sorted(self.missing))}." if self.missing else ""
        cached = f" Cached, or trained for less long: {', '.join(self.stand_ins)}." if self.stand_ins else ""
        return f"{self._name}: {len(self._names)} names are in place after {self._seconds:.1f} s.{cached}{away}"


def states() -> list[str]:
    """The names of all states, in the order of the notebooks."""
    return [f"{number}-after-{step}" for number in sorted(notebook_paths()) for step in STEPS.get(number, {})]


def load(name: str) -> State:
    """The state called ``name``, such as ``"03-after-attack"``; in a notebook its names become the notebook's.

    An unknown name is a ``ValueError`` with the nearest valid one; ``states()`` lists them.
    """
    if name not in states():
        raise ValueError(
            f"name={name!r} is not a state; lesson.states() lists all {len(states())}.{nearest(name, states())}"
        )
    started = time.perf_counter()
    number, _, step = name.split("-", 2)
    names, missing = _make(number, step)
    stand_ins = sorted(set(STAND_INS.get(number, {})) & set(names))
    state = State(name, names, missing, stand_ins, time.perf_counter() - started)
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.user_ns.update(names)
    return state


def _make(number: str, step: str) -> tuple[dict[str, Any], dict[str, Cell]]:
    """The names of a state, and those that stay away with the cells that make them."""
    notebook = read(notebook_paths()[number])
    before, after = notebook.until(STEPS[number][step])
    program = _program(number, before)
    makers = {name: cell for cell in before for node in statements(cell.source) for name in makes(node)}
    later = needed(after).union(*(needed((aside,)) for aside in notebook.asides))
    wanted = later & set(makers)
    kept, away = _slice(program, wanted)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        for node in kept:
            if away & reads(node) and not isinstance(node, ast.FunctionDef | ast.ClassDef):
                away |= makes(node) - set(names)
                continue
            try:
                exec(compile(ast.Module([node], []), f"<{number}>", "exec"), names)
            except (NameError, KeyError):  # it needs something that stays away
                away |= makes(node) - set(names)
    made = {key: value for key, value in names.items() if not key.startswith("__")}
    return made, {name: makers[name] for name in sorted(wanted - set(made))}


def _program(number: str, cells: tuple[Cell, ...]) -> list[tuple[ast.stmt, Cell | None]]:
    """The statements of ``cells``; one that makes a name with a stand-in gives way to it (which belongs to no cell)."""
    found: list[tuple[ast.stmt, Cell | None]] = []
    waiting = dict(STAND_INS.get(number, {}))
    for cell in cells:
        for node in statements(cell.source):
            replaced = sorted(makes(node) & set(STAND_INS.get(number, {})))
            for name in replaced:
                found += [(part, None) for part in statements(waiting.pop(name, ""))]
            if not replaced:
                found.append((node, cell))
    return found


def _at_definition(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Names that a definition reads when it is made, not when it is called."""
    if isinstance(node, ast.ClassDef):
        return reads(node)
    defaults = [*node.decorator_list, *node.args.defaults, *(value for value in node.args.kw_defaults if value)]
    return {name for value in defaults for name in reads(value)}


def _slow_functions(program: list[tuple[ast.stmt, Cell | None]]) -> set[str]:
    """The notebook's functions that do something slow, or call one that does."""
    functions = {node.name: node for node, _ in program if isinstance(node, ast.FunctionDef)}
    slow = {name for name, node in functions.items() if re.search(SLOW, ast.unparse(node))}
    while more := {name for name, node in functions.items() if reads(node) & slow} - slow:
        slow |= more
    return slow


def _slice(program: list[tuple[ast.stmt, Cell | None]], wanted: set[str]) -> tuple[list[ast.stmt], set[str]]:
    """The quick statements that ``wanted`` names depend on, in order, and the names that only slow ones make."""
    slow_functions = _slow_functions(program)
    wanted, away = set(wanted), set[str]()
    kept: list[ast.stmt] = []
    for node, cell in reversed(program):
        made = makes(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept.append(node)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            kept.append(node)
            wanted = (wanted - made) | (reads(node) if made & wanted else _at_definition(node))
        elif made & wanted or changes(node) & wanted:
            slow = cell is not None and (re.search(SLOW, ast.unparse(node)) or reads(node) & slow_functions)
            if slow:
                away |= (made | changes(node)) & wanted
                wanted -= made | changes(node)
            else:
                kept.append(node)
                wanted = (wanted - (made - changes(node))) | reads(node)
    return kept[::-1], away
