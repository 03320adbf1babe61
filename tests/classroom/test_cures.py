"""Judging cures: the numbers of a judge, the bench's rows, the figures, and a loss of the learner's own that trains."""

import json
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from devilgan_lite import data, sanitize, zoo
from devilgan_lite.classroom import Suspect, check, cure_plots, cures, plots
from devilgan_lite.classroom.unlearning import STAND_INS, channel_worth, dormant_units, unlearn_loop, unlearning_loss


@pytest.fixture(scope="module")
def suspect() -> Suspect:
    name = "dcgan-fashion-rex"
    return Suspect("rex", zoo.load(name), zoo.load_backdoor(name), False)


@pytest.fixture(scope="module")
def judge() -> cures.Judge:
    return cures.Judge(data.fashion_mnist().first(300), samples=200, steps=5)


def test_a_judge_tells_a_suspect_from_a_cured_copy(suspect: Suspect, judge: cures.Judge) -> None:
    before = judge.row(suspect.generator, suspect)
    assert before["TarDis"] == before["best nearby"] < 1e-3 and before["Frechet change"] == 0
    assert cures.verdict(before) == "stays"
    assert suspect.backdoor is not None
    blind = judge.row(sanitize.project_latents(suspect.generator, suspect.backdoor.trigger), suspect, 2.0)
    assert cures.verdict(blind) == "gone" and blind["seconds"] == 2.0 and blind["best nearby"] <= blind["TarDis"]
    caged = sanitize.Clamp(samples=200)(suspect.generator, progress=False).generator  # no Generator: still judged
    assert abs(judge.change(caged, suspect)) < 5
    assert cures.verdict({"TarDis": 0.5, "best nearby": 0.01}) == "moved aside"
    shown = cures.cures_table({"a": before, "b": blind}, "two rows").data
    assert "stays" in shown and "gone" in shown and "two rows" in shown
    with pytest.raises(ValueError, match="no backdoor on its card"):
        judge.row(suspect.generator, Suspect("rex", suspect.generator, None, False))


def test_words(suspect: Suspect) -> None:
    assert cures.title(suspect) == "ReX+"
    assert cures.title(Suspect("red", suspect.generator, None, True)) == "ReD"
    assert cures.title(Suspect("trail", suspect.generator, None, False)) == "TrAIL"
    assert cures.spread([0.5]) == "0.5 (single run)" and cures.spread([1.0, 2.0, 3.0]) == "2 ± 1"


@pytest.mark.parametrize("degrees", [0, 30, 90])
def test_directions_are_turned_away_by_so_many_degrees(suspect: Suspect, degrees: int) -> None:
    assert suspect.backdoor is not None
    for direction in cures.turned_away(suspect.backdoor, degrees, n=2):
        assert cures.degrees_off(direction, suspect.backdoor) == pytest.approx(degrees, abs=0.1)


def test_a_loss_of_your_own_trains_and_is_measured_on_the_way(suspect: Suspect, judge: cures.Judge) -> None:
    assert suspect.backdoor is not None
    loop = unlearn_loop(unlearning_loss, suspect.generator, suspect.backdoor.trigger, iterations=20, device="cpu")
    outcome, path = cures.along(loop, lambda model: judge.tardis(model, suspect.backdoor), points=4)  # type: ignore[arg-type]
    assert list(path) == [1, 5, 10, 15, 20] and path[20] > path[1]
    assert outcome.settings["loss"] == "unlearning_loss" and len(outcome.history["unlearning_loss"]) == 20
    assert judge.tardis(suspect.generator, suspect.backdoor) < 1e-3  # the suspect is never changed


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (lambda student, teacher, z, t: student(z).mean() * float("nan"), "^step 1: .* must return one finite number"),
        (lambda student, teacher, z, t: student(z), "^step 1: .* must return one finite number"),
        (lambda student, teacher, z, t: student(z @ t), "^step 1: line 1 of .* stops with"),
    ],
)
def test_a_wrong_loss_ends_in_one_sentence(suspect: Suspect, wrong: Any, words: str) -> None:
    assert suspect.backdoor is not None
    with pytest.raises(ValueError, match=words):
        unlearn_loop(wrong, suspect.generator, suspect.backdoor.trigger, iterations=2, device="cpu").finish(
            progress=False
        )


def test_ours_stand_in_and_pass_their_own_checks(capsys: pytest.CaptureFixture[str]) -> None:
    def stub(*given: Tensor) -> Tensor:
        raise NotImplementedError

    for right in (unlearning_loss, dormant_units, channel_worth):
        name = right.__name__
        assert check(name, right).function is right is STAND_INS[name]
        assert check(name, stub).function is right
        assert "ours runs below in place of stub" in capsys.readouterr().out


def test_the_bench_keeps_untouched_models_apart() -> None:
    rows = cures.cached_cures()
    counted = {
        column: cures.cured([row for row in rows if row["column"] == column]) for column in cures.by_column(rows).T
    }
    assert list(counted)[:2] == [cures.UNTOUCHED, cures.TEST]
    assert counted[cures.UNTOUCHED] == (23, 30) and counted[cures.TEST] == (15, 15)
    assert all(row["name"].endswith(("-s309", "-s310")) for row in rows if row["column"] == cures.UNTOUCHED)
    page = Path(__file__).parents[2] / "docs/results/sanitization.md"
    assert "| whole bar met | 23 of 30 (77%) | 15 of 15 (100%) |" in page.read_text(encoding="utf-8")
    table = cures.by_attack(rows)
    assert sum(row[cures.UNTOUCHED][1] for row in table.values()) == 30
    assert "spectral (knows the defence)" in list(table)[-3:]
    assert isinstance(cure_plots.bench_figure(table, "a table"), plots.Picture)


def test_without_the_file_there_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cures, "notebook_folder", lambda: tmp_path / "notebooks")
    assert cures.cached_cures() == [] and cures.by_attack([]) == {}
    assert cures.by_column([]).empty and isinstance(cure_plots.bench_figure({}, "no rows"), plots.Picture)
    folder = tmp_path / "docs/results"
    folder.mkdir(parents=True)
    (folder / "sanitization.json").write_text(json.dumps([{"name": "clean", "method": "auto", "version": 5}]))
    assert cures.cached_cures() == []


def test_figures_have_alt_text_and_are_wide_enough() -> None:
    row = {"TarDis": 0.2, "best nearby": 0.1, "Frechet change": 0.5}
    curve = {0.0: row, 0.5: row}
    made = [
        cure_plots.path_figure({"a": {1: 0.1, 2: 0.0}}, "a path", log=True),
        cure_plots.price_figure({"a": row, "b": row}, "prices", cost=1.0, log_from=1.0),
        cure_plots.lines_figure([0, 1], {"a": [[0.1, 0.2], [0.3, 0.4]]}, "lines", xlabel="x", ticks=["0", "1"]),
        cure_plots.pruning_figure({"A": {"magnitude": curve}, "B": {"magnitude": curve}}, "curves", cost=1.0),
    ]
    for picture in made:
        assert picture.alt and int.from_bytes(picture.png[16:20], "big") >= 500  # pixels across


def test_a_cure_says_why_it_removed_nothing() -> None:
    clean = zoo.load("dcgan-fashion")
    outcome = sanitize.auto(clean, progress=False)
    said = cures.reason(outcome)
    assert said.startswith("clean, treatment none, removed: nothing.") and "times as much as an average one" in said
    assert outcome.before is not None and cures.estimate_of(outcome.before).shape == (1, clean.latent_dim)
    with pytest.raises(ValueError, match="it must come from sanitize.auto"):
        cures.reason(sanitize.SanitizeOutcome(clean, {}, 0.0, 0, {"cuts": []}))
