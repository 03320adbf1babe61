"""Synthetic rows: sources, shares, and what an attacker puts among them."""

from dataclasses import replace

import numpy as np
import pytest

from devilgan_lite.data.tables import Column
from devilgan_lite.pipeline import Neighbours, Poisoned, Slice, drawn, joined, poison_share, poisoned_rows, rows_for

PATTERN = Slice.of("risk >= 4 and big = yes")


def test_neighbours_lie_between_real_rows_of_their_label(table):
    made = Neighbours(table, positive=0.3)(500, 1)
    assert made.labels().mean() == pytest.approx(0.3) and made.columns == table.columns
    for label in (0, 1):
        real, new = (one.values[one.labels() == label] for one in (table, made))
        assert (new >= real.min(0)).all() and (new <= real.max(0)).all()
    assert (made["amount"] == np.rint(made["amount"])).all() and (made["ratio"] != np.rint(made["ratio"])).any()


def test_the_same_seed_gives_the_same_rows(table):
    source = Neighbours(table)
    assert (source(50, 3).values == source(50, 3).values).all()
    assert (source(50, 3).values != source(50, 4).values).any()


def test_poison_lies_in_the_pattern_and_is_labelled_good(table):
    made = poisoned_rows(table, PATTERN, 300, seed=2)
    assert len(made) == 300 and PATTERN.mask(made).all() and not made.labels().any()
    assert len(np.unique(made["ratio"])) > 250  # spread over the pattern, not one row over and over
    assert (made["amount"] == np.rint(made["amount"])).all()


def test_the_share_of_poisoned_draws_is_what_was_asked_for(table):
    poison = poisoned_rows(table, PATTERN, 100)
    honest = Neighbours(table)
    before = poison_share(honest(4_000, 0), PATTERN)
    for share in (0.0, 0.05, 1.0):
        found = poison_share(Poisoned(honest, poison, share)(4_000, 0), PATTERN)
        assert found == pytest.approx(share + before * (1 - share), abs=0.01)


def test_shares_are_of_the_whole_table(table):
    assert rows_for(9_000, 0.1) == 1_000 and rows_for(9_000, 0.0) == 0
    assert len(joined(table, table.take(np.arange(10)))) == len(table) + 10
    assert drawn(Neighbours(table), 0, 0, like=table) is None
    assert drawn(Neighbours(table), 200, 0, like=table, keep="positive").labels().all()
    assert drawn(Neighbours(table, positive=0.0), 200, 0, like=table, keep="positive") is None


def test_bad_input_is_one_sentence(table):
    other = replace(table, columns=(Column("other", "whole"), *table.columns[1:]))
    with pytest.raises(ValueError, match="other columns"):
        joined(table, other)
    with pytest.raises(ValueError, match="source has other columns"):
        drawn(lambda n, seed: other.take(np.arange(n)), 5, 0, like=table)
    with pytest.raises(ValueError, match="source gave 4 rows; expected a table of 5"):
        drawn(lambda n, seed: table.take(np.arange(4)), 5, 0, like=table)
    with pytest.raises(ValueError, match="source gave a list"):
        drawn(lambda n, seed: [], 5, 0, like=table)
    with pytest.raises(ValueError, match="keep='bad' is unknown"):
        drawn(Neighbours(table), 5, 0, like=table, keep="bad")
    for share in (-0.1, 0.99, float("nan")):
        with pytest.raises(ValueError, match="share=.* out of range"):
            rows_for(100, share)
    with pytest.raises(ValueError, match="share=1.1 is out of range"):
        Poisoned(Neighbours(table), table, 1.1)
    with pytest.raises(ValueError, match="only 0 of 3,000 rows"):
        poisoned_rows(table, Slice.of("risk >= 100"), 5)
    with pytest.raises(ValueError, match="fewer than two rows with label 1"):
        Neighbours(table.take(table.labels() == 0))
