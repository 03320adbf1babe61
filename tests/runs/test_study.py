"""Studies: what a file says is checked before anything starts, and a run is known again by what decides its result."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devilgan_lite import runs
from devilgan_lite.cli import app
from devilgan_lite.runs.study import identity

SHIPPED = sorted((Path(__file__).resolve().parents[2] / "studies").glob("*.yml"))


def study(folder: Path, **content: Any) -> runs.Study:
    return runs.study_of({"notebook": "tiny.py", **content}, "some", folder)


def test_a_grid_gives_every_combination_with_every_seed(studies: Path) -> None:
    found = study(
        studies, parameters={"seconds": 0.5}, grid={"lam": [0.1, 1.0], "mode": ["fine", "raise"]}, seeds=[3, 5]
    )
    assert len(found) == 8
    assert [one.parameters for one in found.runs[:3]] == [
        {"seconds": 0.5, "lam": 0.1, "mode": "fine", "seed": 3},
        {"seconds": 0.5, "lam": 0.1, "mode": "fine", "seed": 5},
        {"seconds": 0.5, "lam": 0.1, "mode": "raise", "seed": 3},
    ]
    assert {one.notebook for one in found.runs} == {"tiny"}


def test_listed_runs_repeats_and_how_many_seeds(studies: Path) -> None:
    listed = study(studies, runs=[{"lam": 1.0}, {"mode": "raise"}], seeds=2, repeats=3)
    assert len(listed) == 12 and [one.repeat for one in listed.runs[:3]] == [0, 1, 2]
    assert len(study(studies)) == 1  # the notebook's own values
    assert len(study(studies, grid={"lam": [1.0]}, runs=[{"lam": 1.0}, {"lam": 2.0}])) == 2  # no two alike


def test_a_run_is_known_again_by_what_decides_its_result(studies: Path) -> None:
    first = study(studies, grid={"lam": [0.1, 1.0]}, seeds=1)
    assert [one.id for one in first.runs] == [one.id for one in study(studies, grid={"lam": [0.1, 1.0]}, seeds=1).runs]
    grown = study(studies, grid={"lam": [0.1, 0.5, 1.0]}, seeds=1)
    assert {one.id for one in first.runs} < {one.id for one in grown.runs}
    assert identity("source", {"a": 1, "b": 2}, 0) == identity("source", {"b": 2, "a": 1}, 0)
    different = {identity("source", {"a": 1}, 0), identity("source", {"a": 2}, 0), identity("source", {"a": 1}, 1)}
    assert len(different | {identity("other", {"a": 1}, 0)}) == 4
    text = (studies / "tiny.py").read_text()
    (studies / "tiny.py").write_text(text + "\n# %% [markdown]\n# Words change nothing.\n")
    assert study(studies, grid={"lam": [0.1, 1.0]}, seeds=1).runs[0].id == first.runs[0].id
    (studies / "tiny.py").write_text(text + "\n# %%\nx = 1\n")
    assert study(studies, grid={"lam": [0.1, 1.0]}, seeds=1).runs[0].id != first.runs[0].id


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"grdi": {}}, "study some has no key 'grdi'; valid: title, notebook.*Did you mean 'grid'"),
        ({"grid": {"lamb": [1.0]}}, "tiny has no parameter 'lamb'.*Did you mean 'lam'"),
        ({"grid": {"lam": ["much"]}}, "lam='much' is not valid: it must be a number from 0.0001 to 100.0"),
        ({"grid": {"lam": [0.1, 1000.0]}}, "lam=1000.0 is not valid"),
        (
            {"grid": {"lam": 0.1}},
            "grid=.'lam': 0.1. is not valid: it must be a mapping of names to lists of at least one value",
        ),
        ({"grid": {"lam": []}}, "lists of at least one value"),
        ({"grid": [1]}, "it must be a mapping of names to lists"),
        ({"parameters": {"mode": "rise"}}, "Did you mean 'raise'"),
        ({"parameters": {"lam": 1.0}, "grid": {"lam": [1.0]}}, "lam is in parameters and in grid"),
        ({"parameters": 3}, "parameters=3 is not valid: it must be a mapping"),
        ({"runs": {"lam": 1.0}}, "runs=.* must be a list of mappings"),
        ({"seeds": "three"}, "seeds='three' is not valid"),
        ({"seeds": 0}, "seeds=0 is not valid"),
        ({"seeds": [0, -1]}, "seed=-1 is not valid: it must be a whole number from 0 to 10000"),
        ({"repeats": 0}, "repeats=0"),
        ({"repeats": True}, "repeats=True"),
        ({"timeout": "long"}, "timeout='long'"),
        ({"memory_mb": 5}, "memory_mb=5"),
        ({"title": "x", "y" * 10_000: 1}, "has no key 'y{79}; valid"),
        ({"memory_mb": "x" * 10_000}, "memory_mb='x{79} is not valid"),
        ({"gpu": 1}, "gpu=1 is not valid: it must be true or false"),
        ({"notebook": "tinny.py"}, "does not exist in .*Did you mean 'tiny.py'"),
        ({"notebook": "00_to_minute_tour"}, "is unknown.*Did you mean '00_two_minute_tour'"),
        ({"notebook": []}, "names no notebook"),
        ({"seeds": 9_000, "repeats": 20}, "has 180,000 runs; at most 100,000"),
    ],
)
def test_what_is_wrong_is_one_sentence(studies: Path, content: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        study(studies, **content)


def test_a_wrong_study_is_refused_and_nothing_is_written(studies: Path) -> None:
    path = studies / "bad.yml"
    for text, sentence in (
        ("notebook: tiny.py\ngrid: {lamb: [1.0]}\n", "tiny has no parameter 'lamb'"),
        ("notebook: [\n", "bad.yml is not valid YAML"),
        ("- 1\n", "bad.yml must be a mapping"),
    ):
        path.write_text(text)
        done = CliRunner().invoke(app, ["sweep", str(path), "--out", str(studies / "out")])
        assert done.exit_code == 2 and sentence in done.stderr and len(done.stderr.strip().splitlines()) == 1
        assert not (studies / "out").exists()
    done = CliRunner().invoke(app, ["sweep", str(studies / "missing.yml")])
    assert done.exit_code == 2 and "does not exist" in done.stderr
    done = CliRunner().invoke(app, ["report", str(studies)])
    assert done.exit_code == 2 and "holds no study" in done.stderr


def test_a_dry_run_lists_and_writes_nothing(studies: Path) -> None:
    path = studies / "dry.yml"
    path.write_text("notebook: tiny.py\ngrid: {lam: [0.1, 1.0]}\nseeds: 2\n")
    done = CliRunner().invoke(app, ["sweep", str(path), "--dry-run", "--out", str(studies / "out")])
    assert done.exit_code == 0 and done.stdout.splitlines()[-1] == "4 runs"
    assert not (studies / "out").exists()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_studies_that_ship_are_valid(path: Path) -> None:
    found = runs.read_study(path)
    assert len(found) >= 24 and found.title and found.memory_mb
    assert len({one.parameters["seed"] for one in found.runs}) >= 3
    json.dumps([one.parameters for one in found.runs])


def test_four_studies_ship() -> None:
    assert [path.stem for path in SHIPPED] == ["attack_defence", "attack_target_seed", "fraud", "lam_frontier"]
