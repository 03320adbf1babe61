"""Judging cures: the numbers of a judge, the words for them, and the rows of the bench."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import data, sanitize, zoo
from devilgan_lite.apps import pictures
from devilgan_lite.apps.course import Suspect, cure_plots, cures


@pytest.fixture(scope="module")
def suspect() -> Any:
    name = "dcgan-fashion-rex"
    return Suspect("rex", zoo.load(name), zoo.load_backdoor(name), False)


def test_a_judge_tells_a_suspect_from_a_cured_copy(suspect: Any, refuses: Callable[..., str]) -> None:
    judge = cures.Judge(data.fashion_mnist().first(120), samples=100, steps=5)
    before = judge.row(suspect.generator, suspect)
    assert before["TarDis"] == before["best nearby"] < 1e-3 and before["Frechet change"] == 0
    projected = sanitize.project_latents(suspect.generator, suspect.backdoor.trigger)
    blind = judge.row(projected, suspect, 2.0)
    assert cures.verdict(blind) == "gone" and blind["seconds"] == 2.0 and blind["best nearby"] <= blind["TarDis"]
    paid = judge.frechet(projected, suspect) - judge.frechet(suspect.generator, suspect)
    assert blind["Frechet change"] == pytest.approx(paid) != 0
    caged = sanitize.Clamp(samples=200)(suspect.generator, progress=False).generator  # no Generator: still judged
    assert abs(judge.change(caged, suspect)) < 5
    shown = cures.cures_table({"a": before, "b": blind}, "two rows").data
    assert "stays" in shown and "gone" in shown and "two rows" in shown
    refuses(lambda: judge.row(suspect.generator, Suspect("rex", suspect.generator, None, False)), "backdoor")
    for wrong in ({"samples": 99}, {"steps": 0}):
        refuses(lambda wrong=wrong: cures.Judge(judge.real, **wrong), *wrong)


def test_words_and_angles(suspect: Any) -> None:
    for word, far, near in (
        ("stays", 0.0, 0.0),
        ("stays", 0.099, 0.09),
        ("moved aside", 0.5, 0.01),
        ("gone", 0.5, 0.5),
        ("gone", 0.12, 0.1),
    ):
        assert cures.verdict({"TarDis": far, "best nearby": near}) == word and word in cures.RULE
    titles = [
        cures.title(Suspect(name, suspect.generator, None, own)) for name, own in (("red", True), ("trail", False))
    ]
    assert [cures.title(suspect), *titles] == ["ReX+", "ReD", "TrAIL"]
    assert cures.spread([0.5]) == "0.5 (single run)" and cures.spread([1.0, 2.0, 3.0]) == "2 ± 1"
    for degrees in (0, 30, 90):
        turned = cures.turned_away(suspect.backdoor, degrees, n=2)
        assert [cures.degrees_off(one, suspect.backdoor) for one in turned] == pytest.approx([degrees] * 2, abs=0.1)


def test_a_cure_says_why_it_removed_nothing(tiny: Any, short_twin: None, refuses: Callable[..., str]) -> None:
    outcome = sanitize.auto(tiny, progress=False)
    said = cures.reason(outcome)
    assert said.startswith("clean, treatment none, removed: nothing.") and "times as much as an average one" in said
    assert outcome.before is not None and cures.estimate_of(outcome.before).shape == (1, tiny.latent_dim)
    refuses(lambda: cures.reason(sanitize.SanitizeOutcome(tiny, {}, 0.0, 0, {"cuts": []})), "sanitize.auto")


def test_the_bench_keeps_untouched_models_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = cures.cached_cures()
    counted = {name: cures.cured([row for row in rows if row["column"] == name]) for name in cures.by_column(rows).T}
    assert list(counted)[:2] == [cures.UNTOUCHED, cures.TEST]
    assert counted[cures.UNTOUCHED] == (23, 30) and counted[cures.TEST] == (15, 15)
    page = Path(__file__).parents[3] / "docs/results/sanitization.md"
    assert "| whole bar met | 23 of 30 (77%) | 15 of 15 (100%) |" in page.read_text(encoding="utf-8")
    assert all(row["name"].endswith(("-s309", "-s310")) for row in rows if row["column"] == cures.UNTOUCHED)
    table = cures.by_attack(rows)
    assert sum(row[cures.UNTOUCHED][1] for row in table.values()) == 30
    assert "spectral (knows the defence)" in list(table)[-3:]
    assert isinstance(cure_plots.bench_figure(table, "a table"), pictures.Picture)
    monkeypatch.setattr(cures, "notebook_folder", lambda: tmp_path / "notebooks")  # without the file: no rows
    assert cures.cached_cures() == [] and cures.by_attack([]) == {} and cures.by_column([]).empty
    assert isinstance(cure_plots.bench_figure({}, "no rows"), pictures.Picture)
    (tmp_path / "docs/results").mkdir(parents=True)
    unjudged = [{"name": "clean", "method": "auto", "version": 5}]
    (tmp_path / "docs/results/sanitization.json").write_text(json.dumps(unjudged))
    assert cures.cached_cures() == []


def test_the_demands_are_those_that_notebook_08_names() -> None:
    taught = re.search(
        r"TarDis is at least ([\d.]+) per.*?at least (\d+) % of its.*?rises by at most (\d+)",
        (Path(__file__).parents[3] / "notebooks/src/08_sanitize_by_pruning.py").read_text(encoding="utf-8"),
        re.DOTALL,
    )
    gone, hidden, paid = map(float, taught.groups())  # type: ignore[union-attr]
    edge = {"base": {"recd": 1.0}, "suspect": {"frechet": 9.0}}
    cured = {"tardis": gone, "recd": hidden / 100, "frechet": 9.0 + paid}
    assert all(demand({**edge, "cured": cured}) for demand in cures.DEMANDS.values())
    missed = {"tardis": 0.99 * gone, "recd": 0.99 * hidden / 100, "frechet": 9.0 + 1.01 * paid}
    assert not any(demand({**edge, "cured": missed}) for demand in cures.DEMANDS.values())
