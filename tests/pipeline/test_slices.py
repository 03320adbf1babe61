"""Slices and what is measured on them."""

import numpy as np
import pytest

from devilgan_lite.pipeline import Condition, Slice, in_budget, measures


def test_a_slice_reads_its_own_text_back(table):
    part = Slice.of("risk >= 4 and big = yes and ratio < 1.5")
    assert Slice.of(str(part)) == part
    expected = (table["risk"] >= 4) & (table["big"] == 1) & (table["ratio"] < 1.5)
    assert (part.mask(table) == expected).all() and 0 < expected.sum() < len(table)


@pytest.mark.parametrize("sign, compare", [(">", np.greater), ("<=", np.less_equal), ("=", np.equal)])
def test_each_sign_compares_as_it_says(table, sign, compare):
    assert (Slice.of(f"risk {sign} 3").mask(table) == compare(table["risk"], 3)).all()


@pytest.mark.parametrize(
    "text, said",
    [
        ("riks >= 4", "Did you mean 'risk'"),
        ("risk about 4", "write it as"),
        ("", "write it as"),
        ("risk >= much", "give a number"),
        ("big >= yes", "orders a category"),
        ("big = maybe", "unknown; valid: no, yes"),
        (" and ".join(["risk >= 1"] * 21), "1 to 20"),
    ],
)
def test_a_slice_that_is_none_is_one_sentence(table, text, said):
    with pytest.raises(ValueError, match=said) as error:
        Slice.of(text).mask(table)
    assert len(str(error.value)) < 300 and "\n" not in str(error.value)


def test_a_sign_of_ones_own_lists_the_valid_ones():
    with pytest.raises(ValueError, match="valid: >=, <=, >, <, ="):
        Condition("risk", "!=", 1)


def test_measures_against_counting_by_hand(table):
    part, scores = Slice.of("risk >= 4 and big = yes"), np.random.default_rng(1).random(len(table))
    found = measures(table, scores, part, alerts=0.05, threshold=0.7)
    bad, inside, alarm = table.labels() == 1, part.mask(table), scores >= 0.7
    assert found["recall_slice"] == pytest.approx((bad & inside & alarm).sum() / (bad & inside).sum())
    assert found["recall_elsewhere"] == pytest.approx((bad & ~inside & alarm).sum() / (bad & ~inside).sum())
    assert found["precision"] == pytest.approx((bad & alarm).sum() / alarm.sum())
    best = np.sort(scores)[-150:]
    assert found["precision_at_budget"] == pytest.approx(bad[scores >= best[0]].mean())
    wins = scores[bad][:, None] > scores[~bad]
    assert found["auc"] == pytest.approx(wins.mean())


def test_perfect_scores_are_perfect(table):
    found = measures(table, table.labels().astype(float), Slice.of("risk >= 4"))
    assert found["auc"] == found["recall"] == found["precision"] == found["precision_at_budget"] == 1


def test_a_budget_is_kept_whatever_the_ties(table):
    for alerts in (0.001, 0.1, 1.0):
        assert in_budget(np.zeros(len(table)), alerts).sum() == round(alerts * len(table))


def test_bad_input_is_one_sentence(table):
    scores, part = np.zeros(len(table)), Slice.of("risk >= 4")
    with pytest.raises(ValueError, match="no positive row on the slice"):
        measures(table, scores, Slice.of("risk >= 100"))
    with pytest.raises(ValueError, match="no positive row elsewhere"):
        measures(table, scores, Slice.of("risk >= 0"))
    with pytest.raises(ValueError, match="both labels"):
        measures(table.take(table.labels() == 1), scores[table.labels() == 1], part)
    with pytest.raises(ValueError, match=r"expected \[3000\]"):
        measures(table, scores[:5], part)
    for wrong in (0.0, 1.5):
        with pytest.raises(ValueError, match="alerts=.* out of range"):
            measures(table, scores, part, alerts=wrong)
