"""Find a notebook, read it, and say which parameters it takes."""

import json
import os
import re
from pathlib import Path
from typing import Any

from devilgan_lite.apps.parameters import Parameter, parse_cell
from devilgan_lite.checks import nearest

PROJECT = Path(__file__).resolve().parents[3]
MARKER = re.compile(r"^# ?%%(.*)$", re.M)  # the first line of a cell in the percent format
PARAMETERS = re.compile(r'\btags=\[[^]]*"parameters"')
SOLUTION = re.compile(r"^hints\(.*\bsolution=", re.M | re.S)  # a cell whose source gives the answer away
HIDDEN = "hide-input"  # the tag that mystmd and our pages know; JupyterLab reads source_hidden, GitHub neither


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
    """The notebook at ``path``: ``.ipynb``, or ``.py`` in jupytext's percent format, whose solutions are folded."""
    import jupytext
    import nbformat

    if path.suffix != ".py":
        return nbformat.read(path, as_version=4)
    document = jupytext.read(path, fmt="py:percent")
    for cell in document.cells:
        if cell.cell_type == "code" and SOLUTION.search(cell.source):
            cell.metadata["jupyter"] = {"source_hidden": True}
            cell.metadata["tags"] = [*cell.metadata.get("tags", []), HIDDEN]
    return document


def notebook_parameters(notebook: int | str | Path) -> dict[str, Parameter]:
    """The parameters that a notebook takes, from its cell tagged ``parameters``."""
    path = find_notebook(notebook)
    cells = _parameter_cells(path)
    if len(cells) > 1:
        raise ValueError(f"{path.stem} has {len(cells)} cells tagged parameters; there must be one.")
    return parse_cell(cells[0], f"the parameters cell of {path.stem}") if cells else {}


def _parameter_cells(path: Path) -> list[str]:
    """The sources of the cells tagged ``parameters``, from the file's text: to import jupytext takes seconds."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        _, *pieces = MARKER.split(text)  # what a marker says of its cell, the cell, and again
        cells = zip(pieces[::2], pieces[1::2], strict=True)
        return [source.strip("\n") for marker, source in cells if PARAMETERS.search(marker)]
    try:
        document = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path.name} is not a notebook: it is not valid JSON ({error}).") from None
    found = document.get("cells", []) if isinstance(document, dict) else []
    tagged = [cell for cell in found if "parameters" in cell.get("metadata", {}).get("tags", [])]
    return ["".join(cell.get("source", "")) for cell in tagged]
