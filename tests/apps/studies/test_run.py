"""The runner: bad parameters never reach a kernel, good ones do, and a failed run never looks like a success."""

import base64
import html
import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import nbformat.v4 as v4
import pytest

from devilgan_lite.apps import studies
from devilgan_lite.apps.parameters import parse_cell
from devilgan_lite.apps.studies.notebooks import PROJECT, read_notebook

from .conftest import TINY


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With a sequence of two notebooks in it, 03_tiny and 04_other."""
    source = tmp_path / "notebooks" / "src"
    source.mkdir(parents=True)
    (source / "03_tiny.py").write_text(TINY)
    (source / "04_other.py").write_text("# %%\nx = 1\n")
    monkeypatch.setenv("DEVILGAN_NOTEBOOKS", str(source.parent))
    return tmp_path


def test_bad_parameters_are_refused_at_once_and_nothing_is_written(folder: Path, refuses: Callable[..., str]) -> None:
    run = partial(studies.run, 3, out=folder / "out")
    wrong = [
        ("seed", "1"), ("seed", 1.0), ("seed", True), ("seed", None), ("seed", -1), ("seed", 10_001), ("lam", 0),
        ("lam", float("inf")), ("lam", float("nan")), ("steps", 0), ("target", "devl"), ("live", 1), ("lams", []),
        ("lams", [0.1, 1000]), ("lams", 0.1), ("note", 3),
    ]  # fmt: skip
    said = {f"{name}={value}": refuses(partial(run, {name: value}), f"{name}={value!r}") for name, value in wrong}
    assert "from 0 to 10000" in said["seed=1"] and "None" in said["steps=0"] and "'devil'" in said["target=devl"]
    refuses(partial(run, {"sed": 1}), "'sed'", "'seed'")  # did you mean
    assert len(refuses(partial(run, {"target": "x" * 10_000}), "target=")) < 300
    for name, value in (("timeout", 0), ("timeout", 1e6), ("memory_mb", 49), ("memory_mb", 1e9)):
        refuses(partial(run, **{name: value}), f"{name}={value}")
    (folder / "broken.ipynb").write_text("{")
    refuses(partial(studies.run, folder / "broken.ipynb", out=folder / "out"), "broken.ipynb")
    for line in ("steps = 2 * 3", "import os", "a = b = 1", "x: int = 3"):
        refuses(partial(parse_cell, line), "line 1")
    assert not (folder / "out").exists()


def test_a_mistyped_parameter_is_refused_before_anything_heavy_is_imported(folder: Path) -> None:
    source, heavy = folder / "notebooks/src/03_tiny.py", {"torch", "numpy", "pandas", "jupytext", "nbformat"}
    nbformat.write(read_notebook(source), folder / "built.ipynb")
    (folder / "study.yml").write_text("notebook: built.ipynb\nparameters: {lam: 1000}\n")
    code = "import sys\nfrom devilgan_lite.cli import app\ntry:\n    app()\nfinally:\n    print(*sys.modules)"
    for words, named in ((["run", "3", "-p", "lamm=1"], "lamm"), (["sweep", "study.yml"], "lam=1000")):
        how: dict[str, Any] = {"cwd": folder, "capture_output": True, "text": True, "timeout": 300}
        done = subprocess.run([sys.executable, "-c", code, *words], **how)
        assert done.returncode == 2 and named in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        assert not (heavy | {"matplotlib", "papermill", "distributed"}) & set(done.stdout.split())


def test_parameters_in_the_text_are_those_that_jupytext_reads() -> None:
    places = (PROJECT / place for place in ("notebooks", "notebooks/src", "studies"))
    paths = sorted(one for place in places for one in place.glob("*.*py*"))
    assert len(paths) > 30
    for path in paths:
        tagged = [cell for cell in read_notebook(path).cells if "parameters" in cell.metadata.get("tags", [])]
        assert tagged and studies.notebook_parameters(path) == parse_cell(tagged[0].source), path


def test_a_run_leaves_the_notebook_its_numbers_and_a_page(folder: Path) -> None:
    result = studies.run("3", {"seed": 7, "steps": 40, "lam": 1}, out=folder / "out", timeout=300)
    place = folder / "out" / "03_tiny"
    assert result.ok and result.path == place / "03_tiny.ipynb", result.error
    assert result.peak_memory_mb == 12.5 and result.seconds > 0
    assert (result.numbers["seed"], result.numbers["steps"]) == (7, 40)
    assert (result.numbers["python"], result.numbers["where"]) == (sys.executable, str(place))
    assert sorted(path.name for path in place.iterdir()) == ["03_tiny.ipynb", "log.txt", "result.json"]
    log = (place / "log.txt").read_text().splitlines()
    assert log[0] == 'parameters: {"seed": 7, "steps": 40, "lam": 1}' and log[-1].startswith("finished after ")
    assert any(line.startswith("seed 7 done") for line in log)
    nbformat.validate(executed := nbformat.read(result.path, as_version=4))
    assert "/tmp" not in json.dumps(executed.metadata) and "papermill" not in executed.metadata
    text = studies.index_page([result], folder / "out").read_text()
    assert 'href="03_tiny/03_tiny.html"' in text and "<dt>seed</dt><dd>7</dd>" in text and "1 of 1" in text
    assert (place / "03_tiny.html").is_file()


@pytest.mark.parametrize(
    ("mode", "failure", "reason"),
    [
        ("die", "kernel", "the kernel died"),
        ("sleep", "time", "not finished after 3 s"),
        ("eat", "memory", "MB, more than 300 MB."),
    ],
)
def test_what_goes_wrong_inside_is_one_line(folder: Path, mode: str, failure: str, reason: str) -> None:
    stale = folder / "out" / "03_tiny" / "result.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"numbers": {"seed": 99}}')
    timeout = 3 if mode == "sleep" else 300
    result = studies.run("03_tiny", {"mode": mode}, out=folder / "out", timeout=timeout, memory_mb=300)
    assert not result.ok and reason in str(result.error) and "\n" not in str(result.error)
    assert result.result == {} and result.failure == failure
    left = json.loads(stale.read_text())
    assert (left["settings"], left["error"], left["failure"]) == ({"mode": mode}, result.error, failure)
    assert (stale.parent / "log.txt").read_text().splitlines()[-1].startswith(f"failed: {result.error} after")
    page = studies.index_page(
        [studies.Result("03_tiny", folder / "none.ipynb", 1.0, {}, result.error)], folder / "page.html"
    )
    assert "failed: " in page.read_text() and "0 of 1" in page.read_text()


def image(alt: str) -> Any:
    """An output with a picture whose bytes are the words in ``alt``."""
    source = base64.b64encode(alt.encode()).decode()
    return v4.new_output("display_data", {"image/png": source}, metadata={"image/png": {"alt": alt}})


def test_the_index_leads_with_the_picture_of_the_cell_tagged_hero_else_the_first(folder: Path) -> None:
    first, second = (v4.new_code_cell(outputs=[image(alt)]) for alt in ("first", 'a "second" <one>'))
    prose = v4.new_markdown_cell("# A title\n\n**You will see\none sentence.** And more.")
    path, pictures = folder / "03_tiny.ipynb", r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">'
    for tags, alt in (([], "first"), (["hero"], 'a "second" <one>')):
        second.metadata.tags = tags
        nbformat.write(v4.new_notebook(cells=[prose, first, second]), path)
        text = studies.index_page([studies.Result("03_tiny", path, 61.0)], folder / "out").read_text()
        [(said, source)] = re.findall(pictures, text)
        assert (html.unescape(said), base64.b64decode(source).decode()) == (alt, alt)
    assert "A title" in text and "You will see one sentence." in text and "1 min 01 s" in text
    assert not re.search(r"<script|https?://|<link", text), "the page must stand alone"
    waiting = studies.Result("03_tiny", folder / "none.ipynb", 0.0, error="interrupted", failure="unfinished")
    text = studies.index_page(
        [waiting, studies.Result("99_gone", folder / "no.ipynb", 1.0)], folder / "out"
    ).read_text()
    assert "A tiny notebook" in text and "99_gone" in text and text.count("no picture yet") == 2
    assert "interrupted" in text and "failed: " not in text


def test_a_page_shows_what_a_folded_cell_printed_and_not_its_source(folder: Path) -> None:
    (folder / "05_help.py").write_text('# %%\nhints("look", solution="the_answer")\n\n# %%\nshown = 1\n')
    document = read_notebook(folder / "05_help.py")
    document.cells[0].outputs = [v4.new_output("stream", text="folded below")]
    nbformat.write(document, folder / "05_help.ipynb")
    text = studies.to_html(folder / "05_help.ipynb").read_text()
    assert "the_answer" not in text and "folded below" in text and "shown" in text


def test_notebooks_are_found_and_their_parameters_are_read(folder: Path, refuses: Callable[..., str]) -> None:
    source = folder / "notebooks" / "src" / "03_tiny.py"
    assert studies.notebook_list() == ["03_tiny", "04_other"] and studies.notebook_parameters(4) == {}
    assert {studies.find_notebook(name) for name in (3, "3", "03", "03_tiny", source, str(source))} == {source}
    nbformat.write(v4.new_notebook(), folder / "notebooks" / "05_built.ipynb")
    assert studies.find_notebook(5).name == "05_built.ipynb"
    refuses(lambda: studies.find_notebook("03_tin"), "03_tin", "'03_tiny'")
    refuses(lambda: studies.find_notebook("no/such.ipynb"), "no/such.ipynb")

    found = studies.notebook_parameters(3)
    limits = {name: (found[name].low, found[name].high) for name in ("seed", "lam", "steps")}
    assert limits == {"seed": (0, 10_000), "lam": (0.0001, 100), "steps": (1, 1_000_000)}
    assert found["steps"].what == "iterations (None: from the profile)" and found["steps"].default is None
    assert found["target"].choices == ("stop-sign", "devil", "digit-7") and found["lams"].default == [0.1, 1.0]
    for name, value in (("steps", None), ("lam", 3), ("lam", 0.0001), ("lam", 100), ("seed", 10_000), ("lams", [1])):
        found[name].check(value)
    for text, value in (("40", 40), ("0.1", 0.1), ("None", None), ("stop-sign", "stop-sign"), ("true", True)):
        assert studies.parse_value(text) == value and type(studies.parse_value(text)) is type(value)
