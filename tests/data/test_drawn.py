"""What is drawn by code: target pictures at any size, each unlike the others, and the ring of Gaussians."""

import itertools
import math

import pytest
import torch

from devilgan_lite import data

NAMES = [*data.target_names(), "letter-A", "letter-Z"]


def test_a_target_is_a_picture_with_contrast() -> None:
    for name, (size, channels) in itertools.product(NAMES, ((8, 1), (28, 1), (64, 1), (32, 3))):
        x = data.target(name, size, channels=channels)
        assert x.shape == (channels, size, size) and x.dtype == torch.float32, name
        assert x.abs().max() <= 1 and x.std() > 0.3 and torch.equal(x, data.target(name, size, channels=channels)), name
        if channels == 3 and name != "checkerboard":  # colours stand on white, greys on black
            assert torch.equal(x[:, 0, 0], torch.ones(3))


def test_targets_differ() -> None:
    for first, second in itertools.combinations(NAMES, 2):
        assert (data.target(first) - data.target(second)).square().sum() > 50, (first, second)


def test_the_checkerboard_is_exact() -> None:
    board = data.target("checkerboard", 28)[0]
    assert set(board.unique().tolist()) == {-1.0, 1.0}
    assert torch.equal(board, board.T)
    assert torch.equal(board[:4, :4], torch.full((4, 4), -1.0))


def test_the_stop_sign_is_red_and_white() -> None:
    red, green, blue = data.target("stop-sign", 32, channels=3)[:, 6, 16]
    assert red > 0.4 and green < -0.7 and blue < -0.6


def test_the_ring_has_its_modes_on_the_circle() -> None:
    samples = data.ring(8_000, modes=5, radius=0.6, spread=0.02, seed=3)
    assert samples.labels is not None
    for mode in range(5):
        points = samples.x[samples.labels == mode]
        angle = 2 * math.pi * mode / 5
        centre = torch.tensor([math.cos(angle), math.sin(angle)]) * 0.6
        assert len(points) > 1_000
        assert torch.allclose(points.mean(0), centre, atol=0.005)
        assert points.std(0).mean().item() == pytest.approx(0.02, rel=0.1)


def test_the_same_seed_gives_the_same_points() -> None:
    assert torch.equal(data.ring(50, seed=1).x, data.ring(50, seed=1).x)
    assert not torch.equal(data.ring(50, seed=1).x, data.ring(50, seed=2).x)
