"""Every route is the start of notebooks in their order, and its index page says how long it takes."""

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest

from devilgan_lite.classroom.lesson.editions import core, is_bonus
from devilgan_lite.classroom.lesson.reading import notebook_paths
from devilgan_lite.classroom.lesson.routes import BREAK, ROUTES, cut, write_route

MINUTES = {"20-minutes": 20, "90-minutes": 90, "half-day": 210}


def notebook(number: str) -> Any:
    return nbformat.read(notebook_paths()[number], as_version=4)


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_fills_its_time(name: str, tmp_path: Path) -> None:
    stops, written = ROUTES[name], write_route(name, tmp_path)
    assert sum(stop.minutes for stop in stops) == MINUTES[name]
    assert len(written) == sum(stop.notebook != BREAK for stop in stops)
    page = (tmp_path / "index.md").read_text(encoding="utf-8")
    links = re.findall(r"\[(.+?)\]\((.+?)\)", page)
    assert [file for _, file in links] == [path.name for path in written] and f"-{MINUTES[name]} |" in page
    assert all(file.startswith(f"{label}_") for label, file in links)  # "notebook 05" is the file 05_...
    for path in written:
        cells = nbformat.read(path, as_version=4).cells
        assert cells and not [cell for cell in cells if is_bonus(cell)]


def test_an_hour_and_a_half_goes_through_three_attacks_a_detection_and_both_cures() -> None:
    assert {"02", "03", "04", "05", "07", "08"} <= {stop.notebook for stop in ROUTES["90-minutes"]}


def code_of(document: Any) -> list[str]:
    return [cell.source for cell in document.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_is_a_part_of_what_a_learner_runs(name: str, tmp_path: Path) -> None:
    """Its cells are the first of each core; own models, which test_learner.py hands on, come all or none."""
    stops = [stop.notebook for stop in ROUTES[name] if stop.notebook != BREAK]
    assert stops == sorted(stops)
    kept: set[str] = set()
    for number, path in zip(stops, write_route(name, tmp_path), strict=True):
        code, longer = code_of(nbformat.read(path, as_version=4)), code_of(core(notebook(number)))
        assert code and code == longer[: len(code)]
        kept |= {own for cell in code for own in re.findall(r'^keep\("(\w+)"', cell, re.MULTILINE)}
        if any("mine(" in cell for cell in code):
            assert kept == {"clean", "trail", "red", "rex", "gate"}


@pytest.mark.parametrize("page", ["routes.md", "instructor_guide.md"])
def test_the_pages_follow_the_routes_minute_by_minute(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    for name in ("90-minutes", "half-day"):
        start = 0
        for stop in ROUTES[name]:
            assert f"| {start}-{start + stop.minutes} |" in text, f"{page}: {name}, minute {start}"
            start += stop.minutes


def test_an_unknown_step_is_refused() -> None:
    document = notebook("03")
    with pytest.raises(ValueError, match="until='atack' is no step of this notebook; its steps are setup, attack"):
        cut(document, "atack")
