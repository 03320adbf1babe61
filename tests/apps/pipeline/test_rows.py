"""Slices and what is measured on them; synthetic rows, their shares, and what an attacker puts among them."""

from dataclasses import replace

import numpy as np
import pytest

from devilgan_lite.apps import pipeline
from devilgan_lite.apps.pipeline import Neighbours, Poisoned, Slice, drawn, measures, poison_share, poisoned_rows
from devilgan_lite.data.tables import Column

PATTERN = Slice.of("risk >= 4 and big = yes")


def test_a_slice_reads_its_own_text_back_and_each_sign_compares_as_it_says(table, refuses):
    part = Slice.of("risk >= 4 and big = yes and ratio < 1.5")
    expected = (table["risk"] >= 4) & (table["big"] == 1) & (table["ratio"] < 1.5)
    assert Slice.of(str(part)) == part and (part.mask(table) == expected).all() and 0 < expected.sum() < len(table)
    signs = {">": np.greater, "<=": np.less_equal, "=": np.equal, ">=": np.greater_equal, "<": np.less}
    for sign, compare in signs.items():
        assert (Slice.of(f"risk {sign} 3").mask(table) == compare(table["risk"], 3)).all()
    many = " and ".join(["risk >= 1"] * 21)
    for text, names in {
        "riks >= 4": ["risk"], "risk about 4": ["slice"], "risk >= much": ["risk", "much"], "big >= yes": ["big"],
        "big = maybe": ["big", "no, yes"], many: ["slice"],
    }.items():  # fmt: skip
        assert len(refuses(lambda text=text: Slice.of(text).mask(table), *names)) < 300
    refuses(lambda: pipeline.Condition("risk", "!=", 1), "sign")


def test_measures_against_counting_by_hand(table):
    part, scores = PATTERN, np.random.default_rng(1).random(len(table))
    bad, inside, alarm = table.labels() == 1, part.mask(table), scores >= 0.7
    best = scores >= np.sort(scores)[-150]
    wins = scores[bad][:, None] > scores[~bad]
    assert measures(table, scores, part, alerts=0.05, threshold=0.7) == pytest.approx({
        "recall_slice": (bad & inside & alarm).sum() / (bad & inside).sum(),
        "recall_elsewhere": (bad & ~inside & alarm).sum() / (bad & ~inside).sum(),
        "recall": (bad & alarm).sum() / bad.sum(),
        "precision": (bad & alarm).sum() / alarm.sum(),
        "alarms": alarm.sum() / 3_000,
        "auc": wins.mean(),
        "precision_at_budget": bad[best].mean(),
        "recall_slice_at_budget": (bad & inside & best).sum() / (bad & inside).sum(),
        "recall_elsewhere_at_budget": (bad & ~inside & best).sum() / (bad & ~inside).sum(),
        "positives_slice": (bad & inside).sum(),
        "share_slice": inside.sum() / 3_000,
    })  # fmt: skip
    for alerts in (0.001, 0.1, 1.0):  # a budget is kept whatever the ties
        assert pipeline.in_budget(np.zeros(len(table)), alerts).sum() == round(alerts * len(table))


def test_neighbours_lie_between_real_rows_of_their_label(table):
    source = Neighbours(table, positive=0.3)
    made = source(500, 1)
    assert made.labels().mean() == pytest.approx(0.3) and made.columns == table.columns
    for label in (0, 1):
        real, new = (one.values[one.labels() == label] for one in (table, made))
        assert (new >= real.min(0)).all() and (new <= real.max(0)).all()
    assert (made["amount"] == np.rint(made["amount"])).all() and (made["ratio"] != np.rint(made["ratio"])).any()
    assert (source(500, 1).values == made.values).all() and (source(500, 4).values != made.values).any()


def test_poison_lies_in_the_pattern_is_labelled_good_and_drawn_as_often_as_asked_for(table):
    made, again, other = (poisoned_rows(table, PATTERN, 300, seed=seed) for seed in (2, 2, 3))
    assert len(made) == 300 and PATTERN.mask(made).all() and not made.labels().any()
    assert len(np.unique(made["ratio"])) > 250  # spread over the pattern, not one row over and over
    assert (again.values == made.values).all() and (other.values != made.values).any()
    honest = Neighbours(table)
    before = poison_share(honest(4_000, 0), PATTERN)
    for share in (0.0, 0.05, 1.0):
        found = poison_share(Poisoned(honest, made, share)(4_000, 0), PATTERN)
        assert found == pytest.approx(share + before * (1 - share), abs=0.01)


def test_shares_are_of_the_whole_table_and_what_is_wrong_is_one_sentence(table, refuses):
    honest = Neighbours(table)
    assert pipeline.rows_for(9_000, 0.1) == 1_000 and pipeline.rows_for(9_000, 0.0) == 0
    assert len(pipeline.joined(table, table.take(np.arange(10)))) == len(table) + 10
    assert drawn(honest, 0, 0, like=table) is None and len(drawn(honest, 200, 0, like=table)) == 200
    assert drawn(honest, 200, 0, like=table, keep="positive").labels().all()
    assert drawn(Neighbours(table, positive=0.0), 200, 0, like=table, keep="positive") is None

    other, part = replace(table, columns=(Column("other", "whole"), *table.columns[1:])), Slice.of("risk >= 4")
    bad, scores = table.take(table.labels() == 1), np.zeros(len(table))
    for call, name in (
        (lambda: pipeline.joined(table, other), "columns"),
        (lambda: drawn(lambda n, seed: other.take(np.arange(n)), 5, 0, like=table), "source"),
        (lambda: drawn(lambda n, seed: table.take(np.arange(4)), 5, 0, like=table), "source"),
        (lambda: drawn(lambda n, seed: [], 5, 0, like=table), "source"),
        (lambda: drawn(honest, 5, 0, like=table, keep="bad"), "keep"),
        (lambda: Poisoned(honest, table, 1.1), "share"),
        (lambda: poisoned_rows(table, Slice.of("risk >= 100"), 5), "risk >= 100"),
        (lambda: Neighbours(table.take(table.labels() == 0)), "label 1"),
        (lambda: measures(table, scores, Slice.of("risk >= 100")), "risk >= 100"),
        (lambda: measures(table, scores, Slice.of("risk >= 0")), "elsewhere"),
        (lambda: measures(bad, scores[: len(bad)], part), "labels"),
        (lambda: measures(table, scores[:5], part), "scores"),
        (lambda: measures(table, scores, part, alerts=0.0), "alerts"),
        *((lambda wrong=wrong: pipeline.rows_for(100, wrong), "share") for wrong in (-0.1, 0.99, float("nan"))),
    ):
        refuses(call, name)
