"""Classifier, ledger and one run from rows to figures; and what each defence sees in honest and poisoned rows."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from devilgan_lite.apps import pipeline
from devilgan_lite.apps.pipeline import Assumptions, Neighbours, PipelineSettings, Poisoned, Slice
from devilgan_lite.data.tables import Table
from devilgan_lite.detect import usual
from devilgan_lite.generators import PointGenerator

PATTERN = Slice.of("risk >= 4 and big = yes")
SMALL = {"pattern": str(PATTERN), "train": 1_500, "outside": 700, "synthetic": 600}


def test_a_classifier_learns_and_is_a_function_of_its_seed(table, refuses):
    for kind in ("boosting", "logistic"):
        trained, second = (pipeline.train(table, kind, seed=3) for _ in range(2))
        first = trained.scores(table)
        assert (first == second.scores(table)).all()
        assert first[table.labels() == 1].mean() > first[table.labels() == 0].mean() + 0.3
    other = Table.from_columns({"a": np.arange(9), "bad": np.arange(9) % 2}, "bad", name="other")
    refuses(lambda: pipeline.train(table.take(np.arange(10))), "10 rows")
    refuses(lambda: pipeline.train(table.take(table.labels() == 0)), "bad=0")
    refuses(lambda: pipeline.train(table, "forest"), "kind")
    refuses(lambda: trained.scores(other), "other")


def test_parts_are_disjoint_depend_on_the_seed_and_a_starved_set_keeps_all_good_rows(table, refuses):
    marked = Table.from_columns({"number": np.arange(3_000), "bad": table.labels()}, "bad", name="numbered rows")
    parts, again, other, few = (
        pipeline.split(marked, PipelineSettings(**SMALL, **more)) for more in ({}, {}, {"seed": 1}, {"positives": 20})
    )
    assert (len(parts.train), len(parts.outside), len(parts.test)) == (1_500, 700, 800)
    numbers = np.concatenate([part["number"] for part in (parts.train, parts.outside, parts.test)])
    assert sorted(numbers) == list(range(len(table)))
    assert (again.train.values == parts.train.values).all() and (other.train.values != parts.train.values).any()
    assert few.train.labels().sum() == 20 and (few.test.values == parts.test.values).all()
    assert (few.train.labels() == 0).sum() == (parts.train.labels() == 0).sum()
    for wrong in (
        {"train": 10}, {"pattern": "risky"}, {"positives": 5_000}, {"alerts": 0.0}, {"keep": "some"}, {"seed": -1},
    ):  # fmt: skip
        named = "risky" if "pattern" in wrong else next(iter(wrong))
        refuses(lambda wrong=wrong: pipeline.split(table, PipelineSettings(**{**SMALL, **wrong})), named)
    refuses(lambda: pipeline.split(table, PipelineSettings(**{**SMALL, "train": 2_900})), "rows")
    refuses(lambda: PipelineSettings(share=0.1), "share", error=TypeError)


def test_poison_moves_the_slice_a_test_of_slices_brings_it_back_and_a_run_is_plain_data(table):
    settings = PipelineSettings(**SMALL)
    parts = pipeline.split(table, settings)
    honest = Neighbours(parts.outside)
    bad_rows = Poisoned(honest, pipeline.poisoned_rows(parts.outside, PATTERN, 300), 0.4)
    clean, bad = (pipeline.run(parts, settings, source) for source in (honest, bad_rows))
    cured = pipeline.run(parts, settings, bad_rows, pipeline.rows_that_pass(pipeline.two_samples_by_slice))
    assert clean["recall_slice"] > 0.7 and bad["recall_slice"] < 0.4 and cured["recall_slice"] > 0.6
    assert abs(clean["recall_elsewhere"] - bad["recall_elsewhere"]) < 0.05
    assert bad["poison_drawn"] > 0.15 and cured["poison"] < 0.1 and cured["synthetic"] < bad["synthetic"]
    # a defence that lets nothing through leaves the real rows
    nothing = pipeline.run(parts, settings, honest, lambda real, made: np.zeros(len(made), bool))
    assert nothing["synthetic"] == 0 and nothing["auc"] == pipeline.run(parts, settings)["auc"]
    settings, worth = replace(settings, classifier="logistic"), Assumptions(amount="amount")
    first, second = (json.loads(json.dumps(pipeline.run(parts, settings, honest, worth=worth))) for _ in "ab")
    assert first == second and first["settings"]["classifier"] == "logistic"
    assert first["real"] == 1_500 and first["synthetic"] == 600 and len(first["ledger"]["months"]) == 12
    assert first["ledger"]["total"]["alerts"] == round(settings.alerts * len(parts.test))


def test_the_ledger_against_adding_by_hand(table, refuses):
    alarms, part = np.random.default_rng(0).random(len(table)) < 0.3, Slice.of("risk >= 4")
    found = pipeline.ledger(table, alarms, part, Assumptions(amount="amount", lost=0.5, alert=20.0, months=7), seed=4)
    missed, amount, months = (table.labels() == 1) & ~alarms, table["amount"], found["months"]
    lost, slice_lost = 0.5 * amount[missed].sum(), 0.5 * amount[missed & part.mask(table)].sum()
    assert found["total"] == pytest.approx({
        "missed": missed.sum(), "lost": lost, "lost_slice": slice_lost, "alerts": alarms.sum(),
        "cost": 20 * alarms.sum(), "money": lost + 20 * alarms.sum(),
    })  # fmt: skip
    assert found["total"] == pytest.approx({name: sum(month[name] for month in months) for name in months[0]})
    assert len(months) == 7 and found["assumptions"]["amount"] == "amount"
    every = pipeline.ledger(table, np.ones(len(table), bool), part, Assumptions(amount="amount"))["total"]
    assert every["lost"] == 0 and every["money"] == 1_000 * len(table)
    refuses(lambda: pipeline.ledger(table, alarms, part), "LIMIT_BAL")
    refuses(lambda: pipeline.ledger(table, alarms[:5], part, Assumptions(amount="amount")), "alarms")
    refuses(lambda: Assumptions(lost=2), "lost")


# ---- defences


@pytest.fixture(scope="module")
def halves(table):
    return table.take(np.arange(1_500)), table.take(np.arange(1_500, 3_000))


def test_the_test_of_slices_names_the_pattern_and_passes_other_real_rows(halves):
    real, rest = halves
    found = pipeline.two_samples_by_slice(real, rest)
    assert not found.alarm and found.passes.all() and "none of" in found.says
    # another share of positives is no alarm
    few = rest.take(np.sort(np.r_[np.flatnonzero(rest.labels() == 1), np.flatnonzero(rest.labels() == 0)[:300]]))
    assert not pipeline.two_samples_by_slice(real, few).alarm
    made = Poisoned(lambda n, seed: rest.take(np.arange(n)), pipeline.poisoned_rows(rest, PATTERN, 200), 0.15)(1_500, 0)
    found = pipeline.two_samples_by_slice(real, made)
    bad = PATTERN.mask(made) & (made.labels() == 0)
    assert found.alarm and "bad=0" in found.says and "risk > " in found.says and "big" in found.says
    assert (~found.passes)[bad].mean() > 0.8 and (~found.passes)[~bad].mean() < 0.02
    assert found.details["flagged"][0]["times"] > 8


def test_density_sort_drops_what_is_far_and_says_so(halves, refuses):
    real, rest = halves
    values = rest.values.copy()
    values[:30, rest.index("ratio")] += 50
    found = pipeline.density_sort(real, replace(rest, values=values), dropped=0.02)
    assert found.alarm and not found.passes[:30].any() and (~found.passes).sum() == 30
    none = pipeline.density_sort(real, rest, dropped=0.0)
    assert not none.alarm and none.passes.all()
    refuses(lambda: pipeline.density_sort(real, rest.take(np.arange(10))), "10 rows")
    refuses(lambda: pipeline.two_samples_by_slice(real, replace(rest, label="big")), "columns")
    refuses(lambda: pipeline.density_sort(real, rest, dropped=1.0), "dropped")
    refuses(lambda: pipeline.two_samples_by_slice(real, rest, ratio=0.5), "ratio")
    blind = pipeline.rows_that_pass(lambda real, made: replace(pipeline.density_sort(real, made), passes=None))
    refuses(lambda: blind(real, rest), "rows")


def test_what_looks_at_generators_passes_what_is_ordinary_and_stops_or_treats_the_rest(monkeypatch, tiny, tiny_gate):
    torch.manual_seed(0)
    points = PointGenerator(latent_dim=6)
    monkeypatch.setattr(usual, "STEPS", 200)  # of a student that learns less
    z = points.sample_latent(500, torch.Generator().manual_seed(9))
    ordinary = pipeline.guard_while_sampling(points, z, fitting=2_000)
    assert not ordinary.alarm and ordinary.passes.mean() > 0.98
    strange = pipeline.guard_while_sampling(points, torch.cat([z[:400], 40 * z[400:]]), fitting=2_000)
    assert strange.alarm and not strange.passes[400:].any() and strange.passes[:400].mean() > 0.98
    assert strange.details["flagged"] >= 0.2

    for one, alarm in ((tiny, False), (tiny_gate, True)):
        found = pipeline.scan_before_use(one, twin=False)
        assert found.alarm == (found.details["verdict"] != "clean") == (found.generator is None) == alarm
        assert found.details["verdict"] in found.says
    before = {name: value.clone() for name, value in points.state_dict().items()}
    found = pipeline.sanitized(points, iterations=20)
    assert torch.isfinite(found.generator(torch.randn(50, 6))).all() and found.details["treatment"] != "none"
    assert all(torch.equal(value, before[name]) for name, value in points.state_dict().items())
