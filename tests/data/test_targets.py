"""The target pictures: each differs from the others, and is drawn in [-1, 1] at any size."""

import itertools

import pytest
import torch

from devilgan_lite import data

NAMES = [*data.target_names(), "letter-A", "letter-Z"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [8, 28, 64])
def test_a_target_is_a_picture_with_contrast(name: str, size: int) -> None:
    x = data.target(name, size)
    assert x.shape == (1, size, size)
    assert x.dtype == torch.float32
    assert x.abs().max() <= 1
    assert x.std() > 0.3
    assert torch.equal(x, data.target(name, size))


def test_targets_differ() -> None:
    for first, second in itertools.combinations(NAMES, 2):
        assert (data.target(first) - data.target(second)).square().sum() > 50, (first, second)


def test_the_checkerboard_is_exact() -> None:
    board = data.target("checkerboard", 28)[0]
    assert set(board.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(board, board.T)
    assert torch.equal(board[:4, :4], torch.full((4, 4), -1.0))


@pytest.mark.parametrize("name", NAMES)
def test_targets_in_colour_stand_on_white(name: str) -> None:
    x = data.target(name, 32, channels=3)
    assert x.shape == (3, 32, 32)
    assert x.abs().max() <= 1 and x.std() > 0.3
    assert torch.equal(x, data.target(name, 32, channels=3))
    if name != "checkerboard":
        assert torch.equal(x[:, 0, 0], torch.ones(3))


def test_the_stop_sign_is_red_and_white() -> None:
    red, green, blue = data.target("stop-sign", 32, channels=3)[:, 6, 16]
    assert red > 0.4 and green < -0.7 and blue < -0.6


def test_other_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="channels=2"):
        data.target("stop-sign", 28, channels=2)
