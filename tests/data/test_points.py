"""The ring of Gaussians."""

import math

import pytest
import torch

from devilgan_lite import data


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
