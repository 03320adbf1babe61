"""One sentence instead of a traceback when a cell needs a name whose cell has not been run yet."""

import os
from pathlib import PurePath
from types import TracebackType
from typing import Any

from devilgan_lite.apps.course.lesson.reading import Cell, Notebook, makes, notebook_paths, read


def notebook_of(sources: list[str]) -> Notebook | None:
    """The notebook that most of ``sources``, the cells run so far, come from; the server's own word counts most."""
    named = PurePath(os.environ.get("JPY_SESSION_NAME", "")).stem
    run = {source.strip() for source in sources}

    def score(notebook: Notebook) -> int:
        return 1_000 * (notebook.name == named) + sum(cell.source.strip() in run for cell in notebook.cells)

    best = max(map(read, notebook_paths().values()), key=score, default=None)
    return best if best and score(best) else None


def maker(notebook: Notebook, name: str, here: Cell | None) -> Cell | None:
    """The cell to run for ``name``: the last one above ``here`` that makes it, else the first one anywhere."""
    found = [cell for cell in notebook.cells if name in makes(cell.source)]
    above = [cell for cell in found if here is not None and cell.number < here.number]
    return above[-1] if above else found[0] if found else None


def state_before(notebook: Notebook, here: Cell | None) -> str | None:
    """The name of the last state that ends above ``here``."""
    above = [step for step, last in notebook.steps.items() if here is not None and last < here.section]
    return f"{notebook.name[:2]}-after-{above[-1]}" if above else None


def sentence(name: str, sources: list[str]) -> str | None:
    """What to do about a missing ``name`` after ``sources`` were run, the last of them in vain; None if unknown."""
    notebook = notebook_of(sources)
    if notebook is None:
        return None
    here = next((cell for cell in notebook.cells if sources and cell.source.strip() == sources[-1].strip()), None)
    cell = maker(notebook, name, here)
    if cell is None or cell == here:
        return None
    state = state_before(notebook, here)
    quick = f', or put all that stands above in place with lesson.load("{state}")' if state else ""
    return f"NameError: {name!r} is not there yet: first run {cell}{quick}."


def explain(
    shell: Any, kind: type[BaseException], error: NameError, trace: TracebackType, tb_offset: int | None = None
) -> None:
    """Show ``error`` in ``shell``: as one sentence where a cell of the notebook makes the name, else as usual."""
    if kind is NameError and error.name and (words := sentence(error.name, list(shell.user_ns.get("In", [])))):
        error._render_traceback_ = lambda: [words]  # type: ignore[attr-defined]  # IPython's own way to replace it
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)


def watch(shell: Any = None) -> None:
    """From now on explain missing names in ``shell``, by default the running one; without one do nothing."""
    from IPython.core.getipython import get_ipython

    shell = shell or get_ipython()
    if shell is not None:
        shell.set_custom_exc((NameError,), explain)
