"""A study: one notebook (or several) with many parameters, read from a YAML file and checked before anything starts.

A run is known by a digest of what decides its result: the cells of its notebook, its parameters and its repeat. So a
study that was cut short, or that has grown by some values, finds the runs again that it has.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from devilgan_lite.apps.parameters import check_values
from devilgan_lite.apps.studies.notebooks import find_notebook, notebook_list, notebook_parameters, read_notebook
from devilgan_lite.checks import nearest

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
        raise ValueError(f"{path.name} must be a mapping with some of {', '.join(StudyFile.model_fields)}.")
    return study_of(content, path.stem, path.parent)


class StudyFile(BaseModel):
    """What a study may say; ``description`` is what a message says of a value that does not fit."""

    model_config = ConfigDict(extra="forbid", strict=True)

    title: Any = None
    notebook: int | str | list[int | str] = Field([], description="a notebook's number, name or path, or a list")
    parameters: dict[str, Any] = Field({}, description="a mapping of names to values")
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        {}, description="a mapping of names to lists of at least one value"
    )
    runs: list[dict[str, Any]] = Field([], description="a list of mappings of names to values, one for each run")
    seeds: Annotated[int, Field(ge=1)] | Annotated[list[Any], Field(min_length=1)] | None = Field(
        None, description="a list of whole numbers, or how many"
    )
    repeats: int = Field(1, ge=1, le=10_000, description="a whole number from 1 to 10000")
    timeout: float = Field(900, ge=1, le=7 * 86_400, description="a number from 1 to 604800, in seconds")
    memory_mb: float | None = Field(None, ge=50, le=1e8, description="a number from 50 to 1e8, in MB")
    gpu: bool = Field(False, description="true or false")


def checked(content: Mapping[str, Any], name: str) -> StudyFile:
    """``content`` as a ``StudyFile``; what is wrong with it is one sentence in a ``ValueError``."""
    try:
        file = StudyFile.model_validate({str(key): value for key, value in content.items() if value is not None})
    except ValidationError as error:
        wrong = error.errors()[0]
        key, fields = str(wrong["loc"][0]), StudyFile.model_fields
        if wrong["type"] == "extra_forbidden":
            valid = ", ".join(fields)
            raise ValueError(f"study {name} has no key {key!r:.80}; valid: {valid}.{nearest(key, fields)}") from None
        raise ValueError(f"{key}={content[key]!r:.80} is not valid: it must be {fields[key].description}.") from None
    if twice := file.grid.keys() & file.parameters.keys():
        raise ValueError(f"{min(twice)} is in parameters and in grid; it must be in one of them.")
    return file


def study_of(content: Mapping[str, Any], name: str, folder: str | Path = ".") -> Study:
    """The study that a mapping describes (see ``read_study``); paths of notebooks are relative to ``folder``."""
    file = checked(content, name)
    notebooks = file.notebook if isinstance(file.notebook, list) else [file.notebook]
    if not notebooks:
        raise ValueError(f"study {name} names no notebook; valid: {', '.join(notebook_list())}, or a path.")
    sets = parameter_sets(file)
    if (total := len(sets) * file.repeats * len(notebooks)) > MOST_RUNS:
        raise ValueError(f"study {name} has {total:,} runs; at most {MOST_RUNS:,}.")
    found: dict[str, Run] = {}
    for notebook in notebooks:
        path = _located(notebook, Path(folder))
        valid = notebook_parameters(path)
        for given in sets:
            check_values(valid, given, path.stem)
        source = _source(read_notebook(path))
        for given, repeat in itertools.product(sets, range(file.repeats)):
            key = identity(source, given, repeat)
            found.setdefault(key, Run(key, path.stem, path, given, repeat))
    title = str(file.title or name.replace("_", " "))
    return Study(name, title, tuple(found.values()), file.timeout, file.memory_mb, file.gpu)


def parameter_sets(file: StudyFile) -> list[dict[str, Any]]:
    """Every combination of ``grid`` and each of ``runs``, together with ``parameters``, with every one of ``seeds``."""
    product = [dict(zip(file.grid, values, strict=True)) for values in itertools.product(*file.grid.values())]
    sets = [{**file.parameters, **one} for one in ([*product, *file.runs] if file.grid or not file.runs else file.runs)]
    if file.seeds is None:
        return sets
    seeds = range(file.seeds) if isinstance(file.seeds, int) else file.seeds
    return [{**one, "seed": seed} for one in sets for seed in seeds]


def identity(source: Any, parameters: Mapping[str, Any], repeat: int) -> str:
    """Sixteen hexadecimal digits that are the same for the same cells, parameters (in any order) and repeat."""
    text = json.dumps([source, dict(parameters), repeat], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _source(document: Any) -> list[Any]:
    """The cells that decide what a notebook computes."""
    return [
        [cell.source.strip(), "parameters" in cell.metadata.get("tags", [])]
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
