"""Begin at any step of any notebook, in a second or two: ``lesson.load("03-after-attack")``.

A state is what the cells up to the end of a step leave behind. The notebook itself says how to have it quickly: cells
tagged ``state`` are run, and their metadata ``instead`` name what comes from the zoo or stays away (see ``reading``).
``State.missing`` says which cell makes a name that stays away.
"""

import ast
import builtins
import contextlib
import io
import time
from typing import Any

from devilgan_lite.apps.course.lesson.reading import Cell, makes, needed, notebook_paths, read
from devilgan_lite.checks import nearest
from devilgan_lite.steps import Outcome


class State:
    """Names as in the notebook: ``state.clean``, ``state.outcome``; ``missing`` maps a name to the cell that makes it.

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
    return [f"{number}-after-{step}" for number, path in notebook_paths().items() for step in read(path).steps]


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
    notebook = read(notebook_paths()[number])
    before, after = notebook.until(step)
    space: dict[str, Any] = {"__name__": "__main__", "loaded": loaded}
    quiet = io.StringIO()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        for cell in before:
            if cell.quick:
                _run(cell, space)
    made = {name: cell for cell in before for name in makes(cell.source)}
    names = {key: value for key, value in space.items() if key in made}
    later = needed(after).union(*(needed([aside]) for aside in notebook.asides))
    missing = {key: made[key] for key in sorted((made.keys() & later) - names.keys())}
    stand_ins = sorted({key for cell in before for key, code in cell.instead.items() if code} & names.keys())
    state = State(name, names, missing, stand_ins, time.perf_counter() - started)
    from IPython.core.getipython import get_ipython

    shell = get_ipython()
    if shell is not None:
        shell.user_ns.update(names)
    return state


def _run(cell: Cell, space: dict[str, Any]) -> None:
    """Run the statements of ``cell`` in ``space``, but for what shows, draws, asserts, or needs a name that is away."""
    for node in ast.parse(cell.source).body:
        source = ast.unparse(node)
        made = makes(source)
        call = node.value if isinstance(node, ast.Expr) else None
        shows = isinstance(node, ast.Expr) and not isinstance(getattr(call, "func", None), ast.Attribute)
        asserts = isinstance(node, ast.Assert | ast.If) and any(isinstance(part, ast.Assert) for part in ast.walk(node))
        if replaced := cell.instead.keys() & made:
            for name in replaced:
                exec(f"{name} = {cell.instead[name]}" if cell.instead[name] else "", space)
        elif isinstance(node, ast.FunctionDef) or not (
            shows or asserts or "fig" in made or needed([Cell(0, "", source)]) - space.keys() - vars(builtins).keys()
        ):
            exec(compile(ast.Module([node], []), f"<cell {cell.number}>", "exec"), space)


def loaded(generator: Any) -> Outcome:
    """An outcome of a training that took place elsewhere, for ``instead``."""
    return Outcome(generator, {}, 0.0, 0, {})
