"""The figures of notebook 12: a red tile is one that fell, and months are drawn on one scale."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from devilgan_lite.classroom import pipeline_plots as plots
from devilgan_lite.data.tables import Column, Table

WHERE = {"a": [0.7, 0.69], "b": [0.4, 0.42]}


def red_pixels(picture: plots.Picture) -> int:
    """How many pixels have the colour of a tile that fell."""
    with Image.open(io.BytesIO(picture.png)) as image:
        x = np.asarray(image.convert("RGB")).astype(int)
    wanted = [int(plots.RED[k : k + 2], 16) for k in (1, 3, 5)]
    return int((np.abs(x - wanted).max(2) < 12).sum())


@pytest.mark.parametrize(("values", "red"), [([0.9, 0.1], True), ([0.9, 0.88], False), ([0.1, 0.9], False)])
def test_a_tile_turns_red_when_its_figure_falls(values: list[float], red: bool) -> None:
    found = red_pixels(plots.dashboard(WHERE, {"slice": values}, "four tiles"))
    assert (found > 10_000) == red and (found == 0) != red


def test_a_first_dashboard_has_nothing_to_compare_with() -> None:
    assert red_pixels(plots.dashboard({"a": [0.1]}, {"slice": [0.0]}, "two tiles")) == 0


def test_a_tile_of_a_single_run_says_so() -> None:
    note = "single run\ncached mean: 0.248 ± 0.07"
    plain, noted = (plots.dashboard(WHERE, {"slice": [0.9, 0.1]}, "four tiles.", note=said) for said in ("", note))
    assert noted.alt == "four tiles. slice: single run; cached mean: 0.248 ± 0.07." and plain.alt == "four tiles."
    assert noted.png != plain.png and red_pixels(noted) > 10_000


def test_bars_of_months_share_one_scale() -> None:
    pictures = plots.month_bars([1.0, 0.0], [4.0, 2.0], height=8)
    assert pictures.shape == (2, 1, 8, 10) and pictures.max() == 1
    dark = (pictures < 0).sum(2)[:, 0]
    assert torch.equal(dark[:, [1, 6]], torch.tensor([[2, 0], [8, 4]]))
    assert not (plots.month_bars([0.0], [0.0]) < 0).any()


def test_the_other_figures_are_drawn_with_their_alt_text() -> None:
    columns = (Column("limit"), Column("late", "whole"), Column("bad", "category", ("no", "yes")))
    random = np.random.default_rng(0)
    values = np.stack([random.random(40) * 1e5, random.integers(-2, 5, 40), random.integers(0, 2, 40)], 1)
    rows = Table(columns, values, "bad")
    recalls = {"none": {"bad": 0.1, "good": 0.9}, "scan": {"bad": 0.9, "good": 0.9}}
    alarms: dict[str, dict[str, bool | None]] = {
        "none": {"bad": None, "good": None},
        "scan": {"bad": True, "good": False},
    }
    made = {
        "columns": plots.columns_figure({"real": rows, "made": rows}, ["limit", "late"], "columns"),
        "defences": plots.defences_figure(recalls, alarms, "defences"),
        "months": plots.money_by_month({"a": [1e6, 2e6]}, {"a": [0.0, 0.0]}, "months", currency="NT$"),
    }
    for alt, picture in made.items():
        assert picture.alt == alt and len(picture.png) > 1_000
