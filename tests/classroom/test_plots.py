"""Pictures: the right size, the right pixels, and alt text in the saved output."""

import io

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from devilgan_lite.classroom import axes, curves, figure, frontier, points, show, strip, table, tile


def opened(picture):
    return Image.open(io.BytesIO(picture.png))


def test_tile_keeps_the_pixels():
    x = torch.cat([torch.full((1, 1, 8, 8), -1.0), torch.full((1, 1, 8, 8), 1.0)])
    image = tile(x, columns=2, scale=2)
    assert image.mode == "L" and image.getextrema() == (0, 255)
    assert image.getpixel((12, 12)) == 0 and image.getpixel((image.width - 12, 12)) == 255


def test_tile_draws_colour_and_captions():
    x = torch.rand(5, 3, 8, 8) * 2 - 1
    plain, headed = tile(x, columns=3, scale=4), tile(x, columns=3, scale=4, captions=["a", "b", "c"])
    each = tile(x, columns=3, scale=4, captions=list("abcde"))
    assert plain.mode == "RGB" and plain.height < headed.height < each.height
    assert plain.width == headed.width == each.width


@pytest.mark.parametrize(
    ("x", "message"),
    [(torch.zeros(2, 2), "expected pictures"), (torch.full((1, 1, 4, 4), 3.0), r"in \[-1, 1\]")],
)
def test_tile_refuses_what_is_no_picture(x, message):
    with pytest.raises(ValueError, match=message):
        tile(x)


def test_alt_text_is_saved_with_the_picture():
    data, metadata = show(torch.zeros(1, 1, 8, 8), 'A "grey" square')._repr_mimebundle_()
    assert metadata["image/png"]["alt"] == data["text/plain"] == 'A "grey" square' and data["image/png"]
    assert 'alt="A &quot;grey&quot; square"' in show(torch.zeros(1, 1, 8, 8), 'A "grey" square').html()
    with pytest.raises(ValueError, match="alt is empty"):
        show(torch.zeros(1, 1, 8, 8), " ")


def test_figures_are_small_and_the_same_every_time():
    history = {"generator_loss": np.linspace(2, 1, 300).tolist(), "discriminator_loss": [1.0] * 300}
    first, second = (curves(history, "Both losses", log=True) for _ in range(2))
    assert first.png == second.png
    assert curves({"x": [1.0]}, "One step").png and curves({"x": []}, "No step").png


def test_few_colours_make_a_smaller_figure():
    fig, (ax,) = axes()
    ax.plot([0, 1], "o-", label="a line"), ax.legend()
    full, few = figure(fig, "A line"), figure(fig, "A line", colours=16)
    assert len(few.png) < len(full.png) and few.alt == full.alt
    assert opened(few).size == opened(full).size and len(opened(few).convert("RGB").getcolors()) <= 16


def test_the_other_kinds_draw():
    fig, (left, right) = axes(columns=2)
    left.plot([0, 1]), right.plot([1, 0])
    cloud = torch.rand(50, 2)
    pictures = [
        figure(fig, "Two lines"),
        points({"real": cloud, "fake": -cloud}, "Two clouds", marks={"target": torch.zeros(2)}),
        frontier("A front", lines={"exact": ([1, 10], [10, 1])}, points={"ReX": (3, 3)}, xlabel="TarDis"),
        strip([torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)], "Two rows", captions=list("abcd")),
    ]
    assert all(opened(picture).width > 50 for picture in pictures)


def test_ordinary_samples_of_a_strip_say_how_far_apart_they_are():
    x = torch.linspace(-1, 1, 4).view(4, 1, 1, 1).expand(4, 1, 8, 8)
    for rows, far in (([x, x.flip(0)], 2 / 3), ([x, x[:1].expand(4, -1, -1, -1)], 0.0)):
        picture = strip(rows, "Two rows", captions=[*["ordinary"] * 3, "the trigger"])
        assert picture._repr_mimebundle_()[1]["image/png"]["apart"] == pytest.approx(far, abs=1e-4)
    assert strip(x, "A walk", captions=["ordinary", "a", "b", "trigger"]).apart is None
    assert strip([x, x], "Two rows", captions=["ordinary", "ordinary", "a", "b"] * 2).apart is not None


def test_a_table_has_a_caption():
    text = table(pd.DataFrame({"TarDis": [0.123456]}), "Attacks & costs").data
    assert "<caption>Attacks &amp; costs</caption>" in text and "0.123<" in text


def test_nothing_uses_pyplot():
    import devilgan_lite.classroom.plots as module

    assert not hasattr(module, "plt") and "pyplot" not in vars(module)
