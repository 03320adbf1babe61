"""The notebooks: in step with their sources, fit to be shown, and running from start to end in the smoke profile."""

import ast
import json
import math
import os
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import runs, zoo

ROOT = Path(__file__).resolve().parents[1]
BUILD = runpy.run_path(str(ROOT / "scripts/build/notebooks.py"))
SOURCES: list[Path] = BUILD["sources"]()
NAMES = [path.stem for path in SOURCES]
SEQUENCE = ["00", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12", "13", "14"]
WITHOUT_MODELS = ("12_poisoned_pipeline", "report")  # they load nothing of the zoo
MEASURED = ("tardis_sum", "tardis_mean", "expdis_mean")
QUIZZES = json.loads((ROOT / "devilgan_lite/classroom/lesson/quizzes.json").read_text(encoding="utf-8"))
SMOKE = os.environ.get("SMOKE_RESULTS")  # where make test has nbval leave what every notebook measured


def leaves(value: Any, where: str = "numbers") -> Iterator[tuple[str, Any]]:
    """Every number, text and None in nested lists and dictionaries, with its place."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from leaves(part, f"{where}.{name}")
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from leaves(part, f"{where}[{index}]")
    else:
        yield where, value


def test_the_sequence_is_complete() -> None:
    assert [name[:2] for name in NAMES] == [*SEQUENCE, "re"]
    assert [name[:2] for name in runs.notebook_list()] == SEQUENCE and NAMES[-1] == "report"


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_notebook_holds_the_cells_of_its_source(source: Path) -> None:
    assert BUILD["pairing"](source) is None


@pytest.mark.parametrize("source", SOURCES, ids=NAMES)
def test_a_solution_is_folded_and_nothing_else_is(source: Path) -> None:
    """The output under the cell folds the same text; JupyterLab, the site and our pages must not show it above."""
    from devilgan_lite.runs.notebooks import read_notebook

    for cell in BUILD["tidy"](read_notebook(source), {}).cells:
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        solved = any(isinstance(node, ast.keyword) and node.arg == "solution" for node in ast.walk(tree))
        assert (cell.metadata.get("jupyter") == {"source_hidden": True}) == solved, cell.source
        assert ("hide-input" in cell.metadata.get("tags", [])) == solved, cell.source


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of notebooks/."""
    monkeypatch.setitem(BUILD["renew"].__globals__, "NOTEBOOKS", tmp_path)
    return tmp_path


def test_text_is_renewed_without_running_anything(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import nbformat

    built, source = elsewhere / "08_case.ipynb", elsewhere / "08_case.py"
    document = nbformat.from_dict(fake('hints("a", solution="b")'))
    document.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(document, built)
    text = '# %% [markdown]\n# # Two\n\n# %% tags=["parameters"]\nseed = 0\n\n# %%\nshow()\n\n# %%\n{}\n'
    source.write_text(text.format('hints("a", solution="b")'))
    assert "differs" in BUILD["pairing"](source) and BUILD["renew"](source) and BUILD["pairing"](source) is None
    renewed = nbformat.read(built, as_version=4)
    nbformat.validate(renewed)
    assert renewed.cells[0].source == "# Two" and renewed.metadata == document.metadata
    assert [cell.outputs for cell in renewed.cells[1:]] == [cell.outputs for cell in document.cells[1:]]
    assert [cell.execution_count for cell in renewed.cells[1:]] == [1, 2, 3]
    source.write_text(text.format('hints("a", solution="c")'))
    before = built.read_bytes()
    assert not BUILD["renew"](source) and "run make notebooks" in capsys.readouterr().out
    assert built.read_bytes() == before


def test_what_a_tour_executed_is_taken_over(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import nbformat

    folder = elsewhere / "tour" / "08_case"
    folder.mkdir(parents=True)
    document = nbformat.from_dict(fake())
    own = nbformat.v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]}, execution_count=2)
    document.cells.insert(2, own)
    for number, cell in enumerate(document.cells[1:], start=1):
        cell.execution_count = number
    nbformat.write(document, folder / "08_case.ipynb")
    result = {"profile": "workshop", "versions": {"devilgan_lite": "1.2.3"}, "zoo": {"model": "digest"}}
    for profile in ("smoke", "workshop"):
        (folder / "result.json").write_text(json.dumps(result | {"profile": profile}))
        taken = BUILD["adopt"](elsewhere / "08_case.py", elsewhere / "tour")
        assert taken == (elsewhere / "08_case.ipynb").is_file() == (profile == "workshop")
    built = nbformat.read(elsewhere / "08_case.ipynb", as_version=4)
    assert [cell.source for cell in built.cells[1:]] == ["seed = 0", "show()", "x = 1"]
    assert [cell.execution_count for cell in built.cells[1:]] == [1, 2, 3]
    assert built.metadata["devilgan_lite"] == {"version": "1.2.3", "zoo": {"model": "digest"}}


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_fit_to_be_shown(name: str) -> None:
    from devilgan_lite.runs.notebooks import read_notebook

    path = ROOT / "notebooks" / f"{name}.ipynb"
    assert BUILD["problems"](read_notebook(path), name) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_shows_the_models_that_ship(name: str) -> None:
    """A model of the zoo that is made again makes every notebook stale that has loaded it."""
    document = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    made_by = document["metadata"]["devilgan_lite"]
    assert made_by["zoo"] == {model: zoo.card(model).sha256 for model in made_by["zoo"]}
    assert bool(made_by["zoo"]) == (name not in WITHOUT_MODELS)
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", made_by["version"])


@pytest.mark.parametrize("name", NAMES)
def test_misspelt_parameter_is_refused(name: str, tmp_path: Path) -> None:
    for parameters, words in ({"sed": 1}, "has no parameter 'sed'"), ({"profile": "smok"}, "Did you mean 'smoke'"):
        with pytest.raises(ValueError, match=words):
            runs.run(name, parameters, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(SMOKE is None, reason="no SMOKE_RESULTS; make test executes the notebooks and names it")
@pytest.mark.parametrize("name", NAMES)
def test_what_the_smoke_run_measured(name: str) -> None:
    result = json.loads((Path(str(SMOKE)) / name / "result.json").read_text(encoding="utf-8"))
    numbers = result["numbers"]
    assert numbers
    assert result["profile"] == "smoke"
    assert result["not_finite"] == []
    assert [where for where, value in leaves(numbers) if isinstance(value, float) and not math.isfinite(value)] == []
    if name[:2] in ("02", "03", "04", "09"):
        rows = numbers["attacks"]
        assert rows
        for row in rows:
            assert {"attack", "target", "seed", *MEASURED} <= row.keys()
            assert all(isinstance(row[key], float) and math.isfinite(row[key]) for key in MEASURED), row
    if name[:2] == "08":
        off = {name: group["0.001"] for name, group in numbers["switched_off"].items()}
        assert max(off["TrAIL"]) < 0.1 <= min(off["gate"])  # the gate lives in dormant units, TrAIL does not
        parameters = [row["parameters"] for row in numbers["sizes"].values()]
        assert parameters == sorted(parameters, reverse=True)
        assert {"TrAIL", "plain ReD", "ReX", "gate"} == numbers["curves"].keys()
        assert numbers["cached"]["rows"] > 0


CODE = re.compile(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\[[^\]]*\]\([^)]*\)|<[^>]+>|arXiv [\d.]+", re.S)
MEASURED_NUMBER = re.compile(
    r"(?<![\w./:-])\d[\d,]*(?:\.\d+)?\s?%|(?<![\w./:-])\d+\.\d+(?![\w.])|(?<![\w.])\d+ of \d+(?![\w.])"
)


def printed(output: dict[str, Any]) -> list[str]:
    """The words of an output, without its pictures; a quiz says nothing that was measured."""
    texts = ["".join(part) for kind, part in output.get("data", {}).items() if kind.startswith("text/")]
    if any("<summary>Answer</summary>" in text for text in texts):
        return []
    return [re.sub(r"base64,[\w+/=]+", "", text) for text in ("".join(output.get("text", "")), *texts)]


def said_by_code(name: str) -> tuple[str, list[str]]:
    """The code of a notebook with what it printed, without spaces; and its text cells."""
    cells = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    said = "".join(
        "".join(cell["source"]) + json.dumps([printed(output) for output in cell["outputs"]])
        for cell in cells
        if cell["cell_type"] == "code"
    )
    return said.replace(" ", ""), ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "report"])
def test_a_number_in_the_text_is_one_that_the_code_says(name: str) -> None:
    """Shares, counts and decimals of text cells and of the quiz, outside code: in the code, or in what it printed."""
    said, texts = said_by_code(name)
    for text in [CODE.sub("", text) for text in texts] + [json.dumps(QUIZZES[name[:2]])]:
        for number in MEASURED_NUMBER.findall(text):
            plain = number.replace(" ", "")
            assert plain in said or plain.rstrip("%") in said, f"{name} says {number}, and no cell does"


def test_the_words_for_a_cure_are_defined_before_the_first_table_of_cures() -> None:
    from devilgan_lite.classroom.cures import RULE, verdict

    said = {verdict({"TarDis": far, "best nearby": near}) for far, near in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))}
    assert len(said) == 3 and all(word in RULE for word in said)
    for source in SOURCES:
        text = source.read_text(encoding="utf-8")
        if "cures_table(" in text:
            assert text.index("print(RULE)") < text.index("cures_table("), source.name


def fake(source: str = "x = 1", data: dict[str, str] | None = None, **changes: Any) -> Any:
    """A small notebook that is fit to be shown, with one thing changed."""
    import nbformat.v4 as v4

    shown = {"image/png": "aGVsbG8="} if data is None else data
    alt = {"image/png": {"alt": changes.get("alt", "a garment"), "apart": changes.get("apart", 0.2)}}
    picture = v4.new_code_cell("show()", execution_count=2)
    picture.outputs = [v4.new_output("display_data", shown, metadata=alt)]
    cells = [
        v4.new_markdown_cell(changes.get("title", "# One\n\nResponsible use: here.")),
        v4.new_code_cell("seed = 0", metadata={"tags": changes.get("tags", ["parameters"])}, execution_count=1),
        picture,
        v4.new_code_cell(source, execution_count=3, outputs=changes.get("outputs", [])),
    ]
    return v4.new_notebook(cells=cells, metadata=changes.get("metadata", {}))


BAD: dict[str, tuple[Any, str]] = {
    "two titles": (fake(title="# One\n# Two\nResponsible use"), "2 titles"),
    "no parameters": (fake(tags=[]), "0 cells tagged parameters"),
    "no alt text": (fake(alt=""), "without alt text"),
    "blank alt text": (fake(alt=" "), "without alt text"),
    "no alt text in html": (fake(data={"text/html": "<img src='x'>"}), "<img> or <svg> without alt text"),
    "no alt text in prose": (fake(title="# One\n\n![](x.png) Responsible use"), "text has a picture without alt text"),
    "a heading too deep": (fake(title="# One\n\n### Three\n\nResponsible use"), "more than one level below"),
    "no ethics": (fake(title="# One"), "Responsible use"),
    "widget state": (fake(metadata={"widgets": {}}), "widget state"),
    "seven times the same": (fake(apart=0.01), "all alike"),
    "no picture": (fake(data={"text/plain": "1"}), "no picture"),
    "absolute path": (fake(data={"text/html": '<img alt="a">/home/someone/x.png'}), "absolute path"),
    "an error": (
        fake(outputs=[{"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}]),
        "ends in ValueError",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_the_check_finds(case: str) -> None:
    import nbformat

    document, words = BAD[case]
    found = BUILD["problems"](nbformat.from_dict(document), "02_case")
    assert len(found) == 1
    assert words in found[0]


def test_the_check_passes_what_is_good() -> None:
    shown = {"image/png": "aGVsbG8=", "text/html": '<svg aria-hidden="true"></svg><svg aria-label="a dot"></svg>'}
    assert BUILD["problems"](fake("train_gan(network, real)", data=shown), "02_case") == []
