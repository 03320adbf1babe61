"""The table of a study, its means and intervals, and its page."""

import csv
import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import scipy.stats

from devilgan_lite import runs
from devilgan_lite.runs import collect, study_report

Numbers = list[dict[str, Any] | None]


def kept(folder: Path, parameters: list[dict[str, Any]], numbers: Numbers) -> Path:
    """A folder with finished runs of these parameters and numbers (None: failed), and one that is not there yet."""
    asked = enumerate([*parameters, {"lam": 9.0}])
    some = [runs.Run(f"{index:016x}", "attack", Path("attack.py"), one) for index, one in asked]
    store = runs.Store(folder)
    with store.writing():
        store.describe(runs.Study("made", "Made <here>", tuple(some)))
        for one, found in zip(some, numbers, strict=False):
            row = {"id": one.id, "notebook": "attack", "repeat": 0, "parameters": one.parameters, "attempt": 1}
            if found is None:
                row |= {"status": "failed", "reason": "cell 3: <b>no</b>", "failure": "exception", "seconds": 1.0}
            else:
                row |= {"status": "finished", "seconds": 2.0, "numbers": found, "peak_memory_mb": 10.0}
            store.keep(row, {"attack.ipynb": b"{}"})
    return folder


def attack(name: str, lam: float, seed: int, **more: Any) -> dict[str, Any]:
    return {"attack": name, "lam": lam, "seed": seed, **more}


@pytest.fixture
def frontier(tmp_path: Path) -> Path:
    """Two attacks, two weights, three seeds; the last run has failed."""
    asked = [attack(name, lam, seed) for name in ("red", "rex") for lam in (0.1, 1.0) for seed in (0, 1, 2)]
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
    assert list(table["id"]) == sorted(table["id"])
    assert {"attack", "lam", "seed", "tardis_mean", "expdis_mean", "deep.er.value", "seconds"} <= set(table)
    assert "list" not in table and "attacks" not in table
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
    page = runs.report(frontier)
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
    empty = runs.report(kept(tmp_path / "empty", [{"lam": 1.0}], [])).read_text()
    assert "2 runs: 2 waiting" in empty and "No run has finished yet." in empty


def test_an_attack_without_a_setting_of_the_others_is_on_the_frontier(tmp_path: Path) -> None:
    asked = [attack("closed-form", lam, seed) for lam in (0.1, 1.0) for seed in (0, 1)]
    asked += [attack("red", lam, seed, iterations=1_000) for lam in (0.1, 1.0) for seed in (0, 1)]
    asked += [attack("rex", 1.0, 0, iterations=steps) for steps in (250, 500)]
    folder = kept(tmp_path, asked, [{"attacks": [{"tardis_mean": 0.1, "expdis_mean": one["lam"]}]} for one in asked])
    by = ["attack", "lam", "iterations"]
    made = study_report.frontier(collect.averages(collect.tidy(folder), by, ["tardis_mean", "expdis_mean"]), by)
    assert made is not None
    labels = [text.get_text() for text in made[0].legends[0].get_texts()]
    assert labels == ["closed-form, -", "red, 1000", "rex, 250", "rex, 500"]
    runs.report(folder)
    assert (folder / "frontier.png").read_bytes().startswith(b"\x89PNG") and not (folder / "heat_map.png").exists()


def test_the_heat_map_has_a_cell_for_each_pair_and_shows_what_was_measured_first(tmp_path: Path) -> None:
    asked = [{"attack": a, "defence": d, "seed": s} for a in ("red", "rex") for d in ("auto", "prune") for s in (0, 1)]
    folder = kept(tmp_path / "pairs", asked, [{"tardis_after": 0.1 * (1 + one["seed"])} for one in asked])
    summary = collect.averages(collect.tidy(folder), ["attack", "defence"], ["tardis_after"])
    made = study_report.heat_map(summary, ["attack", "defence"])
    assert made is not None
    assert [text.get_text() for text in made[0].axes[0].texts] == ["0.15"] * 4 and "each attack" in made[1]
    assert study_report.frontier(summary, ["attack", "defence"]) is None

    asked = [
        {"source": source, "share": share, "defence": defence, "seed": seed}
        for source, share in (("density", 0.0), ("density", 0.05), ("gan", 0.05))
        for defence in ("nothing", "sort")
        for seed in (0, 1)
    ][:-2]
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
    runs.report(folder)
    assert (folder / "heat_map.png").is_file() and not (folder / "frontier.png").exists()


def crowded(figure: Any) -> list[str]:
    """The words of a figure that leave it, and the pairs of them that lie on each other."""
    figure.draw_without_rendering()
    words = [text for legend in figure.legends for text in legend.get_texts()]
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            ticks = [one for one in (*axis.get_major_ticks(), *axis.get_minor_ticks()) if low <= one.get_loc() <= high]
            words += [axis.label, axis.get_offset_text(), *(word for one in ticks for word in (one.label1, one.label2))]
    frame = figure.bbox.padded(1)
    boxes = [(word, word.get_window_extent()) for word in words if word.get_visible() and word.get_text()]
    found = [
        f"{word.get_text()} leaves the figure"
        for word, box in boxes
        if not (frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1)
    ]
    level = [(word, box.padded(-1)) for word, box in boxes if word.get_rotation() in (0, 90)]
    pairs = itertools.combinations(level, 2)
    return found + [f"{one.get_text()} on {other.get_text()}" for (one, a), (other, b) in pairs if a.overlaps(b)]


LONG = "an attack with a very long name, one of many, and still more words to come; number"
POINTS = {  # ExpDis, TarDis
    "like lam": [(0.003, 30.0), (0.1, 1.0), (1.0, 0.1), (30.0, 0.003)],
    "one value": [(0.00950444, 0.3)],
    "alike": [(0.00950444, 0.30001), (0.00950451, 0.30002)],
    "zero": [(0.0, 0.3), (0.0095, 0.2)],
    "zero and tiny": [(0.0, 0.0), (1e-9, 0.2), (0.004, 1e-6)],
    "only zeros": [(0.0, 0.0)],
    "large": [(2e5, 0.2), (3e9, 3e7)],
}


def check_frontiers(name: str, spread: float | None) -> None:
    for case, points in POINTS.items():
        rows = [
            {"attack": f"{name} {index}", "runs": 2, "expdis_mean": x, "tardis_mean": y, "expdis_mean ±": spread}
            for index, (x, y) in enumerate(points)
        ]
        made = study_report.frontier(pd.DataFrame(rows).assign(**{"tardis_mean ±": spread}), ["attack"])
        assert made is not None and crowded(made[0]) == [], case
        ax = made[0].axes[0]
        low, high, bottom, top = (*ax.get_xlim(), *ax.get_ylim())
        assert all(low < x < high and bottom < y < top for x, y in points), case


def check_heat_maps(name: str, measured: str) -> None:
    for values in ((0.0, 0.0), (0.3, 0.300001), (0.003, 30.0)):
        rows = [
            {"attack": f"{name} {index}", "defence": defence, "runs": 2, measured: value, f"{measured} ±": None}
            for index, value in enumerate(values)
            for defence in ("auto", "a defence with a longer name")
        ]
        made = study_report.heat_map(pd.DataFrame(rows), ["attack", "defence"])
        assert made is not None and crowded(made[0]) == [], values


MEASURED = "a_number_with_a_long_name_that_was_measured_once_in_a_while"


@pytest.mark.parametrize(
    "check",
    [lambda: check_frontiers(LONG, 0.02), lambda: check_heat_maps(LONG, MEASURED)],
    ids=["frontier", "heat map"],
)
def test_the_words_of_a_figure_have_room(check: Callable[[], None]) -> None:
    check()


@pytest.mark.nightly
def test_the_words_of_every_figure_have_room_and_a_thousand_runs_are_reported(tmp_path: Path) -> None:
    for name, other in itertools.product(("a", LONG), (None, 0.02)):
        check_frontiers(name, other)
    for name, measured in itertools.product(("a", LONG), ("tardis_after", MEASURED)):
        check_heat_maps(name, measured)
    asked = [attack(name, lam, seed) for name in ("red", "rex") for lam in (0.1, 1.0) for seed in range(250)]
    folder = kept(tmp_path, asked, [{"attacks": [{"tardis_mean": 0.1, "expdis_mean": one["lam"]}]} for one in asked])
    assert "1001 runs: 1000 finished, 1 waiting" in runs.report(folder).read_text()
