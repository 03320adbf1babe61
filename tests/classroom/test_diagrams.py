"""Boxes and arrows."""

import io

import pytest
from PIL import Image

from devilgan_lite.classroom import flow


def test_a_flow_grows_with_its_boxes_and_keeps_its_alt_text() -> None:
    def drawn(n: int) -> tuple[int, int]:
        boxes = [(f"BOX {k}", "two\nlines") for k in range(n)]
        picture = flow(boxes, between=["G"] * (n - 1), below=(0, n - 1, "a way back"), alt=f"{n} boxes")
        assert picture.alt == f"{n} boxes"
        with Image.open(io.BytesIO(picture.png)) as image:
            return image.size

    assert drawn(4)[0] > drawn(2)[0] > 300 and drawn(4)[1] == pytest.approx(drawn(2)[1], abs=20)


@pytest.mark.parametrize(("boxes", "between"), [(1, 0), (9, 8), (3, 3)])
def test_arrows_must_fit_the_boxes(boxes: int, between: int) -> None:
    with pytest.raises(ValueError, match="one arrow fewer"):
        flow([("A", "b")] * boxes, between=["c"] * between, below=(0, 1, "d"), alt="e")
