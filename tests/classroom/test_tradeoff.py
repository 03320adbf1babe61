"""The widget in which a point on a trade-off curve is chosen."""

import pytest
import torch

from devilgan_lite.classroom import Choice, TradeOff


@pytest.fixture
def curves() -> dict[str, list[Choice]]:
    pictures = torch.zeros(2, 1, 8, 8)
    return {
        "long": [Choice(f"{k} %", cost=float(k), gain=k / 10, pictures=pictures + k / 10) for k in range(4)],
        "short": [Choice("all", cost=-0.5, gain=0.9, pictures=pictures)],
    }


def test_choosing_moves_the_point(curves: dict[str, list[Choice]]) -> None:
    chooser = TradeOff(curves, (1.0, 0.1), xlabel="price", ylabel="safety", captions=["a", "b"])
    first = chooser.image.value
    assert chooser.choice.name == "0 %" and not chooser.meets_the_bar
    chooser.slider.value = 1
    assert chooser.image.value != first
    assert chooser.meets_the_bar and "safety 0.1, price +1.00: it meets the bar" in chooser.text.value
    chooser.slider.value = 3
    assert not chooser.meets_the_bar and "does not meet" in chooser.text.value
    chooser.curve.value = "short"
    assert chooser.slider.value == 0 and chooser.choice.name == "all" and chooser.meets_the_bar
    chooser.curve.value = "long"
    chooser.slider.value = 2
    assert chooser.choice.name == "2 %"


def test_the_static_form_is_a_picture_with_words(
    curves: dict[str, list[Choice]], monkeypatch: pytest.MonkeyPatch
) -> None:
    chooser = TradeOff(curves, (1.0, 0.1))
    data, metadata = chooser._repr_mimebundle_()
    assert "image/png" in data and "long, 0 %" in metadata["image/png"]["alt"]
    monkeypatch.setattr("devilgan_lite.classroom.widgets.tradeoff.is_static", lambda: False)
    assert "application/vnd.jupyter.widget-view+json" in chooser._repr_mimebundle_()


def test_empty_curves_are_refused() -> None:
    for curves in ({}, {"none": []}):
        with pytest.raises(ValueError, match="at least one name and one point"):
            TradeOff(curves, (1.0, 0.1))
