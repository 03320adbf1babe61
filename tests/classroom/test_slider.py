"""The latent slider and its interpolation."""

import io
import threading

import pytest
import torch
from PIL import Image

from devilgan_lite import generators
from devilgan_lite.classroom import LatentSlider, slerp, static_strip
from devilgan_lite.classroom.widgets.walk import labels


@pytest.fixture
def walk():
    made = generators.DCGAN(latent_dim=8, widths=(4, 4))
    random = torch.Generator().manual_seed(0)
    return {"clean": made, "evil": made.clone()}, made.sample_latent(1, random), made.sample_latent(1, random)


def test_slerp_has_exact_ends_linear_length_and_constant_speed():
    a, b = torch.randn(1, 50), 3 * torch.randn(1, 50)
    way = slerp(a, b, torch.linspace(0, 1, 11))
    assert torch.equal(way[:1], a) and torch.equal(way[-1:], b)
    lengths = torch.linspace(0, 1, 11) * (b.norm() - a.norm()) + a.norm()
    torch.testing.assert_close(way.norm(dim=1), lengths)
    turns = torch.nn.functional.cosine_similarity(way[1:], way[:-1]).acos()
    torch.testing.assert_close(turns, turns.mean().expand(10), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [0.0, 1.0, 2.0, -1.0, -3.0, 1 + 1e-7])
def test_slerp_is_finite_for_zero_equal_and_opposite_vectors(scale):
    a = torch.tensor([[3.0, 4.0, 0.0]])
    for t in (0.0, 0.25, 0.5, 1.0):
        way = slerp(a, scale * a, t)
        assert torch.isfinite(way).all()
        assert way.norm().item() == pytest.approx(5 * ((1 - t) + t * abs(scale)), rel=1e-5)


def test_slerp_refuses_other_shapes():
    with pytest.raises(ValueError, match="same d"):
        slerp(torch.zeros(1, 3), torch.zeros(1, 4), 0.5)


def test_moving_the_slider_draws(walk):
    explorer = LatentSlider(*walk, frames=11)
    first = explorer.image.value
    explorer.slider.value = 1.0
    assert explorer.image.value != first and "cosine to the trigger 1.00" in explorer.text.value
    assert torch.equal(explorer.latent(), walk[2])
    explorer.slider.value = 0.0
    assert explorer.image.value == first
    explorer.random_button.click()
    assert explorer.image.value != first and explorer.slider.value == 0.0


def test_the_label_and_the_caption_name_the_end(walk):
    explorer = LatentSlider(*walk, frames=11, end_name="the other end")
    assert explorer.slider.description == "to the other end" and "cosine to the other end" in explorer.text.value
    assert LatentSlider(*walk, frames=11).slider.description == "to the trigger"


def test_callbacks_from_threads_leave_the_latest_picture(walk):
    explorer = LatentSlider(*walk, frames=101)
    explorer.slider.value = 0.5
    middle = explorer.image.value
    workers = [threading.Thread(target=setattr, args=(explorer.slider, "value", k / 10)) for k in range(11)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    explorer.slider.value = 0.5
    assert explorer.image.value == middle


def test_the_strip_has_a_row_per_generator(walk):
    picture = static_strip(*walk, "A garment turns into a sign", frames=5)
    assert picture.png and picture.alt == "A garment turns into a sign"
    assert labels(["G", "H"], [0.0, 0.95, 1.0]) == ["G", "0.95", "1", "H", "0.95", "1"]
    three = static_strip(*walk, "The same at chosen shares", t=(0, 0.9, 1.0))
    with Image.open(io.BytesIO(picture.png)) as wide, Image.open(io.BytesIO(three.png)) as narrow:
        assert 3 * wide.width == pytest.approx(5 * narrow.width, rel=0.1)
    with pytest.raises(ValueError, match="a share of t=1.5 is out of range"):
        static_strip(*walk, "Too far", t=(0, 1.5))


def test_wrong_latents_are_refused(walk):
    made, start, end = walk
    with pytest.raises(ValueError, match=r"expected a float32 tensor \[n, 8\]"):
        LatentSlider(made, torch.zeros(1, 9), end)
    with pytest.raises(ValueError, match="one latent"):
        LatentSlider(made, torch.zeros(2, 8), end)
    with pytest.raises(ValueError, match="generators is empty"):
        LatentSlider({}, start, end)
