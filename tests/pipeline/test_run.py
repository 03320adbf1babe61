"""Classifier, ledger and one run from rows to figures."""

import json

import numpy as np
import pytest

from devilgan_lite.data import tables
from devilgan_lite.pipeline import (
    Assumptions,
    Neighbours,
    PipelineSettings,
    Poisoned,
    Slice,
    ledger,
    poisoned_rows,
    rows_that_pass,
    run,
    split,
    train,
    two_samples_by_slice,
)
from devilgan_lite.pipeline.classify import KINDS

SMALL = {"pattern": "risk >= 4 and big = yes", "train": 1_500, "outside": 700, "synthetic": 600}


def poisoned(parts, settings, share=0.4):
    poison = poisoned_rows(parts.outside, Slice.of(settings.pattern), 300, seed=settings.seed)
    return Poisoned(Neighbours(parts.outside), poison, share)


@pytest.mark.parametrize("kind", KINDS)
def test_a_classifier_learns_and_is_a_function_of_its_seed(table, kind):
    first, second = (train(table, kind, seed=3).scores(table) for _ in range(2))
    assert (first == second).all()
    assert first[table.labels() == 1].mean() > first[table.labels() == 0].mean() + 0.3


def test_a_classifier_that_cannot_be_trained_is_one_sentence(table):
    with pytest.raises(ValueError, match="has 10 rows; a classifier needs at least 50"):
        train(table.take(np.arange(10)))
    with pytest.raises(ValueError, match="only rows with bad=0"):
        train(table.take(table.labels() == 0))
    with pytest.raises(ValueError, match="kind='forest' is unknown"):
        train(table, "forest")
    with pytest.raises(ValueError, match="other columns"):
        train(table).scores(tables.card_default())


def test_parts_are_disjoint_and_depend_on_the_seed(table):
    marked = tables.Table.from_columns(
        {"number": np.arange(len(table)), "bad": table.labels()}, "bad", name="numbered rows"
    )
    settings = PipelineSettings(**SMALL)
    parts = split(marked, settings)
    numbers = np.concatenate([part["number"] for part in (parts.train, parts.outside, parts.test)])
    assert sorted(numbers) == list(range(len(table)))
    again, other = split(marked, settings), split(marked, PipelineSettings(**SMALL, seed=1))
    assert (again.train.values == parts.train.values).all() and (other.train.values != parts.train.values).any()


def test_a_starved_set_keeps_all_good_rows(table):
    full, few = (split(table, PipelineSettings(**SMALL, positives=count)) for count in (None, 20))
    assert few.train.labels().sum() == 20 and (few.test.values == full.test.values).all()
    assert (few.train.labels() == 0).sum() == (full.train.labels() == 0).sum()


def test_poison_moves_the_slice_and_a_test_of_slices_brings_it_back(table):
    settings = PipelineSettings(**SMALL)
    parts = split(table, settings)
    clean = run(parts, settings, Neighbours(parts.outside))
    bad = run(parts, settings, poisoned(parts, settings))
    cured = run(parts, settings, poisoned(parts, settings), rows_that_pass(two_samples_by_slice))
    assert clean["recall_slice"] > 0.7 and bad["recall_slice"] < 0.4 and cured["recall_slice"] > 0.6
    assert abs(clean["recall_elsewhere"] - bad["recall_elsewhere"]) < 0.05
    assert bad["poison_drawn"] > 0.15 and cured["poison"] < 0.1 and cured["synthetic"] < bad["synthetic"]


def test_a_run_is_plain_data_and_repeats(table):
    settings = PipelineSettings(**SMALL, classifier="logistic")
    parts = split(table, settings)
    first, second = (run(parts, settings, Neighbours(parts.outside), worth=Assumptions(amount="amount")) for _ in "ab")
    assert json.loads(json.dumps(first)) == json.loads(json.dumps(second))
    assert first["settings"]["classifier"] == "logistic" and first["real"] == 1_500 and first["synthetic"] == 600
    assert len(first["ledger"]["months"]) == 12


def test_a_defence_that_lets_nothing_through_leaves_the_real_rows(table):
    settings = PipelineSettings(**SMALL)
    parts = split(table, settings)
    nothing = run(parts, settings, Neighbours(parts.outside), lambda real, made: np.zeros(len(made), bool))
    without = run(parts, settings)
    assert nothing["synthetic"] == 0 and nothing["auc"] == without["auc"]


@pytest.mark.parametrize(
    "settings, said",
    [
        ({"train": 10}, r"train=10 is out of range"),
        ({"train": 2_900}, "needs? at least"),
        ({"pattern": "risky"}, "write it as"),
        ({"positives": 5_000}, "is more than the"),
        ({"alerts": 0.0}, "alerts=0.0 is out of range"),
        ({"keep": "some"}, "keep='some' is unknown"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_settings_are_one_sentence(table, settings, said):
    with pytest.raises(ValueError, match=said):
        split(table, PipelineSettings(**{**SMALL, **settings}))


def test_an_unknown_setting_lists_the_valid_ones():
    with pytest.raises(TypeError, match="no setting 'share'"):
        PipelineSettings(share=0.1)


def test_the_ledger_against_adding_by_hand(table):
    alarms = np.random.default_rng(0).random(len(table)) < 0.3
    part, worth = Slice.of("risk >= 4"), Assumptions(amount="amount", lost=0.5, alert=20.0, months=7)
    found = ledger(table, alarms, part, worth, seed=4)
    missed = (table.labels() == 1) & ~alarms
    assert found["total"]["missed"] == missed.sum() and found["total"]["alerts"] == alarms.sum()
    assert found["total"]["lost"] == pytest.approx(0.5 * table["amount"][missed].sum())
    assert found["total"]["lost_slice"] == pytest.approx(0.5 * table["amount"][missed & part.mask(table)].sum())
    assert found["total"]["money"] == pytest.approx(found["total"]["lost"] + 20 * alarms.sum())
    for name, value in found["total"].items():
        assert sum(month[name] for month in found["months"]) == pytest.approx(value)
    assert len(found["months"]) == 7 and found["assumptions"]["amount"] == "amount"


def test_an_alarm_for_every_row_loses_nothing(table):
    total = ledger(table, np.ones(len(table), bool), Slice.of("risk >= 4"), Assumptions(amount="amount"))["total"]
    assert total["lost"] == 0 and total["money"] == 1_000 * len(table)


def test_a_ledger_of_bad_input_is_one_sentence(table):
    alarms, part = np.zeros(len(table), bool), Slice.of("risk >= 4")
    with pytest.raises(ValueError, match="column='LIMIT_BAL' is unknown"):
        ledger(table, alarms, part)
    with pytest.raises(ValueError, match="must be a bool array"):
        ledger(table, alarms[:5], part, Assumptions(amount="amount"))
    with pytest.raises(ValueError, match="lost=2 is out of range"):
        Assumptions(lost=2)
