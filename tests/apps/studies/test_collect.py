"""The table of a study, its means and intervals, and its page."""

import csv
import itertools
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats

from devilgan_lite.apps import studies
from devilgan_lite.apps.studies import collect, study_report

Numbers = list[dict[str, Any] | None]


def kept(folder: Path, parameters: list[dict[str, Any]], numbers: Numbers) -> Path:
    """A folder with finished runs of these parameters and numbers (None: failed), and one that is not there yet."""
    asked = enumerate([*parameters, {"lam": 9.0}])
    some = [studies.Run(f"{index:016x}", "attack", Path("attack.py"), one) for index, one in asked]
    store = studies.Store(folder)
    with store.writing():
        store.describe(studies.Study("made", "Made <here>", tuple(some)))
        for one, found in zip(some, numbers, strict=False):
            row = {"id": one.id, "notebook": "attack", "repeat": 0, "parameters": one.parameters, "attempt": 1}
            row |= {"status": "finished", "seconds": 2.0, "numbers": found, "peak_memory_mb": 10.0}
            if found is None:
                row |= {"status": "failed", "reason": "cell 3: <b>no</b>", "failure": "exception", "numbers": {}}
            store.keep(row, {"attack.ipynb": b"{}"})
    return folder


def grid(**values: Any) -> list[dict[str, Any]]:
    """All combinations, the last one changing fastest."""
    return [dict(zip(values, some, strict=True)) for some in itertools.product(*values.values())]


@pytest.fixture
def frontier(tmp_path: Path) -> Path:
    """Two attacks, two weights, three seeds; the last run has failed."""
    asked = grid(attack=("red", "rex"), lam=(0.1, 1.0), seed=(0, 1, 2))
    found: Numbers = [
        {
            "attacks": [{**one, "tardis_mean": 0.1 / one["lam"] + 0.01 * one["seed"], "expdis_mean": one["lam"]}],
            "deep": {"er": {"value": one["seed"]}},
            "list": [1, 2],
        }
        for one in asked[:-1]
    ]
    return kept(tmp_path, asked, [*found, None])


def test_the_table_has_a_line_a_run_or_entry_and_means_are_those_of_student(frontier: Path, tmp_path: Path) -> None:
    table = collect.tidy(frontier)
    assert len(table) == 13 and list(table["status"]) == ["finished"] * 11 + ["failed", "waiting"]
    assert list(table["id"]) == sorted(table["id"]) and "list" not in table and "attacks" not in table
    assert collect.parameters_in(frontier) == ["attack", "lam"]
    assert collect.parameters_in(frontier, all_of_them=True) == ["attack", "lam", "seed"]
    assert set(collect.measured(table, ["attack", "lam"])) == {"seconds", "tardis_mean", "expdis_mean", "deep.er.value"}

    means = collect.averages(table, ["attack", "lam"], ["tardis_mean", "deep.er.value"])
    assert list(means["runs"]) == [3, 3, 3, 2]  # neither failed nor waiting runs count
    values = [1.0, 1.01, 1.02]
    low, high = scipy.stats.t.interval(0.95, 2, sum(values) / 3, scipy.stats.sem(values))
    assert means.iloc[0]["tardis_mean"] == pytest.approx(1.01)
    assert means.iloc[0]["tardis_mean ±"] == pytest.approx((high - low) / 2)
    single = collect.averages(table[table["seed"] == 0], ["attack", "lam"], ["tardis_mean"])
    assert list(single["runs"]) == [1] * 4 and single["tardis_mean ±"].isna().all()
    assert len(collect.averages(table, [], ["tardis_mean"])) == 1

    entries = [{"attack": "a", "tardis_mean": 1.0}, {"attack": "b", "tardis_mean": 2.0}]
    several = collect.tidy(kept(tmp_path / "several", [{"lam": 1.0}], [{"attacks": entries, "all": 3.0}]))
    assert list(several["attack"][:2]) == ["a", "b"] and list(several["all"][:2]) == [3.0, 3.0]


def test_the_page_and_the_tables(frontier: Path, tmp_path: Path) -> None:
    page = studies.report(frontier)
    text = page.read_text()
    assert page == frontier / "index.html" and "<h1>Made &lt;here&gt;</h1>" in text
    assert "13 runs: 11 finished, 1 failed, 1 waiting" in text
    assert "cell 3: &lt;b&gt;no&lt;/b&gt;" in text and "<b>no</b>" not in text
    links = re.findall(r'href="(runs/[^"]+)"', text)
    assert len(links) == 12 and all((frontier / link).is_file() for link in links)
    assert len(re.findall(r'<img alt="[^"]{20,}" src="data:image/png', text)) == 1 and "http" not in text
    rows = list(csv.DictReader((frontier / "table.csv").open()))
    stored = pd.read_parquet(frontier / "table.parquet")
    assert len(rows) == len(stored) == 13 and math.isclose(float(rows[0]["tardis_mean"]), stored["tardis_mean"][0])
    assert len(pd.read_csv(frontier / "averages.csv")) == 4
    assert (frontier / "frontier.png").read_bytes().startswith(b"\x89PNG") and not (frontier / "heat_map.png").exists()
    empty = studies.report(kept(tmp_path / "empty", [{"lam": 1.0}], [])).read_text()
    assert "2 runs: 2 waiting" in empty and "No run has finished yet." in empty


def test_an_attack_without_a_setting_of_the_others_is_on_the_frontier(tmp_path: Path) -> None:
    asked = grid(attack=["closed-form"], lam=(0.1, 1.0), seed=(0, 1))
    asked += grid(attack=["red"], lam=(0.1, 1.0), seed=(0, 1), iterations=[1_000])
    asked += grid(attack=["rex"], lam=[1.0], seed=[0], iterations=(250, 500))
    folder = kept(tmp_path, asked, [{"attacks": [{"tardis_mean": 0.1, "expdis_mean": one["lam"]}]} for one in asked])
    by = ["attack", "lam", "iterations"]
    made = study_report.frontier(collect.averages(collect.tidy(folder), by, ["tardis_mean", "expdis_mean"]), by)
    assert made is not None
    labels = [text.get_text() for text in made[0].legends[0].get_texts()]
    assert labels == ["closed-form, -", "red, 1000", "rex, 250", "rex, 500"]


def test_the_heat_map_has_a_cell_for_each_pair_and_shows_what_was_measured_first(tmp_path: Path) -> None:
    asked = grid(attack=("red", "rex"), defence=("auto", "prune"), seed=(0, 1))
    folder = kept(tmp_path / "pairs", asked, [{"first": 9.0, "tardis_after": 0.1 * (1 + one["seed"])} for one in asked])
    summary = collect.averages(collect.tidy(folder), ["attack", "defence"], ["first", "tardis_after"])
    made = study_report.heat_map(summary, ["attack", "defence"])
    assert made is not None
    assert [text.get_text() for text in made[0].axes[0].texts] == ["0.15"] * 4 and "each attack" in made[1]
    assert study_report.frontier(summary, ["attack", "defence"]) is None

    asked = grid(source=["density"], share=(0.0, 0.05), defence=("nothing", "sort"), seed=(0, 1))
    asked += grid(source=["gan"], share=[0.05], defence=["nothing"], seed=(0, 1))
    folder = kept(tmp_path / "names", asked, [{"recall": 0.9 - one["share"] + 0.02 * one["seed"]} for one in asked])
    by = ["defence", "source", "share"]
    summary = collect.averages(collect.tidy(folder), by, ["seconds", "recall"])
    made = study_report.heat_map(summary, by)
    assert made is not None
    axes = made[0].axes[0]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["density, 0", "density, 0.05", "gan, 0.05"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["nothing", "sort"]
    assert [text.get_text() for text in axes.texts] == ["0.91", "0.91", "0.86", "0.86", "0.86"]  # one was not asked for
    assert "recall for each defence (columns) and each source, share (rows)" in made[1]
    assert study_report.heat_map(summary[summary["source"] == "gan"], by) is None  # one group
    studies.report(folder)
    assert (folder / "heat_map.png").is_file() and not (folder / "frontier.png").exists()


def crowded(figure: Any) -> list[str]:
    """What has no room in a figure: words that leave it, labels of an axis that lie on each other."""
    figure.draw_without_rendering()
    box, (wide, high) = figure.get_tightbbox(), figure.get_size_inches()
    found = [] if min(box.x0, box.y0, wide - box.x1, high - box.y1) > -0.02 else [f"{box} leaves {wide}, {high}"]
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis)):
        low, high = sorted(axis.get_view_interval())
        labels = [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
        boxes = [one.get_window_extent().padded(-1) for one in labels if one.get_visible() and not one.get_rotation()]
        found += [f"{one} on {other}" for one, other in itertools.combinations(boxes, 2) if one.overlaps(other)]
    return found


POINTS = [  # ExpDis, TarDis
    [(0.001, 100.0), (0.1, 1.0), (1.0, 0.1), (100.0, 0.001)],
    [(0.00950444, 0.30001), (0.00950451, 0.30002)],
    [(0.0, 0.0), (1e-9, 0.2), (0.004, 1e-6)],
    [(0.0, 0.0)],
    [(2e5, 0.2), (3e9, 3e7)],
]


def test_the_words_and_points_of_a_figure_have_room() -> None:
    name = "an attack with a very long name, one of many, and still more words to come; number"
    for points in POINTS:
        rows = [
            {"attack": f"{name} {index}", "runs": 2, "expdis_mean": x, "tardis_mean": y, "expdis_mean ±": 0.02}
            for index, (x, y) in enumerate(points)
        ]
        made = study_report.frontier(pd.DataFrame(rows).assign(**{"tardis_mean ±": None}), ["attack"])
        assert made is not None and crowded(made[0]) == [], points
        (low, high), (bottom, top) = (limits() for limits in (made[0].axes[0].get_xlim, made[0].axes[0].get_ylim))
        assert all(low < x < high and bottom < y < top for x, y in points), points
    measured = "a_number_with_a_long_name_that_was_measured_once_in_a_while"
    for values in ((0.0, 0.0), (0.3, 0.300001), (0.003, 30.0)):
        rows = [
            {"attack": f"{name} {index}", "defence": defence, "runs": 2, measured: value, f"{measured} ±": None}
            for index, value in enumerate(values)
            for defence in ("auto", "a defence with a longer name")
        ]
        made = study_report.heat_map(pd.DataFrame(rows), ["attack", "defence"])
        assert made is not None and crowded(made[0]) == [], values
