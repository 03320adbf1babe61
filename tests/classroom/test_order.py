"""Out of order: one sentence that names the cell; in order and twice: the same result."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from devilgan_lite.classroom.lesson import order
from devilgan_lite.classroom.lesson.reading import notebook_paths, read

ROOT = Path(__file__).resolve().parents[2]
REPEATED = {"00": 12, "04": 8}  # notebook -> how many of its code cells are run twice


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance(colors="nocolor")
    order.watch(shell)
    yield shell
    shell.history_manager.end_session()
    InteractiveShell.clear_instance()


def run(shell: InteractiveShell, source: str) -> tuple[bool, str]:
    """Whether a cell ran to its end, and what it printed."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=True)
    return result.success, captured.stdout


@pytest.mark.parametrize("number", [f"{number:02d}" for number in range(10)])
def test_a_cell_out_of_order_names_the_cell_to_run(number: str, shell: InteractiveShell) -> None:
    notebook = read(notebook_paths()[number])
    alone = re.compile(r"predict\(|NotImplementedError|^hints\(", re.M)  # these need no other cell
    cell = next(one for one in notebook.cells if one.heading.startswith("Round 2") and not alone.search(one.source))
    worked, said = run(shell, cell.source)
    assert not worked
    lines = said.strip().splitlines()
    found = re.fullmatch(
        r"NameError: '(\w+)' is not there yet: first run cell (\d+) \(.* it begins with .*\).*", lines[0]
    )
    assert len(lines) == 1 and found, said
    assert 'lesson.load("' in lines[0]
    named = next(cell for cell in notebook.cells if cell.number == int(found[2]))
    assert found[1] in named.source and named.number < cell.number


def test_running_the_named_cells_leads_to_the_goal(shell: InteractiveShell) -> None:
    notebook = read(notebook_paths()["03"])
    goal = next(cell for cell in notebook.cells if cell.source.startswith("predict("))
    shell.user_ns["seed"] = 1  # a name of the learner's own does no harm
    worked, said = run(shell, goal.source)
    for _ in range(6):
        if worked:
            break
        number = int(re.search(r"first run cell (\d+)", said)[1])  # type: ignore[index]
        assert run(shell, next(cell.source for cell in notebook.cells if cell.number == number))[0] or True
        worked, said = run(shell, goal.source)
    assert worked


def test_other_name_errors_are_shown_as_ever(shell: InteractiveShell) -> None:
    run(shell, read(notebook_paths()["00"]).cells[1].source)
    worked, said = run(shell, "clen")
    assert not worked and "Traceback" in said and "name 'clen' is not defined" in said
    worked, said = run(shell, "def f():\n    print(x)\n    x = 1\nf()")
    assert not worked and "UnboundLocalError" in said
    assert order.sentence("clean", ["nothing of ours"]) is None


def test_the_name_of_the_file_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_detect_by_model_inspection.ipynb")
    words = order.sentence("analyses", ["print(analyses)"])
    assert words and "(under 'Round 2: wake the silent units'" in words


@pytest.mark.slow
def test_a_bare_kernel_explains_too(tmp_path: Path) -> None:
    """The configuration that make setup installs: a first cell without any import of ours."""
    home = tmp_path / "home" / "profile_default"
    home.mkdir(parents=True)
    (home / "ipython_config.py").write_text((ROOT / "scripts/build/ipython_config.py").read_text())
    cell = next(
        c for c in read(notebook_paths()["03"]).cells if c.heading.startswith("Round 3") and "def means" in c.source
    )
    command = [sys.executable, "-m", "IPython", "--colors=nocolor", "--no-banner", "-c", cell.source]
    environment = os.environ | {
        "IPYTHONDIR": str(home.parent),
        "PYTHONPATH": str(ROOT),
        "JPY_SESSION_NAME": "03_attack_red.ipynb",
    }
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert "NameError: 'reveal' is not there yet: first run cell" in done.stdout + done.stderr


def outputs(shell: InteractiveShell, source: str) -> list[Any]:
    """What a cell shows: its text with times masked, and every picture and table."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=True)
    assert result.success, captured.stdout
    shown = [{k: v for k, v in output.data.items() if k in ("image/png", "text/html")} for output in captured.outputs]
    return [re.sub(r"\d+(\.\d+)? (s\b|ms\b|milliseconds)", "T s", re.sub(r"Out\[\d+\]", "Out", captured.stdout)), shown]


@pytest.mark.slow
@pytest.mark.parametrize("number", REPEATED)
def test_a_cell_that_is_run_again_gives_the_same(number: str, shell: InteractiveShell) -> None:
    compared = 0
    for cell in read(notebook_paths()[number]).cells:
        if compared == REPEATED[number]:
            break
        first = outputs(shell, cell.source)
        if "perf_counter" not in cell.source:
            assert outputs(shell, cell.source) == first, cell
            compared += 1
    assert compared == REPEATED[number]
