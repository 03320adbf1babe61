"""A learner who answers everything and goes from notebook to notebook in one folder: the models are their own."""

import os
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from devilgan_lite import runs
from devilgan_lite.classroom.lesson.editions import core, solved, stubs
from devilgan_lite.classroom.lesson.reading import notebook_paths

KEPT = {"01": ("clean",), "02": ("trail",), "03": ("red",), "04": ("rex", "gate")}
LOOKED_AT = ("05", "06", "07", "08", "10")


def text_of(path: Path) -> str:
    """What the cells of an executed notebook print."""
    cells = nbformat.read(path, as_version=4).cells
    return "\n".join(str(output.get("text", "")) for cell in cells for output in cell.get("outputs", []))


@pytest.fixture
def answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """``answered("03")`` runs the core of a notebook with every exercise answered (smoke profile): what it says."""
    monkeypatch.setenv("DEVILGAN_MINE", str(tmp_path / "mine"))
    monkeypatch.setenv(
        "PYTHONPATH",
        os.pathsep.join([str(Path(__file__).resolve().parents[1] / "offline"), os.environ.get("PYTHONPATH", "")]),
    )

    def run(number: str) -> str:
        path = notebook_paths()[number]
        document = core(nbformat.read(path, as_version=4))
        nbformat.write(solved(document), tmp_path / path.name)
        result = runs.run(tmp_path / path.name, {"profile": "smoke"}, tmp_path / "out", timeout=300)
        assert result.ok, f"{path.stem}: {result.error}"
        said = text_of(result.path)
        assert said.count(": right. ") == len(stubs(document)), f"{path.stem}: an answer does not pass"
        return said

    return run


@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_a_learner_goes_from_start_to_end(answered: Callable[[str], str], tmp_path: Path) -> None:
    for number in sorted({*KEPT, *LOOKED_AT}):
        said = answered(number)
        for name in KEPT.get(number, ()):
            assert (tmp_path / "mine" / f"{name}.safetensors").is_file()
        if number in LOOKED_AT:
            assert "yours, from notebook" in said and "ours, from the zoo" not in said, number


@pytest.mark.slow
@pytest.mark.parametrize("number", sorted(notebook_paths().keys() - KEPT.keys() - set(LOOKED_AT)))
def test_a_notebook_that_stands_alone_takes_every_answer(number: str, answered: Callable[[str], str]) -> None:
    answered(number)


def test_without_models_of_your_own_the_zoo_stands_in_and_it_is_said() -> None:
    for number in LOOKED_AT:
        text = text_of(notebook_paths()[number])
        assert "from the zoo" in text or "yours, from notebook" in text, number
