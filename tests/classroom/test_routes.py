"""Every route runs from start to end, in order, in one folder, and its index page says how long it takes."""

import re
from pathlib import Path

import nbformat
import pytest

from devilgan_lite import runs
from devilgan_lite.classroom.lesson.editions import is_bonus
from devilgan_lite.classroom.lesson.reading import notebook_paths
from devilgan_lite.classroom.lesson.routes import BREAK, ROUTES, cut, write_route

MINUTES = {"20-minutes": 20, "90-minutes": 90, "half-day": 210}


@pytest.mark.parametrize("name", ROUTES)
def test_a_route_fills_its_time(name: str, tmp_path: Path) -> None:
    stops, written = ROUTES[name], write_route(name, tmp_path)
    assert sum(stop.minutes for stop in stops) == MINUTES[name]
    assert len(written) == sum(stop.notebook != BREAK for stop in stops)
    page = (tmp_path / "index.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((.+?)\)", page) == [path.name for path in written] and f"-{MINUTES[name]} |" in page
    for path in written:
        cells = nbformat.read(path, as_version=4).cells
        assert cells and not [cell for cell in cells if is_bonus(cell)]


def test_an_hour_and_a_half_goes_through_three_attacks_a_detection_and_both_cures() -> None:
    assert {"02", "03", "04", "05", "07", "08"} <= {stop.notebook for stop in ROUTES["90-minutes"]}


RAN: list[list[str]] = []  # the code of each notebook of a route that ran


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(ROUTES, key=lambda name: -MINUTES[name]))
def test_a_route_runs_from_start_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_MINE", str(tmp_path / "mine"))
    for path in write_route(name, tmp_path / "route"):
        code = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        if any(code == longer[: len(code)] for longer in RAN):
            continue  # a longer route has run these cells, and more
        result = runs.run(path, {"profile": "smoke"}, tmp_path / "out", timeout=240)
        assert result.ok, f"{path.stem}: {result.error}"
        RAN.append(code)


@pytest.mark.parametrize("page", ["routes.md", "instructor_guide.md"])
def test_the_pages_follow_the_routes_minute_by_minute(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / page).read_text(encoding="utf-8")
    for name in ("90-minutes", "half-day"):
        start = 0
        for stop in ROUTES[name]:
            assert f"| {start}-{start + stop.minutes} |" in text, f"{page}: {name}, minute {start}"
            start += stop.minutes


def test_an_unknown_step_is_refused() -> None:
    document = nbformat.read(notebook_paths()["03"], as_version=4)
    with pytest.raises(ValueError, match="until='atack' is no step of this notebook; its steps are setup, attack"):
        cut(document, "atack")
