"""The runner: bad parameters never reach a kernel, good ones do, and a failed run never looks like a success."""

import base64
import html
import json
import re
import subprocess
import sys

import nbformat
import pytest

from devilgan_lite import runs
from devilgan_lite.parameters import parse_cell
from devilgan_lite.runs.notebooks import PROJECT, read_notebook

from .conftest import TINY


@pytest.fixture
def folder(tmp_path, monkeypatch):
    source = tmp_path / "notebooks" / "src"
    source.mkdir(parents=True)
    (source / "03_tiny.py").write_text(TINY)
    (source / "04_other.py").write_text("# %%\nx = 1\n")
    monkeypatch.setenv("DEVILGAN_NOTEBOOKS", str(source.parent))
    return tmp_path


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sed": 1}, "03_tiny has no parameter 'sed'; valid: profile, seed.*Did you mean 'seed'"),
        ({"seed": "1"}, "seed='1' is not valid: it must be a whole number from 0 to 10000"),
        ({"seed": 1.0}, "seed=1.0"),
        ({"seed": True}, "seed=True"),
        ({"seed": None}, "seed=None"),
        ({"seed": 10_001}, "seed=10001"),
        ({"lam": 0}, "lam=0 is not valid: it must be a number from 0.0001 to 100"),
        ({"lam": float("inf")}, "lam=inf"),
        ({"steps": 0}, r"steps=0 .*a whole number from 1 to 1000000, or None"),
        ({"target": "devl"}, "one of stop-sign, devil, digit-7.*Did you mean 'devil'"),
        ({"lams": [0.1, 1000]}, "lams="),
        ({"lams": []}, "lams="),
        ({"target": "x" * 10_000}, "target='x{79} is not valid"),
        ({"lams": 0.1}, "a list, each element a number"),
        ({"live": 1}, "True or False"),
        ({"note": 3}, "a text"),
    ],
)
def test_bad_parameters_are_refused_at_once_and_nothing_is_written(folder, parameters, message):
    with pytest.raises(ValueError, match=message) as refused:
        runs.run(3, parameters, out=folder / "out")
    assert "\n" not in str(refused.value)
    assert not (folder / "out").exists()


HEAVY = ("torch", "numpy", "pandas", "matplotlib", "jupytext", "nbformat", "papermill", "distributed")


@pytest.mark.parametrize("ending", ["py", "ipynb"])
@pytest.mark.parametrize(
    ("value", "sentence"),
    [("lamm: 1", "03_tiny has no parameter 'lamm'; .* Did you mean 'lam'?"), ("lam: 1000", "lam=1000 is not valid: ")],
)
def test_a_mistyped_parameter_is_refused_before_anything_heavy_is_imported(folder, ending, value, sentence):
    source = folder / "notebooks" / "src" / "03_tiny.py"
    if ending == "ipynb":
        nbformat.write(read_notebook(source), folder / "notebooks" / "03_tiny.ipynb")
        source.unlink()
    (folder / "study.yml").write_text(f"notebook: 3\nparameters: {{{value}}}\n")
    loaded = f"print(*sorted({set(HEAVY)} & set(sys.modules)))"
    start = f"import sys\nfrom devilgan_lite.cli import app\ntry:\n    app()\nfinally:\n    {loaded}"
    for words in (["run", "3", "-p", value.replace(": ", "=")], ["sweep", "study.yml"]):
        command = [sys.executable, "-c", start, *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2 and re.match(sentence, done.stderr), done.stderr
        assert len(done.stderr.splitlines()) == 1 and done.stdout.split() == []


@pytest.mark.parametrize(
    "path",
    sorted(one for place in ("notebooks", "notebooks/src", "studies") for one in (PROJECT / place).glob("*.*py*")),
    ids=lambda path: f"{path.parent.name}/{path.name}",
)
def test_parameters_in_the_text_are_those_that_jupytext_reads(path):
    tagged = [cell for cell in read_notebook(path).cells if "parameters" in cell.metadata.get("tags", [])]
    assert tagged and runs.notebook_parameters(path) == parse_cell(tagged[0].source)


def test_a_notebook_that_is_no_json_is_refused(folder):
    (folder / "broken.ipynb").write_text("{")
    with pytest.raises(ValueError, match="broken.ipynb is not a notebook: it is not valid JSON"):
        runs.run(folder / "broken.ipynb", out=folder / "out")


def test_a_run_leaves_the_notebook_its_numbers_and_a_page(folder):
    result = runs.run("3", {"seed": 7, "steps": 40, "lam": 1}, out=folder / "out", timeout=120)
    place = folder / "out" / "03_tiny"
    assert result.ok, result.error
    assert (result.numbers["seed"], result.numbers["steps"]) == (7, 40)
    assert (result.numbers["python"], result.numbers["where"]) == (sys.executable, str(place))
    assert sorted(path.name for path in place.iterdir()) == ["03_tiny.ipynb", "log.txt", "result.json"]
    log = (place / "log.txt").read_text().splitlines()
    assert log[0] == 'parameters: {"seed": 7, "steps": 40, "lam": 1}' and log[-1].startswith("finished after ")
    assert result.path == place / "03_tiny.ipynb" and result.peak_memory_mb == 12.5 and result.seconds > 0
    executed = nbformat.read(result.path, as_version=4)
    nbformat.validate(executed)
    assert executed.metadata.kernelspec.name == "python3"
    assert "/tmp" not in json.dumps(executed.metadata) and "papermill" not in executed.metadata
    page = runs.index_page([result], folder / "out")
    text = page.read_text()
    assert 'href="03_tiny/03_tiny.html"' in text and "<dt>seed</dt><dd>7</dd>" in text and "1 of 1" in text
    assert (place / "03_tiny.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "timeout", "failure", "reason"),
    [
        ("raise", 60, "exception", "ZeroDivisionError: the learner divided by zero"),
        ("die", 60, "kernel", "the kernel died"),
        ("sleep", 6, "time", "not finished after 6 s"),
        ("eat", 60, "memory", "MB, more than 300 MB."),
    ],
)
def test_what_goes_wrong_inside_is_one_line(folder, mode, timeout, failure, reason):
    stale = folder / "out" / "03_tiny" / "result.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"numbers": {"seed": 99}}')
    result = runs.run("03_tiny", {"mode": mode}, out=folder / "out", timeout=timeout, memory_mb=300)
    assert not result.ok and reason in str(result.error) and "\n" not in str(result.error)
    assert result.result == {} and result.failure == failure
    left = json.loads(stale.read_text())
    assert (left["settings"], left["error"], left["failure"]) == ({"mode": mode}, result.error, failure)
    assert (stale.parent / "log.txt").read_text().splitlines()[-1].startswith(f"failed: {result.error} after")
    page = runs.index_page([runs.Result("03_tiny", folder / "none.ipynb", 1.0, {}, result.error)], folder / "page.html")
    assert "failed: " in page.read_text()


def image(alt):
    """An output with a picture whose bytes are the words in ``alt``."""
    source = base64.b64encode(alt.encode()).decode()
    return nbformat.v4.new_output("display_data", {"image/png": source}, metadata={"image/png": {"alt": alt}})


def test_the_index_leads_with_the_picture_of_the_cell_tagged_hero_else_the_first(folder):
    first, second = nbformat.v4.new_code_cell(outputs=[image("first")]), nbformat.v4.new_code_cell()
    second.outputs = [image('a "second" <one>'), image("third")]
    prose = nbformat.v4.new_markdown_cell("# A title\n\n**You will see\none sentence.** And more.")
    path, pictures = folder / "03_tiny.ipynb", r'<img alt="([^"]*)" src="data:image/png;base64,([^"]*)">'
    for tags, alt in (([], "first"), (["hero"], 'a "second" <one>')):
        second.metadata.tags = tags
        nbformat.write(nbformat.v4.new_notebook(cells=[prose, first, second]), path)
        text = runs.index_page([runs.Result("03_tiny", path, 61.0)], folder / "out").read_text()
        [(said, source)] = re.findall(pictures, text)
        assert (html.unescape(said), base64.b64decode(source).decode()) == (alt, alt)
    assert "A title" in text and "You will see one sentence." in text and "1 min 01 s" in text
    assert not re.search(r"<script|https?://|<link", text), "the page must stand alone"


def test_a_page_shows_what_a_folded_cell_printed_and_not_its_source(folder):
    (folder / "05_help.py").write_text('# %%\nhints("look", solution="the_answer")\n\n# %%\nshown = 1\n')
    document = runs.notebooks.read_notebook(folder / "05_help.py")
    document.cells[0].outputs = [nbformat.v4.new_output("stream", text="folded below")]
    nbformat.write(document, folder / "05_help.ipynb")
    text = runs.pages.to_html(folder / "05_help.ipynb").read_text()
    assert "the_answer" not in text and "folded below" in text and "shown" in text


def test_a_notebook_without_a_result_has_a_card_too(folder):
    waiting = runs.Result("03_tiny", folder / "none.ipynb", 0.0, error="interrupted", failure="unfinished")
    text = runs.index_page([waiting, runs.Result("99_gone", folder / "no.ipynb", 1.0)], folder / "out").read_text()
    assert "A tiny notebook" in text and "99_gone" in text and text.count("no picture yet") == 2
    assert "interrupted" in text and "failed: " not in text


def test_notebooks_are_found_by_number_name_and_path(folder):
    source = folder / "notebooks" / "src" / "03_tiny.py"
    assert runs.notebook_list() == ["03_tiny", "04_other"]
    assert {runs.find_notebook(name) for name in (3, "3", "03", "03_tiny", source, str(source))} == {source}
    assert runs.notebook_parameters(4) == {}
    nbformat.write(nbformat.v4.new_notebook(), folder / "notebooks" / "05_built.ipynb")
    assert runs.find_notebook(5).name == "05_built.ipynb"
    with pytest.raises(ValueError, match="Did you mean '03_tiny'"):
        runs.find_notebook("03_tin")
    with pytest.raises(ValueError, match="does not exist"):
        runs.find_notebook("no/such.ipynb")


def test_the_parameters_cell_is_read_from_its_comments():
    cell = TINY.split('tags=["parameters"]')[1].split("# %%")[0]
    found = parse_cell(cell)
    assert (found["seed"].low, found["seed"].high, found["seed"].what) == (0, 10_000, "random seed")
    assert (found["lam"].low, found["lam"].high) == (0.0001, 100)
    assert found["steps"].what == "iterations (None: from the profile)" and found["steps"].high == 1_000_000
    assert found["target"].choices == ("stop-sign", "devil", "digit-7")
    found["steps"].check(None), found["lam"].check(3), found["lams"].check([1])


@pytest.mark.parametrize("line", ["steps = 2 * 3", "import os", "a = b = 1", "x: int = 3"])
def test_anything_derived_in_the_parameters_cell_is_refused(line):
    with pytest.raises(ValueError, match="line 1"):
        parse_cell(line)


@pytest.mark.parametrize(
    ("text", "value"), [("40", 40), ("0.1", 0.1), ("None", None), ("stop-sign", "stop-sign"), ("true", True)]
)
def test_values_from_a_command_line(text, value):
    assert runs.parse_value(text) == value
