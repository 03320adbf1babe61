"""Studies: what a file says is checked before anything starts, and a run is known again by what decides its result."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from devilgan_lite.apps import studies
from devilgan_lite.apps.studies.study import identity

STUDIES = Path(__file__).resolve().parents[3] / "studies"
OF_ROWS = {"nothing", "slice-test", "density-sort", "own-seed"}  # defences that need no generator


def study(folder: Path, **content: Any) -> studies.Study:
    return studies.study_of({"notebook": "tiny.py", **content}, "some", folder)


def test_a_study_gives_every_combination_with_every_seed_and_no_two_alike(project: Path) -> None:
    grid = {"lam": [0.1, 1.0], "mode": ["fine", "raise"]}
    found = study(project, parameters={"seconds": 0.5}, grid=grid, seeds=[3, 5])
    assert len(found) == 8 and {one.notebook for one in found.runs} == {"tiny"}
    asked = [tuple(one.parameters[name] for name in ("seconds", "lam", "mode", "seed")) for one in found.runs[:3]]
    assert asked == [(0.5, 0.1, "fine", 3), (0.5, 0.1, "fine", 5), (0.5, 0.1, "raise", 3)]
    listed = study(project, runs=[{"lam": 1.0}, {"mode": "raise"}], seeds=2, repeats=3)
    assert len(listed) == 12 and [one.repeat for one in listed.runs[:3]] == [0, 1, 2]
    assert [one.parameters["seed"] for one in listed.runs[::3]] == [0, 1, 0, 1]
    assert len(study(project)) == 1  # the notebook's own values
    assert len(study(project, grid={"lam": [1.0]}, runs=[{"lam": 1.0}, {"lam": 2.0}])) == 2


def test_a_run_is_known_again_by_what_decides_its_result(project: Path) -> None:
    def known(*lams: float) -> list[str]:
        return [one.id for one in study(project, grid={"lam": list(lams)}, seeds=1).runs]

    first = known(0.1, 1.0)
    assert known(0.1, 1.0) == first and set(first) < set(known(0.1, 0.5, 1.0))
    asked = [("source", {"a": 1}, 0), ("source", {"a": 2}, 0), ("source", {"a": 1}, 1), ("other", {"a": 1}, 0)]
    assert len({identity(*one) for one in asked}) == 4
    assert identity("source", {"a": 1, "b": 2}, 0) == identity("source", {"b": 2, "a": 1}, 0)
    text = (project / "tiny.py").read_text()
    (project / "tiny.py").write_text(text + "\n# %% [markdown]\n# Words change nothing.\n")
    assert known(0.1, 1.0) == first
    (project / "tiny.py").write_text(text + "\n# %%\nx = 1\n")
    assert not set(known(0.1, 1.0)) & set(first)


WRONG: list[tuple[dict[str, Any], tuple[str, ...]]] = [  # what a study says, and what the refusal names
    ({"grdi": {}}, ("'grdi'", "'grid'")),
    ({"y" * 10_000: 1}, ("y" * 79,)),
    ({"grid": {"lamb": [1.0]}}, ("'lamb'", "'lam'")),
    ({"grid": {"lam": [0.1, 1000.0]}}, ("lam=1000.0",)),
    ({"grid": {"lam": 0.1}}, ("grid=",)),
    ({"grid": {"lam": []}}, ("grid=",)),
    ({"parameters": {"mode": "rise"}}, ("mode='rise'", "'raise'")),
    ({"parameters": {"lam": 1.0}, "grid": {"lam": [1.0]}}, ("lam", "parameters", "grid")),
    ({"parameters": 3}, ("parameters=3",)),
    ({"runs": {"lam": 1.0}}, ("runs=",)),
    ({"seeds": 0}, ("seeds=0",)),
    ({"seeds": [0, -1]}, ("seed=-1",)),
    ({"repeats": 0}, ("repeats=0",)),
    ({"repeats": True}, ("repeats=True",)),
    ({"timeout": 0}, ("timeout=0",)),
    ({"memory_mb": "x" * 10_000}, ("memory_mb='xxx",)),
    ({"memory_mb": 5}, ("memory_mb=5",)),
    ({"gpu": 1}, ("gpu=1",)),
    ({"notebook": "tinny.py"}, ("tinny.py", "'tiny.py'")),
    ({"notebook": []}, ("notebook",)),
    ({"seeds": 9_000, "repeats": 20}, ("180,000",)),
]


def test_a_wrong_study_is_refused_and_a_dry_run_lists_what_is_right(
    project: Path, refuses: Callable[..., str], fails: Callable[..., str], call: Any
) -> None:
    for content, names in WRONG:
        assert len(refuses(partial(study, project, **content), *names)) < 600
    path = project / "some.yml"
    for text, name in (("grid: {lamb: [1.0]}\nnotebook: tiny.py", "'lamb'"), ("a: [", path.name), ("- 1", path.name)):
        path.write_text(text)
        fails("sweep", "some.yml", "--out", "out", names=[name])
    path.write_text("notebook: tiny.py\ngrid: {lam: [0.1, 1.0]}\nseeds: 2\n")
    done = call("sweep", "some.yml", "--dry-run", "--out", "out")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0 and lines[-1] == "4 runs" and len({line.split()[0] for line in lines[:-1]}) == 4
    assert not (project / "out").exists()


def test_the_studies_that_ship_are_valid() -> None:
    shipped = {path.stem: studies.read_study(path) for path in sorted(STUDIES.glob("*.yml"))}
    assert list(shipped) == ["attack_defence", "attack_target_seed", "fraud", "lam_frontier"]
    for found in shipped.values():
        assert len(found) >= 24 and found.title and found.memory_mb
        assert len({one.parameters["seed"] for one in found.runs}) >= 3
    asked = [one.parameters for one in shipped["fraud"].runs]
    assert {one["defence"] for one in asked} == OF_ROWS | {"guard", "scan", "sanitize"}
    assert {one["defence"] for one in asked if one["source"] == "density"} <= OF_ROWS
    assert all((one["share"] == 0) == (one["source"] == "clean") for one in asked if one["source"] != "density")
