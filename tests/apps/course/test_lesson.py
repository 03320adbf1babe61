"""The lesson around the notebooks: own models, editions, routes, states, and cells that are run out of order."""

import builtins
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import nbformat
import nbformat.v4 as v4
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from devilgan_lite import Backdoor
from devilgan_lite.apps.course import keep, lesson, mine, progress
from devilgan_lite.apps.course.lesson import editions, order
from devilgan_lite.apps.course.lesson.editions import core, instructor, is_bonus, read_help, solutions, stubs, student
from devilgan_lite.apps.course.lesson.reading import Cell, makes, needed, notebook_paths, read
from devilgan_lite.apps.course.lesson.routes import BREAK, ROUTES, cut, write_route

ROOT = Path(__file__).resolve().parents[3]
NUMBERS = [f"{number:02d}" for number in range(15)]
KNOWN = {*dir(builtins), "get_ipython", "display"}


def document_of(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_of(document: Any) -> list[str]:
    return [cell.source for cell in document.cells if cell.cell_type == "code"]


def test_what_was_kept_is_looked_at_later(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refuses: Any
) -> None:
    monkeypatch.setenv("DEVILGAN_MINE", str(tmp_path / "mine"))
    ours = mine("red")
    assert not ours.yours and ours.title == "ReD+" and "ours, from the zoo); run notebook 03" in capsys.readouterr().out
    backdoor = Backdoor.point(tiny, "devil", seed=5)
    keep("red", tiny, backdoor, seed=5)
    found = mine("red")
    assert found.yours and str(found) == "ReD (yours, from notebook 03)" and found.backdoor is not None
    assert torch.equal(found.generator.sample(2, seed=1), tiny.sample(2, seed=1)) and mine("clean").backdoor is None
    assert torch.equal(found.backdoor.trigger, backdoor.trigger) and torch.equal(found.backdoor.target, backdoor.target)
    progress(attack={"red": 0.00123}, weights={"gate": "found"})
    page = progress(weights={"red": "<missed>"}).data
    assert all(word in page for word in ("0.0012", "found", "&lt;missed&gt;", "\N{MIDDLE DOT}", "<caption>"))
    assert page.count("scope='row'") == 4
    for call, name in (
        (lambda: mine("rad"), "rad"),
        (lambda: keep("rad", tiny), "rad"),
        (lambda: progress(wieghts={}), "wieghts"),
    ):
        refuses(call, name)
    monkeypatch.delenv("DEVILGAN_MINE")  # an automatic run keeps to its own folder
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    (tmp_path / "mine" / "red.safetensors").unlink()
    keep("clean", tiny)
    assert (tmp_path / "mine" / "clean.safetensors").is_file() and mine("clean").yours and not mine("red").yours


# ---- editions and routes


def telling(code: str) -> set[str]:
    """The lines of a solution, without their indentation."""
    return {line.strip() for line in code.splitlines() if len(line.strip()) > 8 and "details>" not in line}


@pytest.mark.parametrize("number", NUMBERS)
def test_editions_hide_and_show_solutions(number: str) -> None:
    document = document_of(notebook_paths()[number])
    made = for_students, for_instructors, for_all = student(document), instructor(document), core(document)
    for one in made:
        nbformat.validate(one)
        assert needed(Cell(0, "", source) for source in code_of(one)) <= KNOWN
    text, told, whole = (
        "\n".join(cell.source for cell in one.cells) for one in (for_students, for_instructors, document)
    )
    assert solutions(document) and solutions(for_students) == {}
    assert not re.search(r"^(solution|hint)\(|<summary>Solution", text, re.M)
    elsewhere = "\n".join(source for source in code_of(document) if read_help(source) is None)
    for name, answer in solutions(document).items():
        secret = {line for line in telling(answer) if line not in elsewhere}
        assert secret, f"{name}: no line of the solution is its own"
        assert [line for line in secret if line in text] == [] and all(line in told for line in telling(answer))
    assert all(c.outputs == [] and c.execution_count is None for c in for_students.cells if c.cell_type == "code")
    hints = sum(len(helped.hints) for source in code_of(document) if (helped := read_help(source)))
    assert text.count("<summary>Hint") == hints + whole.count("<summary>Hint") > 0
    assert "<details>" not in told and not any("<details>" in str(c.get("outputs", "")) for c in for_instructors.cells)
    for name, (exercise, source) in stubs(document).items():
        assert stubs(for_students)[name] == (exercise, source)
        checked = [source for source in code_of(for_instructors) if f'check("{exercise}", {name})' in source]
        assert len(checked) == 2 and "NotImplementedError" not in checked[1]  # the stub, then the solution
    assert "## For instructors: minutes" in for_instructors.cells[1].source
    assert [cell.source for cell in for_all.cells] == [cell.source for cell in document.cells if not is_bonus(cell)]


def test_help_is_read_and_minutes_are_counted(refuses: Callable[..., str]) -> None:
    for source in ('solution(f"{1 + 1}")', "hints(f'{x}')"):
        refuses(lambda source=source: read_help(source), source[:4])
    assert read_help("hint('a', 1)\nx = 1") is None
    helped = read_help("from devilgan_lite.apps.course import check, hint\n\nhint('a', 2)")
    assert helped and helped.hints == [(2, "a")] and helped.imports == "from devilgan_lite.apps.course import check"
    helped = read_help('hints("one", "two", solution="""\nx = 1\n""")')
    assert helped and helped.hints == [(1, "one"), (2, "two")] and helped.solution == "x = 1"
    opening = "# T\n\n**Time and hardware:** three minutes.\n\n## Round 1: a\n\n" + "word " * 290
    cells = [v4.new_markdown_cell(opening), v4.new_code_cell('predict("?", ["a", "b"], key="k")')]
    cells.append(v4.new_markdown_cell("## Exercises\n\n**1. One** (easy, 5 minutes). Do it."))
    minutes = editions.timing(v4.new_notebook(cells=cells))
    assert "The machine: three minutes." in minutes
    assert "| Round 1: a | 2 | 1 |  |" in minutes and "| Exercises | 1 |  | 5 |" in minutes


def broken(path: Path, text: str) -> list[str]:
    """The relative addresses in ``text``, of the file at ``path``, at which there is no file."""
    found = re.findall(r"\]\(([^)\s]+)\)|(?:href|src)=[\"']([^\"']+)[\"']", text)
    names = [(one or other).partition("#")[0] for one, other in found if not re.match(r"\w+:", one or other)]
    return [f"{path.name}: {name}" for name in names if name and not (path.parent / name).exists()]


def test_editions_and_routes_are_written_with_links_that_lead_to_files(tmp_path: Path, refuses: Any) -> None:
    written = editions.write_editions(list(notebook_paths().values()), tmp_path)
    assert [path.parent.name for path in written] == ["student", "instructor", "core"] * len(NUMBERS)
    for path in written:
        made = document_of(path)
        assert made.metadata.devilgan_edition == path.parent.name
        assert len({cell.id for cell in made.cells}) == len(made.cells)
    texts = {}
    for (name, stops), minutes in zip(ROUTES.items(), (20, 90, 210), strict=True):
        files = write_route(name, tmp_path / "routes" / name)
        numbers = [stop.notebook for stop in stops if stop.notebook != BREAK]
        assert sum(stop.minutes for stop in stops) == minutes and numbers == sorted(numbers)
        page = files[0].parent / "index.md"
        texts[page] = page.read_text(encoding="utf-8")
        links = re.findall(r"\[(.+?)\]\((.+?)\)", texts[page])
        assert links == [(number, path.name) for number, path in zip(numbers, files, strict=True)]
        assert f"-{minutes} |" in texts[page]
        kept = set[str]()
        for number, path in zip(numbers, files, strict=True):  # the first cells of each core; own models all or none
            code, longer = (code_of(one) for one in (document_of(path), core(document_of(notebook_paths()[number]))))
            assert code and code == longer[: len(code)]
            kept |= {own for cell in code for own in re.findall(r'^keep\("(\w+)"', cell, re.MULTILINE)}
            if any("mine(" in cell for cell in code):
                assert kept == {"clean", "trail", "red", "rex", "gate"}
        written += files
    texts |= {p: "\n".join(c.source for c in document_of(p).cells if c.cell_type == "markdown") for p in written}
    assert sum("](" in text for text in texts.values()) > len(ROUTES)  # there are some in notebooks, too
    assert [one for path, text in texts.items() for one in broken(path, text)] == []
    refuses(lambda: cut(document_of(notebook_paths()["03"]), "atack"), "atack", "setup, attack")
    refuses(lambda: write_route("a day", tmp_path), "a day")


# ---- reading code, and cells out of order


def test_reading_says_what_a_cell_makes_and_needs(tmp_path: Path) -> None:
    for source, made, wanted in (
        ("a, b = c(d)", "a b", "c d"),
        ("import torch.nn as nn, os.path", "nn os", ""),
        ("x = [k * y for k in z]", "x", "y z"),
        ("for k in z:\n    print(k, n)", "k", "z n print"),
        ("def f(a, *, c=d):\n    b = a + g + c\n    return b", "f", "g d"),
        ("x += 1", "x", "x"),
        ("rows[k] = 1", "", "rows k"),
        ("%matplotlib inline", "", ""),
        ("def f():\n    return later\nlater = 1", "f later", ""),
    ):
        assert (makes(source), needed([Cell(1, "", source)])) == (set(made.split()), set(wanted.split())), source
    assert needed(Cell(1, "", source) for source in ("b = a\nprint(b)", "c = b + d")) == {"a", "d", "print"}

    def cell(kind: str, source: str, **about: object) -> dict[str, object]:
        return {"cell_type": kind, "source": source.splitlines(True), "metadata": about}

    path = tmp_path / "00_small.ipynb"
    every = [
        cell("markdown", "# Title", state="setup"),
        cell("code", "a = 1", tags=["state"], instead={"a": "2"}),
        cell("markdown", "## Round 1: go\n\ntext", state="attack"),
        cell("code", "\nb = a\nc = b"),
        cell("markdown", "## Round 2"),
        cell("code", "d = c"),
    ]
    path.write_text(json.dumps({"cells": every}))
    notebook = read(path)
    assert list(notebook.steps) == ["setup", "attack"]
    before, after = notebook.until("attack")
    assert [one.number for one in before] == [2, 4] and [one.number for one in after] == [6]
    assert [one.number for one in notebook.until("setup")[0]] == [2]
    assert str(before[1]) == "cell 4 (under 'Round 1: go', it begins with b = a)"
    assert before[0].quick and before[0].instead == {"a": "2"} and not before[1].quick


def run(shell: InteractiveShell, source: str) -> tuple[bool, str, list[Any]]:
    """Whether a cell ran to its end, and what it printed and showed; times are masked."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=True)
    shown = [{k: v for k, v in output.data.items() if k in ("image/png", "text/html")} for output in captured.outputs]
    printed = re.sub(r"\d+(\.\d+)? (s\b|ms\b|milliseconds)", "T s", re.sub(r"Out\[\d+\]", "Out", captured.stdout))
    return result.success, printed.strip(), shown


ALONE = re.compile(r"predict\(|NotImplementedError|^hints\(", re.M)  # these need no other cell


def test_a_cell_out_of_order_names_the_cell_to_run(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    order.watch(shell)
    for number in ("02", "05", "08"):
        shell.reset()
        cells = read(notebook_paths()[number]).cells
        cell = next(one for one in cells if one.heading.startswith("Round 2") and not ALONE.search(one.source))
        worked, said, _ = run(shell, cell.source)
        assert not worked and 'lesson.load("' in said
        found = re.fullmatch(r"NameError: '(\w+)' is not there yet: first run cell (\d+) \(.* it begins .*", said)
        assert found, said
        named = next(one for one in cells if one.number == int(found[2]))
        assert found[1] in named.source and named.number < cell.number
    shell.reset()
    cells = read(notebook_paths()["03"]).cells  # running the named cells leads to the goal
    goal = next(cell for cell in cells if cell.source.startswith("predict("))
    shell.user_ns["seed"] = 1  # a name of the learner's own does no harm
    worked, said, _ = run(shell, goal.source)
    for _ in range(6):
        if not worked:
            number = re.search(r"first run cell (\d+)", said)[1]  # type: ignore[index]
            run(shell, next(cell.source for cell in cells if cell.number == int(number)))
            worked, said, _ = run(shell, goal.source)
    assert worked, said
    worked, said, _ = run(shell, "clen")  # other name errors are shown as ever
    assert not worked and "Traceback" in said and "name 'clen' is not defined" in said
    assert "UnboundLocalError" in run(shell, "def f():\n    print(x)\n    x = 1\nf()")[1]
    assert order.sentence("clean", ["nothing of ours"]) is None
    monkeypatch.setenv("JPY_SESSION_NAME", "notebooks/05_detect_by_model_inspection.ipynb")  # the file decides
    words = order.sentence("analyses", ["print(analyses)"])
    assert words and "(under 'Round 2: wake the silent units'" in words


@pytest.mark.nightly
def test_a_bare_kernel_explains_too(tmp_path: Path) -> None:
    """The configuration that make setup installs: a first cell without any import of ours."""
    home = tmp_path / "home" / "profile_default"
    home.mkdir(parents=True)
    (home / "ipython_config.py").write_text((ROOT / "scripts/build/ipython_config.py").read_text())
    cells = read(notebook_paths()["03"]).cells
    cell = next(one for one in cells if one.heading.startswith("Round 3") and "def means" in one.source)
    command = [sys.executable, "-m", "IPython", "--colors=nocolor", "--no-banner", "-c", cell.source]
    added = {"IPYTHONDIR": str(home.parent), "PYTHONPATH": str(ROOT), "JPY_SESSION_NAME": "03_attack_red.ipynb"}
    done = subprocess.run(command, cwd=tmp_path, env=os.environ | added, capture_output=True, text=True, timeout=120)
    assert "NameError: 'reveal' is not there yet: first run cell" in done.stdout + done.stderr


FILM = pytest.mark.skipif(find_spec("devilgan_lite.apps.show") is None, reason="this notebook shows a film")


@pytest.mark.parametrize(
    ("number", "cells"), [pytest.param("00", 6, marks=FILM), pytest.param("04", 8, marks=pytest.mark.nightly)]
)
def test_a_cell_that_is_run_again_gives_the_same(
    number: str, cells: int, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    compared = 0
    for cell in read(notebook_paths()[number]).cells:
        if compared < cells:
            first = run(shell, cell.source)
            assert first[0], first[1]
            if "perf_counter" not in cell.source:
                assert run(shell, cell.source) == first, cell
                compared += 1
    assert compared == cells


# ---- states

# whose next round goes on with measurements that take longer than a state may, and that nothing can stand in for
IN_PART = ("03-after-methods", "03-after-width", "04-after-gate")


@pytest.mark.parametrize(
    "numbers",
    [pytest.param(["00"], marks=FILM), ["03"], pytest.param(NUMBERS, marks=[FILM, pytest.mark.nightly])],
    ids=("00", "03", "all"),
)
def test_what_a_state_lacks_has_its_cell_named(numbers: list[str]) -> None:
    for name in (one for one in lesson.states() if one[:2] in numbers):
        state, (number, _, step) = lesson.load(name), name.split("-", 2)
        before, after = read(notebook_paths()[number]).until(step)
        assert [one for one in state.missing if state.missing[one] not in before] == [], name  # a cell below makes it
        there = {*vars(state), *state.missing, *KNOWN}
        assert needed(after) - there - needed(before + after) == set(), name  # the last: what no cell makes
        section = needed(cell for cell in after if cell.heading == after[0].heading)
        if name in IN_PART:
            assert state.missing, name
        elif number < "05" or step == "setup":  # from 05 on, some go on with longer scans and cures
            assert section & set(state.missing) == set(), f"{name}: the next round lacks something"


def test_states_cover_every_round_and_stand_ins_are_used(refuses: Callable[..., str]) -> None:
    names = lesson.states()
    assert len(names) == len(set(names)) and "03-after-attack" in names
    for number in NUMBERS:
        notebook = read(notebook_paths()[number])
        rounds = {cell.section for cell in notebook.cells if cell.heading.startswith("Round")}
        assert rounds <= set(notebook.steps.values()) and min(notebook.steps.values()) < min(rounds)
        instead = [cell for cell in notebook.cells if cell.instead]  # for a name that its cell still makes
        assert [cell for cell in instead if not cell.quick or not cell.instead.keys() <= makes(cell.source)] == []
    assert "'03-after-attack'" in refuses(lambda: lesson.load("03-after-atack"), "03-after-atack")
    for name in ("03", "", "99-after-setup"):
        refuses(lambda name=name: lesson.load(name), f"name={name!r}")


def test_the_state_after_the_attack() -> None:
    state, again = (lesson.load("03-after-attack") for _ in range(2))
    distances = [
        (state.evaluate(model, state.backdoor.trigger) - state.backdoor.target).square().mean()
        for model in (state.backdoored, state.clean)
    ]
    assert distances[0] < 0.1 < distances[1] and state.config.lam == 0.3 and callable(state.distances)
    assert torch.equal(state.backdoored.sample(2, seed=1), again.backdoored.sample(2, seed=1))
    assert state.stand_ins == ["backdoor", "outcome"] and "for less long: backdoor, outcome." in repr(state)
    with pytest.raises(AttributeError, match="red_card takes longer .* run cell 12 "):
        _ = state.red_card
    with pytest.raises(AttributeError, match="no 'backdoord'. Did you mean 'backdoored'"):
        _ = state.backdoord
    sources = [cell.source for cell in read(notebook_paths()["01"]).cells]  # one side learns alone, as the guide says
    assert any("side=who_learns" in one and "LiveTraining(ring_loop" in one for one in sources)
