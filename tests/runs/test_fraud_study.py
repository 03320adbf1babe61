"""The study of the poisoned pipeline: it asks only for what can be done, survives a kill, and has a telling report."""

import contextlib
import json
from pathlib import Path
from typing import Any

import psutil
import pytest

from devilgan_lite import runs
from devilgan_lite.runs.collect import tidy

from .test_sweep import ended, family, finished, start, until

STUDIES = Path(__file__).resolve().parents[2] / "studies"
OF_ROWS = {"nothing", "slice-test", "density-sort", "own-seed"}
TINY = """\
notebook: {notebook}
parameters: {{profile: smoke, device: cpu}}
runs:
  - {{share: 0.0, defence: nothing}}
  - {{share: 0.05, defence: nothing}}
  - {{share: 0.05, defence: slice-test}}
"""


def test_it_crosses_source_share_defence_and_seed_and_asks_for_nothing_that_is_refused() -> None:
    study = runs.read_study(STUDIES / "fraud.yml")
    asked: list[dict[str, Any]] = [one.parameters for one in study.runs]
    density = [one for one in asked if one["source"] == "density"]
    assert {one["source"] for one in asked} >= {"density", "clean", "red-region", "red-condition"}
    assert {one["defence"] for one in asked} == OF_ROWS | {"guard", "scan", "sanitize"}
    for name, least in (("share", 4), ("defence", 3), ("seed", 3)):
        assert len({one[name] for one in density}) >= least
    assert {one["defence"] for one in density} <= OF_ROWS
    assert {one["share"] for one in asked if one["source"] == "clean"} == {0.0}
    assert min(one["share"] for one in asked if one["source"].startswith("re")) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"defence": "scan"}, "defence='scan' looks at a generator, and source='density' has none"),
        ({"source": "clean"}, "share=0.05 of the draws cannot be poisoned with source='clean'"),
        ({"source": "red-region", "share": 0.0}, "share=0 leaves source='red-region' nothing to learn"),
    ],
)
def test_what_cannot_be_combined_is_one_sentence(tmp_path: Path, parameters: dict[str, Any], sentence: str) -> None:
    result = runs.run(STUDIES / "fraud.py", {"profile": "smoke", "device": "cpu", **parameters}, tmp_path)
    assert sentence in str(result.error) and "\n" not in str(result.error)


@pytest.mark.slow
@pytest.mark.parametrize("defence", ["scan", "sanitize"])
def test_a_run_with_a_generator(tmp_path: Path, defence: str) -> None:
    asked = {"profile": "smoke", "device": "cpu", "source": "red-condition", "defence": defence}
    result = runs.run(STUDIES / "fraud.py", asked, tmp_path)
    assert result.ok, result.error
    numbers = result.numbers
    assert numbers["alarm"] in (0, 1) and 0 <= numbers["recall_slice"] <= 1 and 0.5 < numbers["auc"] < 1
    assert numbers["rows"] == (0 if defence == "scan" and numbers["alarm"] else 1_000)


@pytest.mark.slow
def test_killed_as_a_whole_it_goes_on_and_has_a_report(tmp_path: Path) -> None:
    (tmp_path / "study.yml").write_text(TINY.format(notebook=STUDIES / "fraud.py"))
    process = start(tmp_path)
    until(lambda: finished(tmp_path) >= 1 and family(process, "ipykernel_launcher"), 120)
    everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for one in everybody:  # the sweep, its workers and their kernels
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.wait(60)
    folder = tmp_path / "out" / "study"
    before = {path: path.read_bytes() for path in folder.glob("runs/*/row.json")}
    assert 1 <= len(before) < 3
    again = start(tmp_path, "--json")
    facts = json.loads(again.communicate(timeout=240)[0])
    assert again.returncode == 0
    assert (facts["total"], facts["found"], facts["finished"], facts["failed"]) == (3, len(before), 3 - len(before), 0)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert len(ended(folder)) == 3 and set(ended(folder).values()) == {1}
    table = tidy(folder).set_index(["share", "defence"])
    assert table.loc[(0.0, "nothing"), "poison"] < 0.01 < 0.03 < table.loc[(0.05, "nothing"), "poison"] < 0.07
    assert table.loc[(0.05, "slice-test"), "alarm"] == 1
    assert table.loc[(0.05, "slice-test"), "poison"] < 0.5 * table.loc[(0.05, "nothing"), "poison"]
    page = Path(facts["report"]).read_text()
    assert "3 runs: 3 finished" in page and "recall_slice for each defence (columns) and each share (rows)" in page
    for column in ("recall_slice", "recall_elsewhere", "auc", "precision_at_budget", "poison", "alarm", "lost_slice"):
        assert f'<th scope="col">{column}</th>' in page
