"""Classifier, ledger and one run from rows to figures; and what each defence sees in honest and poisoned rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from devilgan_lite.data.tables import Table
from devilgan_lite.detect import usual
from devilgan_lite.generators import PointGenerator
from devilgan_lite.pipeline import (
    Assumptions,
    Neighbours,
    PipelineSettings,
    Poisoned,
    Slice,
    density_sort,
    guard_while_sampling,
    ledger,
    poisoned_rows,
    rows_that_pass,
    run,
    sanitized,
    scan_before_use,
    split,
    train,
    two_samples_by_slice,
)
from devilgan_lite.pipeline.classify import KINDS

PATTERN = Slice.of("risk >= 4 and big = yes")
SMALL = {"pattern": str(PATTERN), "train": 1_500, "outside": 700, "synthetic": 600}


def test_a_classifier_learns_and_is_a_function_of_its_seed(table, refuses):
    for kind in KINDS:
        first, second = (train(table, kind, seed=3).scores(table) for _ in range(2))
        assert (first == second).all()
        assert first[table.labels() == 1].mean() > first[table.labels() == 0].mean() + 0.3
    trained = train(table)
    other = Table.from_columns({"a": np.arange(9), "bad": np.arange(9) % 2}, "bad", name="other")
    for call, name in (
        (lambda: train(table.take(np.arange(10))), "10 rows"),
        (lambda: train(table.take(table.labels() == 0)), "bad=0"),
        (lambda: train(table, "forest"), "kind"),
        (lambda: trained.scores(other), "other"),
    ):
        refuses(call, name)


def test_parts_are_disjoint_depend_on_the_seed_and_a_starved_set_keeps_all_good_rows(table):
    columns = {"number": np.arange(len(table)), "bad": table.labels()}
    marked = Table.from_columns(columns, "bad", name="numbered rows")
    settings = PipelineSettings(**SMALL)
    parts = split(marked, settings)
    assert (len(parts.train), len(parts.outside), len(parts.test)) == (1_500, 700, 800)
    numbers = np.concatenate([part["number"] for part in (parts.train, parts.outside, parts.test)])
    assert sorted(numbers) == list(range(len(table)))
    again, other = split(marked, settings), split(marked, PipelineSettings(**SMALL, seed=1))
    assert (again.train.values == parts.train.values).all() and (other.train.values != parts.train.values).any()
    few = split(marked, PipelineSettings(**SMALL, positives=20))
    assert few.train.labels().sum() == 20 and (few.test.values == parts.test.values).all()
    assert (few.train.labels() == 0).sum() == (parts.train.labels() == 0).sum()


def test_poison_moves_the_slice_and_a_test_of_slices_brings_it_back(table):
    settings = PipelineSettings(**SMALL)
    parts = split(table, settings)
    honest = Neighbours(parts.outside)
    bad_rows = Poisoned(honest, poisoned_rows(parts.outside, PATTERN, 300), 0.4)
    clean, bad = (run(parts, settings, source) for source in (honest, bad_rows))
    cured = run(parts, settings, bad_rows, rows_that_pass(two_samples_by_slice))
    assert clean["recall_slice"] > 0.7 and bad["recall_slice"] < 0.4 and cured["recall_slice"] > 0.6
    assert abs(clean["recall_elsewhere"] - bad["recall_elsewhere"]) < 0.05
    assert bad["poison_drawn"] > 0.15 and cured["poison"] < 0.1 and cured["synthetic"] < bad["synthetic"]
    # a defence that lets nothing through leaves the real rows
    nothing = run(parts, settings, honest, lambda real, made: np.zeros(len(made), bool))
    assert nothing["synthetic"] == 0 and nothing["auc"] == run(parts, settings)["auc"]


def test_a_run_is_plain_data_and_repeats(table):
    settings = PipelineSettings(**SMALL, classifier="logistic")
    parts = split(table, settings)
    first, second = (run(parts, settings, Neighbours(parts.outside), worth=Assumptions(amount="amount")) for _ in "ab")
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))
    assert first["settings"]["classifier"] == "logistic" and first["real"] == 1_500 and first["synthetic"] == 600
    assert len(first["ledger"]["months"]) == 12
    assert first["ledger"]["total"]["alerts"] == round(settings.alerts * len(parts.test))


def test_the_ledger_against_adding_by_hand(table, refuses):
    alarms, part = np.random.default_rng(0).random(len(table)) < 0.3, Slice.of("risk >= 4")
    found = ledger(table, alarms, part, Assumptions(amount="amount", lost=0.5, alert=20.0, months=7), seed=4)
    total, missed = found["total"], (table.labels() == 1) & ~alarms
    assert total["missed"] == missed.sum() and total["alerts"] == alarms.sum()
    assert total["lost"] == pytest.approx(0.5 * table["amount"][missed].sum())
    assert total["lost_slice"] == pytest.approx(0.5 * table["amount"][missed & part.mask(table)].sum())
    assert total["money"] == pytest.approx(total["lost"] + 20 * alarms.sum())
    for name, value in total.items():
        assert sum(month[name] for month in found["months"]) == pytest.approx(value)
    assert len(found["months"]) == 7 and found["assumptions"]["amount"] == "amount"
    every = ledger(table, np.ones(len(table), bool), part, Assumptions(amount="amount"))["total"]
    assert every["lost"] == 0 and every["money"] == 1_000 * len(table)
    refuses(lambda: ledger(table, alarms, part), "LIMIT_BAL")
    refuses(lambda: ledger(table, alarms[:5], part, Assumptions(amount="amount")), "alarms")
    refuses(lambda: Assumptions(lost=2), "lost")


def test_bad_settings_are_one_sentence(table, refuses):
    for wrong in (
        {"train": 10}, {"train": 2_900}, {"pattern": "risky"}, {"positives": 5_000}, {"alerts": 0.0}, {"keep": "some"},
        {"seed": -1},
    ):  # fmt: skip
        name = next(iter(wrong))
        named = {"pattern": "risky"}.get(name, "rows" if wrong == {"train": 2_900} else name)
        refuses(lambda wrong=wrong: split(table, PipelineSettings(**{**SMALL, **wrong})), named)
    refuses(lambda: PipelineSettings(share=0.1), "share", error=TypeError)


# ---- defences


@pytest.fixture(scope="module")
def halves(table):
    return table.take(np.arange(1_500)), table.take(np.arange(1_500, 3_000))


def test_the_test_of_slices_names_the_pattern_and_passes_other_real_rows(halves):
    real, rest = halves
    found = two_samples_by_slice(real, rest)
    assert not found.alarm and found.passes.all() and "none of" in found.says
    # another share of positives is no alarm
    few = rest.take(np.sort(np.r_[np.flatnonzero(rest.labels() == 1), np.flatnonzero(rest.labels() == 0)[:300]]))
    assert not two_samples_by_slice(real, few).alarm
    made = Poisoned(lambda n, seed: rest.take(np.arange(n)), poisoned_rows(rest, PATTERN, 200), 0.15)(1_500, 0)
    found = two_samples_by_slice(real, made)
    bad = PATTERN.mask(made) & (made.labels() == 0)
    assert found.alarm and "bad=0" in found.says and "risk > " in found.says and "big" in found.says
    assert (~found.passes)[bad].mean() > 0.8 and (~found.passes)[~bad].mean() < 0.02
    assert found.details["flagged"][0]["times"] > 8


def test_density_sort_drops_what_is_far_and_says_so(halves, refuses):
    real, rest = halves
    values = rest.values.copy()
    values[:30, rest.index("ratio")] += 50
    found = density_sort(real, replace(rest, values=values), dropped=0.02)
    assert found.alarm and not found.passes[:30].any() and (~found.passes).sum() == 30
    assert not density_sort(real, rest, dropped=0.0).alarm and density_sort(real, rest, dropped=0.0).passes.all()
    for defence in (two_samples_by_slice, density_sort):
        refuses(lambda defence=defence: defence(real, rest.take(np.arange(10))), "10 rows")
        refuses(lambda defence=defence: defence(real, replace(rest, label="big")), "columns")
    refuses(lambda: density_sort(real, rest, dropped=1.0), "dropped")
    refuses(lambda: two_samples_by_slice(real, rest, ratio=0.5), "ratio")
    blind = rows_that_pass(lambda real, made: replace(density_sort(real, made), passes=None))
    refuses(lambda: blind(real, rest), "rows")


@pytest.fixture(scope="module")
def points():
    torch.manual_seed(0)
    return PointGenerator(latent_dim=6)


def test_the_guard_passes_ordinary_latents_and_stops_others(points, monkeypatch):
    monkeypatch.setattr(usual, "STEPS", 200)  # of a student that learns less
    z = points.sample_latent(500, torch.Generator().manual_seed(9))
    ordinary = guard_while_sampling(points, z, fitting=2_000)
    assert not ordinary.alarm and ordinary.passes.mean() > 0.98
    strange = guard_while_sampling(points, torch.cat([z[:400], 40 * z[400:]]), fitting=2_000)
    assert strange.alarm and not strange.passes[400:].any() and strange.passes[:400].mean() > 0.98
    assert strange.details["flagged"] >= 0.2


def test_a_scan_keeps_out_what_is_not_clean_and_a_sanitized_copy_leaves_the_suspect_as_it_was(points, tiny, tiny_gate):
    for one, alarm in ((points, None), (tiny, False), (tiny_gate, True)):
        found = scan_before_use(one, twin=False)
        assert found.alarm == (found.details["verdict"] != "clean") and found.alarm is (found.generator is None)
        assert alarm in (None, found.alarm) and found.details["verdict"] in found.says
    before = {name: value.clone() for name, value in points.state_dict().items()}
    found = sanitized(points, iterations=20)
    assert torch.isfinite(found.generator(torch.randn(50, 6))).all() and found.details["treatment"] != "none"
    assert all(torch.equal(value, before[name]) for name, value in points.state_dict().items())
