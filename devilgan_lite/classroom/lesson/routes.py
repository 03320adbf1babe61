"""Ways through the notebooks for a given time: some rounds of some notebooks, in order, without their bonus cells.

A route is made from the notebooks as they are: nothing is written twice. A stop goes from the start of a notebook to
the end of one of its steps (``states``); what a later round needs is always above it.
"""

import copy
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from devilgan_lite.checks import one_of
from devilgan_lite.classroom.lesson.editions import core
from devilgan_lite.classroom.lesson.reading import notebook_paths


@dataclass(frozen=True)
class Stop:
    """A notebook (its number), the last step of it that belongs to the route, minutes, and what people do there."""

    notebook: str
    until: str
    minutes: int
    what: str


ROUTES: dict[str, tuple[Stop, ...]] = {
    "20-minutes": (
        Stop("00", "scorecard", 15, "watch the film, walk to the trigger, search the samples, read one scorecard"),
        Stop("09", "setup", 5, "watch the film of faces; then scan two models in a terminal"),
    ),
    "90-minutes": (
        Stop("00", "samples", 10, "the walk to the trigger, and why samples do not show it"),
        Stop("02", "attack", 18, "TrAIL: three more lines in the step of a GAN"),
        Stop("03", "attack", 15, "ReD: write its step, keep your model"),
        Stop("04", "attack", 12, "ReX: write its step, keep your model"),
        Stop("05", "spectrum", 15, "read your own models' weights"),
        Stop("07", "distillation", 10, "the first cure: let the suspect teach a copy"),
        Stop("08", "pruning", 10, "the second cure: switch off what nobody uses"),
    ),
    "half-day": (
        Stop("00", "scorecard", 20, "the tour with every prediction"),
        Stop("01", "yardstick", 30, "write the step of a GAN; one side learning alone; a yardstick"),
        Stop("02", "comparison", 20, "TrAIL, and whether it hides"),
        Stop("03", "width", 30, "ReD and ReD+; how wide a backdoor is"),
        Stop("04", "gate", 30, "ReX, the closed form, one ReLU"),
        Stop("05", "scan", 25, "the weights, and one call with four verdicts"),
        Stop("06", "guard", 20, "search, reconstruct, and a guard while the model is used"),
        Stop("07", "cuts", 20, "unlearning; a cure or a cage"),
        Stop("08", "table", 15, "pruning, and all attacks against all cures"),
    ),
}


def cut(document: Any, until: str) -> Any:
    """The core of a notebook up to the end of the section in which the step ``until`` is taken."""
    made, kept, inside = core(document), [], False
    for cell in made.cells:
        if cell.cell_type == "markdown" and inside and re.search(r"^## ", cell.source, re.M):
            break
        inside = inside or cell.metadata.get("state") == until
        kept.append(cell)
    if not inside:
        steps = [cell.metadata["state"] for cell in document.cells if cell.metadata.get("state")]
        raise ValueError(f"until={until!r} is no step of this notebook; its steps are {', '.join(steps)}.")
    made.cells = kept
    return made


def write_route(name: str, folder: Path) -> list[Path]:
    """Write the notebooks of a route, numbered in its order, and ``index.md``; the paths, in order."""
    one_of("name", name, ROUTES)
    folder.mkdir(parents=True, exist_ok=True)
    written, lines, start = [], [f"# {name}", "", "| minutes | notebook | what you do |", "|---|---|---|"], 0
    for number, stop in enumerate(ROUTES[name], start=1):
        source = notebook_paths()[stop.notebook]
        path = folder / f"{number:02d}_{source.stem[3:]}.ipynb"
        nbformat.write(cut(copy.deepcopy(nbformat.read(source, as_version=4)), stop.until), path)
        lines.append(f"| {start}-{start + stop.minutes} | [{source.stem[:2]}]({path.name}) | {stop.what} |")
        start += stop.minutes
        written.append(path)
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return written
