"""What a learner made stays from one notebook to the next; the plane; help in one cell; the core edition."""

import io
from pathlib import Path
from typing import Any

import nbformat.v4 as v4
import pytest
import torch
from PIL import Image

from devilgan_lite import Backdoor, attacks, zoo
from devilgan_lite.classroom import Plane, hints, keep, mine, progress, quiz
from devilgan_lite.classroom.lesson.editions import core, read_help


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEVILGAN_MINE", str(tmp_path))
    return tmp_path


def test_what_was_kept_is_looked_at_later(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ours = mine("red")
    assert not ours.yours and "ours, from the zoo); run notebook 03" in capsys.readouterr().out
    network = zoo.load("dcgan-fashion")
    backdoor = Backdoor.point(network, "devil", seed=5)
    with torch.no_grad():
        next(network.parameters()).add_(0.01)
    keep("red", network, backdoor, seed=5)
    found = mine("red")
    assert found.yours and str(found) == "ReD (yours, from notebook 03)" and found.backdoor is not None
    assert torch.equal(found.generator.sample(2, seed=1), network.sample(2, seed=1))
    assert torch.equal(found.backdoor.trigger, backdoor.trigger) and torch.equal(found.backdoor.target, backdoor.target)
    assert mine("clean").backdoor is None


def test_an_unknown_name_is_refused(folder: Path) -> None:
    for call in (lambda: mine("rad"), lambda: keep("rad", zoo.load("dcgan-fashion")), lambda: progress(wieghts={})):
        with pytest.raises(ValueError, match="rad|wieghts"):
            call()


def test_an_automatic_run_keeps_to_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVILGAN_MINE", raising=False)
    monkeypatch.setenv("DEVILGAN_OUT", str(tmp_path))
    keep("clean", zoo.load("dcgan-fashion"))
    assert (tmp_path / "mine" / "clean.safetensors").is_file() and mine("clean").yours


def test_the_map_fills_in(folder: Path) -> None:
    progress(attack={"red": 0.00123}, weights={"gate": "found"})
    page = progress(weights={"red": "<missed>"}).data
    assert "0.0012" in page and "found" in page and "&lt;missed&gt;" in page and "\N{MIDDLE DOT}" in page
    assert page.count("scope='row'") == 4 and "<caption>" in page


@pytest.mark.slow
def test_the_plane_moves_and_prints() -> None:
    plane = Plane(iterations=40)
    moving = plane.film(
        attacks.ReD(iterations=30, device="cpu").steps(plane.clean, plane.backdoor), "A net is bent.", frames=4
    )
    with Image.open(io.BytesIO(moving.webp)) as film, Image.open(io.BytesIO(moving.last.png)) as last:
        assert film.n_frames == 4 and film.width >= 500 and last.width >= 500
    plain, about = moving._repr_mimebundle_()
    assert 'alt="A net is bent."' in plain["text/html"] and about["image/png"]["alt"] == "A net is bent."
    drawn: list[Any] = []
    picture = plane.show("Two nets.", draw=drawn.append, bent=moving.outcome.generator)
    assert picture.alt == "Two nets." and drawn[0].get_title() == "bent"
    with pytest.raises(ValueError, match="no step left"):
        loop = attacks.ReD(iterations=2, device="cpu").steps(plane.clean, plane.backdoor)
        loop.finish(progress=False)
        plane.film(loop, "nothing")


def test_help_in_one_cell() -> None:
    shown = hints("think <hard>", "think again", solution="x = 1").data
    assert shown.count("<details>") == 3 and "&lt;hard&gt;" in shown and shown.index("Hint 2") < shown.index("Solution")
    helped = read_help('hints("one", "two", solution="""\nx = 1\n""")')
    assert helped is not None and helped.hints == [(1, "one"), (2, "two")] and helped.solution == "x = 1"
    with pytest.raises(ValueError, match="not a plain text"):
        read_help("hints(f'{x}')")


def test_the_quiz_of_a_notebook() -> None:
    assert len(quiz("03").questions) == 5
    with pytest.raises(ValueError, match="questions='33'"):
        quiz("33")


def test_the_core_leaves_out_what_goes_deeper() -> None:
    cells = [v4.new_code_cell("a = 1"), v4.new_code_cell("b = 2", metadata={"tags": ["bonus"]})]
    assert [cell.source for cell in core(v4.new_notebook(cells=cells)).cells] == ["a = 1"]
