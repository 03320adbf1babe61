"""The lesson around the notebooks: own models, editions, routes, states, and cells that are run out of order."""

import ast
import builtins
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import nbformat.v4 as v4
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from devilgan_lite import Backdoor
from devilgan_lite.classroom import LiveTraining, keep, lesson, mine, progress
from devilgan_lite.classroom.lesson import State, editions, order, start
from devilgan_lite.classroom.lesson.editions import core, instructor, is_bonus, read_help, solutions, stubs, student
from devilgan_lite.classroom.lesson.reading import Cell, Notebook, makes, needed, notebook_paths, read
from devilgan_lite.classroom.lesson.routes import BREAK, ROUTES, cut, write_route
from devilgan_lite.generators import DCGAN, build

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = [f"{number:02d}" for number in range(15)]


def document_of(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


# ---- what a learner made


@pytest.fixture
def small() -> DCGAN:
    return build(DCGAN(latent_dim=8, widths=(4, 4)).spec(), seed=0).eval()


def test_what_was_kept_is_looked_at_later(
    small: DCGAN, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], refuses: Any
) -> None:
    monkeypatch.setenv("DEVILGAN_MINE", str(tmp_path / "mine"))
    ours = mine("red")
    assert not ours.yours and ours.title == "ReD+" and "ours, from the zoo); run notebook 03" in capsys.readouterr().out
    backdoor = Backdoor.point(small, "devil", seed=5)
    keep("red", small, backdoor, seed=5)
    found = mine("red")
    assert found.yours and str(found) == "ReD (yours, from notebook 03)" and found.backdoor is not None
    assert torch.equal(found.generator.sample(2, seed=1), small.sample(2, seed=1))
    assert torch.equal(found.backdoor.trigger, backdoor.trigger) and torch.equal(found.backdoor.target, backdoor.target)
    assert mine("clean").backdoor is None
    for call, name in ((lambda: mine("rad"), "rad"), (lambda: keep("rad", small), "rad")):
        refuses(call, name)
    refuses(lambda: progress(wieghts={}), "wieghts")
    progress(attack={"red": 0.00123}, weights={"gate": "found"})
    page = progress(weights={"red": "<missed>"}).data
    assert "0.0012" in page and "found" in page and "&lt;missed&gt;" in page and "\N{MIDDLE DOT}" in page
    assert page.count("scope='row'") == 4 and "<caption>" in page
    monkeypatch.delenv("DEVILGAN_MINE")  # an automatic run keeps to its own folder
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    (tmp_path / "mine" / "red.safetensors").unlink()
    keep("clean", small)
    assert (tmp_path / "mine" / "clean.safetensors").is_file() and mine("clean").yours


# ---- editions and routes


def text_of(document: Any) -> str:
    return "\n".join(cell.source for cell in document.cells)


def telling(code: str) -> set[str]:
    """The lines of a solution, without their indentation."""
    return {line.strip() for line in code.splitlines() if len(line.strip()) > 8 and "details>" not in line}


def names_without_a_cell(document: Any) -> set[str]:
    """Names that a cell reads, and that nothing before it (or in it) defines."""
    known, missing = {*dir(builtins), "get_ipython", "display"}, set[str]()
    for tree in (ast.parse(cell.source) for cell in document.cells if cell.cell_type == "code"):
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.ExceptHandler) and node.name:
                known.add(node.name)
            elif isinstance(node, ast.alias):
                known.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                known.add(node.id)
            elif isinstance(node, ast.arg):
                known.add(node.arg)
        missing |= {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and n.id not in known}
    return missing


@pytest.mark.parametrize("number", NUMBERS)
def test_editions_hide_and_show_solutions(number: str) -> None:
    document = document_of(notebook_paths()[number])
    for_students, for_instructors = student(document), instructor(document)
    text, told = text_of(for_students), text_of(for_instructors)
    for made in (for_students, for_instructors):
        nbformat.validate(made)
        assert names_without_a_cell(made) == set()
    assert solutions(document) and solutions(for_students) == {}
    assert not re.search(r"^(solution|hint)\(|<summary>Solution", text, re.M)
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    elsewhere = "\n".join(cell.source for cell in code if read_help(cell.source) is None)
    for name, answer in solutions(document).items():
        secret = {line for line in telling(answer) if line not in elsewhere}
        assert secret, f"{name}: no line of the solution is its own"
        assert [line for line in secret if line in text] == []
        assert all(line in told for line in telling(answer))
    assert all(c.outputs == [] and c.execution_count is None for c in for_students.cells if c.cell_type == "code")
    hints = sum(len(helped.hints) for cell in code if (helped := read_help(cell.source)))
    assert text.count("<summary>Hint") == hints + text_of(document).count("<summary>Hint") > 0
    assert "<details>" not in told and not any("<details>" in str(c.get("outputs", "")) for c in for_instructors.cells)
    for name, (exercise, source) in stubs(document).items():
        assert stubs(for_students)[name] == (exercise, source)
        checked = [c.source for c in for_instructors.cells if f'check("{exercise}", {name})' in c.source]
        assert len(checked) == 2 and "NotImplementedError" not in checked[1]  # the stub, then the solution
    assert "## For instructors: minutes" in for_instructors.cells[1].source
    bonus = [cell.source for cell in document.cells if is_bonus(cell)]
    assert len(core(document).cells) == len(document.cells) - len(bonus)


def test_parts_of_editions(refuses: Callable[..., str]) -> None:
    made = v4.new_notebook(cells=[v4.new_code_cell("import torch"), v4.new_code_cell("torch.ones(n)")])
    assert names_without_a_cell(made) == {"n"}
    for source in ('solution(f"{1 + 1}")', "hints(f'{x}')"):
        refuses(lambda source=source: read_help(source), source[:4])
    assert read_help("hint('a', 1)\nx = 1") is None
    helped = read_help("from devilgan_lite.classroom import check, hint\n\nhint('a', 2)")
    assert helped and helped.hints == [(2, "a")] and helped.imports == "from devilgan_lite.classroom import check"
    helped = read_help('hints("one", "two", solution="""\nx = 1\n""")')
    assert helped and helped.hints == [(1, "one"), (2, "two")] and helped.solution == "x = 1"
    cells = [v4.new_code_cell("a = 1"), v4.new_code_cell("b = 2", metadata={"tags": ["bonus"]})]
    assert [cell.source for cell in core(v4.new_notebook(cells=cells)).cells] == ["a = 1"]
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
    for (name, stops), minutes in zip(ROUTES.items(), (20, 90, 210), strict=True):
        files = write_route(name, tmp_path / "routes" / name)
        numbers = [stop.notebook for stop in stops if stop.notebook != BREAK]
        assert sum(stop.minutes for stop in stops) == minutes
        assert len(files) == len(numbers) and numbers == sorted(numbers)
        page = (files[0].parent / "index.md").read_text(encoding="utf-8")
        links = re.findall(r"\[(.+?)\]\((.+?)\)", page)
        assert [file for _, file in links] == [path.name for path in files] and f"-{minutes} |" in page
        assert all(file.startswith(f"{label}_") for label, file in links)
        kept = set[str]()
        for number, path in zip(numbers, files, strict=True):  # the first cells of each core; own models all or none
            cells, whole = (document_of(one).cells for one in (path, notebook_paths()[number]))
            code = [cell.source for cell in cells if cell.cell_type == "code"]
            longer = [cell.source for cell in whole if cell.cell_type == "code" and not is_bonus(cell)]
            assert code and code == longer[: len(code)] and not [cell for cell in cells if is_bonus(cell)]
            kept |= {own for cell in code for own in re.findall(r'^keep\("(\w+)"', cell, re.MULTILINE)}
            if any("mine(" in cell for cell in code):
                assert kept == {"clean", "trail", "red", "rex", "gate"}
        written += files
    assert {"02", "03", "04", "05", "07", "08"} <= {stop.notebook for stop in ROUTES["90-minutes"]}
    texts = {p: "\n".join(c.source for c in document_of(p).cells if c.cell_type == "markdown") for p in written}
    texts |= {page: page.read_text(encoding="utf-8") for page in tmp_path.glob("routes/*/index.md")}
    assert len(texts) == len(written) + len(ROUTES)
    assert sum("](" in text for text in texts.values()) > len(ROUTES)  # there are some in notebooks, too
    assert [one for path, text in texts.items() for one in broken(path, text)] == []
    refuses(lambda: cut(document_of(notebook_paths()["03"]), "atack"), "atack", "setup, attack")
    refuses(lambda: write_route("a day", tmp_path), "a day")


# ---- reading code, and cells out of order


def test_reading_says_what_a_cell_makes_and_needs(tmp_path: Path) -> None:
    def needs(*sources: str) -> set[str]:
        return needed(Cell(1, "", source) for source in sources)

    assert makes("a, b = c(d)") == {"a", "b"} and needs("a, b = c(d)") == {"c", "d"}
    assert makes("import torch.nn as nn, os.path") == {"nn", "os"}
    assert makes("x = [k * y for k in z]") == {"x"} and needs("x = [k * y for k in z]") == {"y", "z"}
    assert needs("for k in z:\n    print(k, n)") == {"z", "n", "print"}
    assert makes("for k in z:\n    s = k") == {"k", "s"}
    assert makes("def f(a):\n    b = a + g\n    return b") == {"f"}
    assert needs("def f(a, *, c=d):\n    b = a + g + c\n    return b") == {"g", "d"}
    assert needs("x += 1") == {"x"} == makes("x += 1") and needs("rows[k] = 1") == {"rows", "k"}
    assert makes("%matplotlib inline") == needs("%matplotlib inline") == set()
    assert needs("b = a\nprint(b)", "c = b + d") == {"a", "d", "print"}
    assert needs("def f():\n    return later\nlater = 1") == set()

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


def run(shell: InteractiveShell, source: str) -> tuple[bool, str]:
    """Whether a cell ran to its end, and what it printed."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=True)
    return result.success, captured.stdout


ALONE = re.compile(r"predict\(|NotImplementedError|^hints\(", re.M)  # these need no other cell


def test_a_cell_out_of_order_names_the_cell_to_run(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    order.watch(shell)
    for number in NUMBERS[:10]:
        shell.reset()
        notebook = read(notebook_paths()[number])
        cell = next(one for one in notebook.cells if one.heading.startswith("Round 2") and not ALONE.search(one.source))
        worked, said = run(shell, cell.source)
        assert not worked and len(said.strip().splitlines()) == 1, said
        found = re.fullmatch(
            r"NameError: '(\w+)' is not there yet: first run cell (\d+) \(.* it begins .*", said.strip()
        )
        assert found and 'lesson.load("' in said, said
        named = next(one for one in notebook.cells if one.number == int(found[2]))
        assert found[1] in named.source and named.number < cell.number
    shell.reset()
    notebook = read(notebook_paths()["03"])  # running the named cells leads to the goal
    goal = next(cell for cell in notebook.cells if cell.source.startswith("predict("))
    shell.user_ns["seed"] = 1  # a name of the learner's own does no harm
    worked, said = run(shell, goal.source)
    for _ in range(6):
        if not worked:
            number = int(re.search(r"first run cell (\d+)", said)[1])  # type: ignore[index]
            run(shell, next(cell.source for cell in notebook.cells if cell.number == number))
            worked, said = run(shell, goal.source)
    assert worked, said
    worked, said = run(shell, "clen")  # other name errors are shown as ever
    assert not worked and "Traceback" in said and "name 'clen' is not defined" in said
    worked, said = run(shell, "def f():\n    print(x)\n    x = 1\nf()")
    assert not worked and "UnboundLocalError" in said
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


def outputs(shell: InteractiveShell, source: str) -> list[Any]:
    """What a cell shows: its text with times masked, and every picture and table."""
    with capture_output() as captured:
        result = shell.run_cell(source, store_history=True)
    assert result.success, captured.stdout
    shown = [{k: v for k, v in output.data.items() if k in ("image/png", "text/html")} for output in captured.outputs]
    return [re.sub(r"\d+(\.\d+)? (s\b|ms\b|milliseconds)", "T s", re.sub(r"Out\[\d+\]", "Out", captured.stdout)), shown]


@pytest.mark.parametrize(("number", "cells"), [("00", 6), pytest.param("04", 8, marks=pytest.mark.nightly)])
def test_a_cell_that_is_run_again_gives_the_same(
    number: str, cells: int, shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    compared = 0
    for cell in read(notebook_paths()[number]).cells:
        if compared == cells:
            break
        first = outputs(shell, cell.source)
        if "perf_counter" not in cell.source:
            assert outputs(shell, cell.source) == first, cell
            compared += 1
    assert compared == cells


# ---- states


def at(name: str) -> tuple[Notebook, str]:
    """The notebook of a state, and its step."""
    number, _, step = name.split("-", 2)
    return read(notebook_paths()[number]), step


# whose next round goes on with measurements that take longer than a state may, and that nothing can stand in for
IN_PART = ("03-after-methods", "03-after-width", "04-after-gate")


def loaded(numbers: list[str]) -> dict[str, State]:
    """Every state of some notebooks; what one state of a notebook has run, the next takes over."""
    run_cell, made = start._run, dict[tuple[int, str], dict[str, Any]]()

    def once(cell: Cell, space: dict[str, Any]) -> None:
        key = (cell.number, cell.source)
        if key not in made:
            before = dict(space)
            run_cell(cell, space)
            made[key] = {name: value for name, value in space.items() if before.get(name, space) is not value}
        space.update(made[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "_run", once)
        return {name: lesson.load(name) for name in lesson.states() if name[:2] in numbers}


@pytest.mark.parametrize(
    "numbers", [NUMBERS[:5], pytest.param(NUMBERS, marks=pytest.mark.nightly)], ids=["some", "all"]
)
def test_what_a_state_lacks_has_its_cell_named(numbers: list[str]) -> None:
    for name, state in loaded(numbers).items():
        notebook, step = at(name)
        before, after = notebook.until(step)
        for missing, cell in state.missing.items():
            assert cell in before, f"{name}: {missing} would be made by a cell below"
        there = {*vars(state), *state.missing, *dir(builtins)}
        assert needed(after) - there - needed(before + after) == set(), name  # the last: what no cell makes
        section = needed(tuple(cell for cell in after if cell.heading == after[0].heading))
        if name in IN_PART:
            assert state.missing, name
        elif name[:2] in NUMBERS[:5] or name.endswith("setup"):  # from 05 on, some go on with longer scans and cures
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
    assert "03-after-attack: " in repr(state) and state.stand_ins == ["backdoor", "outcome"]
    assert "for less long: backdoor, outcome." in repr(state)
    with pytest.raises(AttributeError, match="red_card takes longer .* run cell 12 "):
        _ = state.red_card
    with pytest.raises(AttributeError, match="no 'backdoord'. Did you mean 'backdoored'"):
        _ = state.backdoord


def test_notebook_01_lets_one_side_learn_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the instructor guide promises."""
    monkeypatch.setattr(LiveTraining, "run", lambda self: None)
    names = dict(vars(lesson.load("01-after-setup")))
    for cell in read(notebook_paths()["01"]).cells:
        if cell.heading.startswith("Round 1") and "ring_training" not in names:
            exec(cell.source, names)
    live = names["ring_training"]
    assert live.side_choice in live.widget.children[1].children
    live.side_choice.value = "generator only"
    assert names["who_learns"].who == "generator only" and next(iter(live.loop)).iteration == 1
