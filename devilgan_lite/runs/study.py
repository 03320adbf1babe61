"""A study: one notebook (or several) with many parameters, read from a YAML file and checked before anything starts.

A run is known by a digest of what decides its result: the cells of its notebook, its parameters and its repeat. So a
study that was cut short, or that has grown by some values, finds the runs again that it has.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devilgan_lite.checks import in_range, known_names, nearest, whole_number
from devilgan_lite.parameters import check_values
from devilgan_lite.runs.run import find_notebook, notebook_list, parameters_of, read_notebook

KEYS = ("title", "notebook", "parameters", "grid", "runs", "seeds", "repeats", "timeout", "memory_mb", "gpu")
MOST_RUNS = 100_000


@dataclass(frozen=True)
class Run:
    """One row of a study: the notebook's name and path, its parameters, and which repeat of them it is."""

    id: str
    notebook: str
    path: Path = field(repr=False, compare=False)
    parameters: dict[str, Any] = field(compare=False)
    repeat: int = 0


@dataclass(frozen=True)
class Study:
    """The runs of a study, without two alike, and the limits of each: ``timeout`` in seconds, ``memory_mb`` or None."""

    name: str
    title: str
    runs: tuple[Run, ...] = field(repr=False)
    timeout: float = 900
    memory_mb: float | None = None
    gpu: bool = False

    def __len__(self) -> int:
        return len(self.runs)


def read_study(path: str | Path) -> Study:
    """The study in a YAML file; whatever is wrong with it is one sentence in a ``ValueError``.

    Keys: ``notebook`` (a number, a name, a path relative to the file, or a list of those), ``parameters`` (the same for
    all runs), ``grid`` (name: list of values; all combinations), ``runs`` (a list of parameters, one run each),
    ``seeds`` (a list, or how many from 0), ``repeats``, ``timeout`` (seconds a run), ``memory_mb`` (a run), ``gpu`` (a
    run needs one), ``title``.
    """
    import yaml

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"study={str(path)!r} does not exist; name a YAML file, such as studies/lam_frontier.yml.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise ValueError(f"{path.name} is not valid YAML: {' '.join(str(error).split())}.") from None
    if not isinstance(content, Mapping):
        raise ValueError(f"{path.name} must be a mapping with some of {', '.join(KEYS)}.")
    return study_of(content, path.stem, path.parent)


def study_of(content: Mapping[str, Any], name: str, folder: str | Path = ".") -> Study:
    """The study that a mapping describes (see ``read_study``); paths of notebooks are relative to ``folder``."""
    try:
        known_names(f"study {name}", map(str, content), KEYS)
    except TypeError as error:
        raise ValueError(str(error).replace("has no setting", "has no key")) from None
    repeats, timeout, memory = content.get("repeats", 1), content.get("timeout", 900), content.get("memory_mb")
    whole_number("repeats", repeats, 1, 10_000)
    in_range("timeout", timeout, 1, 7 * 86_400)
    if memory is not None:
        in_range("memory_mb", memory, 50, 1e8)
    if not isinstance(content.get("gpu", False), bool):
        raise ValueError(f"gpu={content['gpu']!r} is not valid: it must be true or false.")
    notebooks = content.get("notebook", [])
    notebooks = list(notebooks) if isinstance(notebooks, (list, tuple)) else [notebooks]
    if not notebooks:
        raise ValueError(f"study {name} names no notebook; valid: {', '.join(notebook_list())}, or a path.")
    sets = parameter_sets(content)
    if len(sets) * repeats * len(notebooks) > MOST_RUNS:
        raise ValueError(f"study {name} has {len(sets) * repeats * len(notebooks):,} runs; at most {MOST_RUNS:,}.")
    found: dict[str, Run] = {}
    for notebook in notebooks:
        path = _located(notebook, Path(folder))
        document = read_notebook(path)
        valid, source = parameters_of(document, path.stem), _source(document)
        for given in sets:
            check_values(valid, given, path.stem)
        for given, repeat in itertools.product(sets, range(repeats)):
            key = identity(source, given, repeat)
            found.setdefault(key, Run(key, path.stem, path, given, repeat))
    title = str(content.get("title") or name.replace("_", " "))
    return Study(name, title, tuple(found.values()), timeout, memory, content.get("gpu", False))


def parameter_sets(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every combination of ``grid`` and each of ``runs``, on top of ``parameters``, with every one of ``seeds``."""
    common, grid, listed = content.get("parameters") or {}, content.get("grid") or {}, content.get("runs") or []
    for key, value in (("parameters", common), ("grid", grid)):
        if not isinstance(value, Mapping):
            raise ValueError(f"{key} must be a mapping of names to {'lists of ' if key == 'grid' else ''}values.")
    for key, values in grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise ValueError(f"grid: {key}={values!r} is not valid: it must be a list of at least one value.")
        if key in common:
            raise ValueError(f"{key} is in parameters and in grid; it must be in one of them.")
    if not isinstance(listed, (list, tuple)) or not all(isinstance(one, Mapping) for one in listed):
        raise ValueError("runs must be a list of mappings of names to values, one for each run.")
    product = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    sets = [{**common, **one} for one in ([*product, *listed] if grid or not listed else listed)]
    if (seeds := content.get("seeds")) is None:
        return sets
    if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
        seeds = list(range(seeds))
    if not isinstance(seeds, (list, tuple)) or not seeds:
        raise ValueError(f"seeds={seeds!r} is not valid: it must be a list of whole numbers, or how many.")
    return [{**one, "seed": seed} for one in sets for seed in seeds]


def identity(source: Any, parameters: Mapping[str, Any], repeat: int) -> str:
    """Sixteen hexadecimal digits that are the same for the same cells, parameters (in any order) and repeat."""
    text = json.dumps([source, dict(parameters), repeat], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(document: Any) -> list[Any]:
    """The cells that decide what a notebook computes."""
    return [
        [cell.source.strip(), sorted(cell.metadata.get("tags", []))]
        for cell in document.cells
        if cell.cell_type == "code"
    ]


def _located(notebook: Any, folder: Path) -> Path:
    text = str(notebook)
    if text.endswith((".py", ".ipynb")):
        path = folder / text
        if not path.is_file():
            beside: Iterable[str] = (one.name for one in folder.glob("*.*") if one.suffix in (".py", ".ipynb"))
            raise ValueError(f"notebook={text!r} does not exist in {folder}.{nearest(text, beside)}")
        return path.resolve()
    return find_notebook(text if not isinstance(notebook, int) else notebook)
