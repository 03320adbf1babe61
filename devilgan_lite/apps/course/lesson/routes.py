"""Ways through the notebooks for a given time: some rounds of some notebooks, in order, without their bonus cells.

A route is made from the notebooks as they are: nothing is written twice. A stop goes from the start of a notebook to
the end of one of its steps (``states``); what a later round needs is always above it.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat

from devilgan_lite.apps.course.lesson.editions import core, relinked
from devilgan_lite.apps.course.lesson.reading import notebook_paths
from devilgan_lite.checks import one_of


@dataclass(frozen=True)
class Stop:
    """A notebook (its number), the last step of it that belongs to the route, minutes, and what people do there."""

    notebook: str
    until: str
    minutes: int
    what: str


BREAK = ""  # the notebook of a stop at which people rest
ROUTES: dict[str, tuple[Stop, ...]] = {
    "20-minutes": (
        Stop("00", "scorecard", 15, "watch the film, walk to the trigger, search the samples, read one scorecard"),
        Stop("09", "setup", 5, "watch the film of faces; then scan two models in a terminal"),
    ),
    "90-minutes": (
        Stop("00", "samples", 10, "the film, the walk to the trigger, and why samples do not show it"),
        Stop("01", "garments", 12, "write the step of a GAN; start the garments and talk while they train"),
        Stop("02", "attack", 12, "TrAIL: three more lines in that step"),
        Stop("03", "attack", 12, "ReD: write its step, keep your model"),
        Stop("04", "gate", 10, "ReX: write its step, keep your model; one ReLU"),
        Stop("05", "spectrum", 12, "silent units and the spectrum, on your own models"),
        Stop("07", "distillation", 10, "the first cure: let the suspect teach a copy"),
        Stop("08", "pruning", 12, "the second cure: switch off what nobody uses; quiz and questions"),
    ),
    "half-day": (
        Stop("00", "scorecard", 20, "the tour with every prediction"),
        Stop("01", "yardstick", 25, "the plane, one side learning alone; garments by your own step; a yardstick"),
        Stop("02", "comparison", 20, "TrAIL by your own step, and whether it hides"),
        Stop("03", "width", 25, "ReD by your own step, ReD+; how wide a backdoor is"),
        Stop(BREAK, "", 10, "break"),
        Stop("04", "gate", 20, "ReX by your own step, the closed form, the gate"),
        Stop("05", "scan", 20, "the weights of your own models; one call with four verdicts"),
        Stop("06", "guard", 10, "when a search over latents works, and a guard while the model is used"),
        Stop(BREAK, "", 10, "break"),
        Stop("07", "cuts", 15, "unlearning; a cure or a cage"),
        Stop("08", "table", 15, "pruning; all attacks against all cures"),
        Stop("10", "key", 20, "the game: which of these models are backdoored?"),
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
    """Write the notebooks of a route, under their own names, and ``index.md``; the paths, in order."""
    one_of("name", name, ROUTES)
    folder.mkdir(parents=True, exist_ok=True)
    written: list[Path] = []
    lines, start = [f"# {name}", "", "| minutes | notebook | what you do |", "|---|---|---|"], 0
    for stop in ROUTES[name]:
        link = ""
        if stop.notebook != BREAK:
            source = notebook_paths()[stop.notebook]
            path = folder / source.name
            nbformat.write(relinked(cut(nbformat.read(source, as_version=4), stop.until), source, path), path)
            link = f"[{stop.notebook}]({path.name})"
            written.append(path)
        lines.append(f"| {start}-{start + stop.minutes} | {link} | {stop.what} |")
        start += stop.minutes
    (folder / "index.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return written
