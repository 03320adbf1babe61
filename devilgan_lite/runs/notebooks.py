"""Find a notebook, read it, and say which parameters it takes."""

import os
import re
from pathlib import Path
from typing import Any

from devilgan_lite.checks import nearest
from devilgan_lite.parameters import Parameter, parse_cell

PROJECT = Path(__file__).resolve().parents[2]


def notebook_folder() -> Path:
    """Where the notebooks are: ``$DEVILGAN_NOTEBOOKS``, else ``notebooks/`` beside the package."""
    folder = Path(os.environ.get("DEVILGAN_NOTEBOOKS") or PROJECT / "notebooks")
    if not folder.is_dir():
        raise FileNotFoundError(f"notebook folder {folder} is missing; set DEVILGAN_NOTEBOOKS to the project's one.")
    return folder


def notebook_list() -> list[str]:
    """The names of the sequence, in order: ``["00_two_minute_tour", ...]``."""
    folder = notebook_folder()
    found = [*folder.glob("*.ipynb"), *(folder / "src").glob("*.py")]
    return sorted({path.stem for path in found if re.match(r"\d\d_", path.stem)})


def find_notebook(notebook: int | str | Path) -> Path:
    """The file to run for a number (0, ``"03"``), a name, or a path; the py:percent source where there is one.

    The source is what people edit, so a committed ``.ipynb`` that is older never runs in its place.
    """
    text = str(notebook)
    if text.endswith((".ipynb", ".py")):
        path = Path(text)
        if not path.is_file():
            raise ValueError(f"notebook={text!r} does not exist; name a file, or one of {', '.join(notebook_list())}.")
        return path.resolve()
    names = notebook_list()
    wanted = [name for name in names if name == text or (text.isdigit() and name.startswith(f"{int(text):02d}_"))]
    wanted += ["report"] if text == "report" else []  # of a study; no part of the sequence
    if not wanted:
        raise ValueError(f"notebook={text!r} is unknown; valid: {', '.join(names) or 'none'}.{nearest(text, names)}")
    source = notebook_folder() / "src" / f"{wanted[0]}.py"
    return source if source.is_file() else notebook_folder() / f"{wanted[0]}.ipynb"


def read_notebook(path: Path) -> Any:
    """The notebook at ``path`` (``.ipynb``, or ``.py`` in jupytext's percent format)."""
    import jupytext
    import nbformat

    if path.suffix == ".py":
        return jupytext.read(path, fmt="py:percent")
    return nbformat.read(path, as_version=4)


def notebook_parameters(notebook: int | str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook takes, from its cell tagged ``parameters``."""
    path = find_notebook(notebook)
    return parameters_of(read_notebook(path), path.stem)


def parameters_of(document: Any, name: str) -> dict[str, Parameter]:
    """The parameters of a notebook that was read; more than one cell tagged ``parameters`` is a ``ValueError``."""
    cells = [cell for cell in document.cells if "parameters" in cell.metadata.get("tags", [])]
    if len(cells) > 1:
        raise ValueError(f"{name} has {len(cells)} cells tagged parameters; there must be one.")
    return parse_cell(cells[0].source, f"the parameters cell of {name}") if cells else {}
