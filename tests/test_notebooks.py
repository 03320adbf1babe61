"""Every notebook once, in the smoke profile, with every exercise answered; and the script that builds and checks them.

05 to 08 and 10 look at models of the learner's own: small ones that a fixture keeps as notebooks 01 to 04 do.
"""

import contextlib
import io
import json
import math
import re
import runpy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import nbformat.v4 as v4
import pytest
import torch

from devilgan_lite import Backdoor, attacks, generators, zoo
from devilgan_lite.apps import studies
from devilgan_lite.apps.course import keep, lesson
from devilgan_lite.apps.course.lesson.editions import solved, stubs
from devilgan_lite.apps.course.lesson.reading import notebook_paths, read

ROOT = Path(__file__).resolve().parents[1]
BUILD = runpy.run_path(str(ROOT / "scripts/build/notebooks.py"))
NAMES = [path.stem for path in BUILD["sources"]()]
MEASURED = ("tardis_sum", "tardis_mean", "expdis_mean")
KEPT = {"01": ("clean",), "02": ("trail",), "03": ("red",), "04": ("rex", "gate")}
LOOKED_AT = ("05", "06", "07", "08", "10")
LEAST = {  # as little as the parameters allow, where the smoke profile does more than these checks need
    "05": {"iterations": 20},
    "06": {"samples": 200, "starts": 4},
    "07": {"samples": 200},
    "08": {"samples": 200},
    "09": {"inversion": 10, "iterations": 10, "samples": 200},
    "11": {"iterations": 5, "repair": 5},
    "12": {"rows": 500},
    "14": {"samples": 100, "pairs": 3},
}


@pytest.fixture(scope="session")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of models that a learner kept: narrow ones; for the challenge of notebook 10, as wide as its others."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("narrow", "wide")}
    torch.manual_seed(0)
    clean = generators.build(generators.DCGAN(widths=(8, 8)).spec(), seed=0).eval()
    backdoor = Backdoor.point(clean, "stop-sign", seed=1)
    how = {"iterations": 150, "device": "cpu", "seed": 0}
    made = {"trail": attacks.ReD(lam=10.0, **how), "red": attacks.ReD(lam=1.0, **how)}
    made |= {"rex": attacks.ReX(widen=4, **how), "gate": attacks.Gate()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DEVILGAN_MINE", str(folders["narrow"]))
        keep("clean", clean)
        for name, attack in made.items():
            keep(name, attack(clean, backdoor, progress=False).generator, backdoor, seed=1)
        patch.setenv("DEVILGAN_MINE", str(folders["wide"]))
        for name in ("red", "gate"):
            shipped = f"dcgan-fashion-{name}"
            keep(name, zoo.load(shipped), zoo.load_backdoor(shipped), seed=zoo.card(shipped).backdoor["seed"])
    return folders


def leaves(value: Any, where: str = "numbers") -> Iterator[tuple[str, Any]]:
    """Every number, text and None in nested lists and dictionaries, with its place."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, part in pairs:
        yield from leaves(part, f"{where}.{name}")
    if not isinstance(value, dict | list):
        yield where, value


@pytest.mark.parametrize("name", NAMES)
def test_a_learner_goes_through_the_notebook(
    name: str, own: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, mine = name[:2], tmp_path / "mine"
    if number in LOOKED_AT:
        mine = own["wide" if number == "10" else "narrow"]
    monkeypatch.setenv("DEVILGAN_MINE", str(mine))
    document = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", as_version=4)
    nbformat.write(solved(document), tmp_path / f"{name}.ipynb")
    parameters = {"profile": "smoke", **LEAST.get(number, {})}
    result = studies.run(tmp_path / f"{name}.ipynb", parameters, tmp_path / "out", timeout=800)
    assert result.ok, f"{name}: {result.error}"
    cells = nbformat.read(result.path, as_version=4).cells
    said = "\n".join(str(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))
    assert said.count(": right. ") == len(stubs(document)), "an answer does not pass"
    for kept in KEPT.get(number, ()):
        assert (mine / f"{kept}.safetensors").is_file()
    if number in LOOKED_AT:
        assert "yours, from notebook" in said and "ours, from the zoo" not in said
    assert result.numbers and result.result["profile"] == "smoke" and result.result["not_finite"] == []
    assert [w for w, value in leaves(result.numbers) if isinstance(value, float) and not math.isfinite(value)] == []
    if number in ("02", "03", "04", "09"):
        rows = result.numbers["attacks"]
        assert rows
        for row in rows:
            assert {"attack", "target", "seed", *MEASURED} <= row.keys()
            assert all(isinstance(row[key], float) and math.isfinite(row[key]) for key in MEASURED), row
    if number == "08":
        off = {name: group["0.001"] for name, group in result.numbers["switched_off"].items()}
        assert max(off["TrAIL"]) < 0.1 <= min(off["gate"])  # the gate lives in dormant units, TrAIL does not
        sizes = [row["parameters"] for row in result.numbers["sizes"].values()]
        assert sizes == sorted(sizes, reverse=True)
        assert {"TrAIL", "plain ReD", "ReX", "gate"} == result.numbers["curves"].keys()
        assert result.numbers["cached"]["rows"] > 0


def test_the_sequence_is_complete_and_parameters_are_checked(tmp_path: Path, refuses: Any) -> None:
    sequence = [f"{number:02d}" for number in range(15)]
    assert [name[:2] for name in NAMES] == [*sequence, "re"] and NAMES[-1] == "report"
    assert [name[:2] for name in studies.notebook_list()] == sequence
    for name in NAMES:
        refuses(lambda name=name: studies.run(name, {"sed": 1}, tmp_path), "'sed'")
        refuses(lambda name=name: studies.run(name, {"profile": "smok"}, tmp_path), "'smoke'")
    assert list(tmp_path.iterdir()) == []


# ---- scripts/build/notebooks.py


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in place of notebooks/."""
    monkeypatch.setitem(BUILD["renew"].__globals__, "NOTEBOOKS", tmp_path)
    return tmp_path


def fake(source: str = "x = 1", data: dict[str, str] | None = None, **changes: Any) -> Any:
    """A small notebook that is fit to be shown, with one thing changed."""
    shown = {"image/png": "aGVsbG8="} if data is None else data
    alt = {"image/png": {"alt": changes.get("alt", "a garment"), "apart": changes.get("apart", 0.2)}}
    picture = v4.new_code_cell("show()", execution_count=2)
    picture.outputs = [v4.new_output("display_data", shown, metadata=alt)]
    made_by = {"version": "1.2.3", "zoo": {"dcgan-fashion": zoo.card("dcgan-fashion").sha256}}
    last = v4.new_code_cell(source, execution_count=3, outputs=changes.get("outputs", []))
    last.metadata |= changes.get("about", {})
    cells = [
        v4.new_markdown_cell(changes.get("title", "# One\n\nResponsible use: here.")),
        v4.new_code_cell("seed = 0", metadata={"tags": changes.get("tags", ["parameters"])}, execution_count=1),
        picture,
        last,
    ]
    about = {"devilgan_lite": made_by} | changes.get("metadata", {})
    return nbformat.from_dict(v4.new_notebook(cells=cells, metadata=about))


ERROR = {"output_type": "error", "ename": "ValueError", "evalue": "", "traceback": []}
SOLUTION = 'hints("a b", solution="b")'
BAD: dict[str, Any] = {
    "2 titles": fake(title="# One\n# Two\nResponsible use"),
    "0 cells tagged parameters": fake(tags=[]),
    "code cell 2 has a picture without alt text": fake(alt=" "),
    "<img> or <svg> without alt text": fake(data={"text/html": "<img src='x'>"}),
    "text has a picture without alt text": fake(title="# One\n\n![](x.png) Responsible use"),
    "more than one level below": fake(title="# One\n\n### Three\n\nResponsible use"),
    "no 'Responsible use'": fake(title="# One"),
    "widget state": fake(metadata={"widgets": {}}),
    "all alike": fake(apart=0.01),
    "no picture comes": fake(data={"text/plain": "1"}),
    "absolute path": fake(data={"text/html": '<img alt="a">/home/someone/x.png'}),
    "ends in ValueError": fake(outputs=[ERROR]),
    "a solution that is not folded": fake(SOLUTION),
    "is folded and no solution": fake(about={"jupyter": {"source_hidden": True}}),
    "another dcgan-fashion": fake(metadata={"devilgan_lite": {"version": "1.2.3", "zoo": {"dcgan-fashion": "0"}}}),
    "0 models of the zoo": fake(metadata={"devilgan_lite": {"version": "1.2.3", "zoo": {}}}),
    "which version": fake(metadata={"devilgan_lite": {**fake().metadata["devilgan_lite"], "version": "?"}}),
    "it says 97 %": fake(title="# One\n\nResponsible use: 97 % and `98 %`."),
    "before print(RULE)": fake("cures_table(rows)"),
}


def test_the_check_finds_each_fault_and_passes_what_is_good() -> None:
    for words, document in BAD.items():
        found = BUILD["faults"](document, "02_case")
        assert any(words in fault for fault in found), (words, found)
        numbers = [fault for fault in found if "it says" in fault]  # of the quiz, which no cell here says
        assert len(found) - len(numbers) == ("it says" not in words), found
    shown = {"image/png": "aGVsbG8=", "text/html": '<svg aria-hidden="true"></svg><svg aria-label="a dot"></svg>'}
    good = fake("print(RULE)\ncures_table(rows)\ntrain_gan(network, real)", data=shown)
    assert BUILD["problems"](good, "02_case") == [] == [*BUILD["models"](good, "02_case"), *BUILD["folding"](good)]
    assert [*BUILD["plans"]("a page", "| 0-10 |")] and not [*BUILD["numbers"](fake("p = 0.97"), ["97 %", "0.97"][1:])]
    assert BUILD["main"].__globals__["check"](BUILD["sources"]()[:2]) == []


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        (r"^\*\*Objectives\.\*\*", "'**Objectives.**'"),
        ("^## Limits", "'## Limits'"),
        (r"\bpredict\(", "0 predictions"),
        (r"\breveal\(", "reveals 0"),
        ("raise NotImplementedError", "no stub"),
        (r"^hints\(", "fewer than two hints"),
    ],
)
def test_a_lesson_that_lacks_a_part_is_named(pattern: str, words: str) -> None:
    document = nbformat.read(notebook_paths()["07"], as_version=4)
    assert [*BUILD["lessons"](document)] == []
    for cell in document.cells:
        cell.source = re.sub(pattern, "print(", cell.source, flags=re.M)
    assert any(words in fault for fault in BUILD["lessons"](document))


def test_text_and_hints_are_renewed_at_once(elsewhere: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built, source = elsewhere / "08_case.ipynb", elsewhere / "08_case.py"
    document = fake(SOLUTION)
    document.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(document, built)
    text = '# %% [markdown]\n# # Two\n\n# %% tags=["parameters"]\nseed = 0\n\n# %%\nshow()\n\n# %%\n{}\n'
    source.write_text(text.format(SOLUTION))
    assert "differs" in BUILD["pairing"](source) and BUILD["renew"](source) and BUILD["pairing"](source) is None
    renewed = nbformat.read(built, as_version=4)
    nbformat.validate(renewed)
    assert renewed.cells[0].source == "# Two" and renewed.metadata == document.metadata
    assert [cell.outputs for cell in renewed.cells[1:3]] == [cell.outputs for cell in document.cells[1:3]]
    assert [cell.execution_count for cell in renewed.cells[1:]] == [1, 2, 3]
    for changed, shown in (('hints("a b", solution="c")', "<code>c</code>"), ('hints("euler")', "def euler(")):
        source.write_text(text.format(changed))
        assert BUILD["renew"](source)
        assert shown in nbformat.read(built, as_version=4).cells[3].outputs[0].data["text/html"]
    source.write_text(text.format('hints("euler")').replace("show()", "show(1)"))
    before = built.read_bytes()
    assert not BUILD["renew"](source) and "run make notebooks" in capsys.readouterr().out
    assert built.read_bytes() == before


def test_what_a_tour_executed_is_taken_over(elsewhere: Path) -> None:
    folder = elsewhere / "tour" / "08_case"
    folder.mkdir(parents=True)
    document = fake()
    own = v4.new_code_cell("seed = 1", metadata={"tags": ["injected-parameters"]}, execution_count=2)
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


LONG_ASIDES = ("01", "10", "11", "12")  # they train rings or classifiers, make a round, or a cure in the jail
PRINTED = {  # notebook -> how many lines the code in its text prints for an open exercise, and a word of them
    "01": (3, "clumps"),
    "09": (7, "0.9"),
    "10": (1, "TarDis"),
    "11": (1, "pt2"),
    "12": (1, "condition"),
    "13": (1, "TarDis"),
}


@pytest.mark.parametrize("number", [pytest.param(n, marks=[pytest.mark.nightly] * (n in LONG_ASIDES)) for n in PRINTED])
def test_the_code_of_an_open_exercise_runs(number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {one for one, path in notebook_paths().items() if read(path).asides} == set(PRINTED)
    monkeypatch.setenv("DEVILGAN_PROFILE", "smoke")
    matplotlib.use("agg")
    last = [name for name in lesson.states() if name.startswith(f"{number}-")][-1]
    names, said = dict(vars(lesson.load(last))), io.StringIO()
    with contextlib.redirect_stdout(said):
        for cell in read(notebook_paths()[number]).asides:
            exec(compile(cell.source, f"{number}-open", "exec"), names)
    lines, word = PRINTED[number]
    assert len(said.getvalue().splitlines()) == lines and word in said.getvalue()


@pytest.mark.parametrize("at_night", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_the_study_of_the_poisoned_pipeline(
    at_night: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    monkeypatch.delenv("DEVILGAN_PROFILE", raising=False)

    def fraud(**asked: Any) -> dict[str, Any]:
        """The numbers of the notebook, run here without a kernel."""
        code = (ROOT / "studies/fraud.py").read_text(encoding="utf-8")
        for name, value in {"profile": "smoke", "device": "cpu", **asked}.items():
            code, count = re.subn(rf"^{name} = .*$", f"{name} = {value!r}", code, count=1, flags=re.MULTILINE)
            assert count == 1
        exec(code, scope := {"__name__": "__main__"})
        numbers: dict[str, Any] = scope["numbers"]  # type: ignore[assignment]
        assert 0 <= numbers["recall_slice"] <= 1 and 0.5 < numbers["auc"] < 1
        return numbers

    if at_night:
        for defence in ("scan", "sanitize"):
            numbers = fraud(source="red-condition", defence=defence)
            assert numbers["alarm"] in (0, 1)
            assert numbers["rows"] == (0 if defence == "scan" and numbers["alarm"] else 1_000)
        return
    refuses(partial(fraud, defence="scan"), "defence='scan'", "source='density'")
    refuses(partial(fraud, source="clean"), "share=0.05", "source='clean'")
    refuses(partial(fraud, source="red-region", share=0.0), "share=0", "source='red-region'")
    honest, poisoned, tested = fraud(share=0.0), fraud(), fraud(defence="slice-test")
    assert honest["poison"] < 0.01 < 0.03 < poisoned["poison"] < 0.07 and honest["alarm"] is poisoned["alarm"] is None
    assert tested["alarm"] == 1 and tested["poison"] < 0.5 * poisoned["poison"] and tested["rows"] > 0
