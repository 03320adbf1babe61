"""The generator of points."""

import torch

from devilgan_lite import generators
from devilgan_lite.generators import PointGenerator


def test_points_are_in_the_square_and_the_spec_rebuilds_the_network() -> None:
    generator = PointGenerator(latent_dim=3, widths=8, prior="uniform")
    again = generators.build(generator.spec())
    again.load_state_dict(generator.state_dict())
    points = generator.sample(100, seed=1)
    assert points.shape == (100, 2)
    assert points.abs().max() <= 1
    assert torch.equal(points, again.sample(100, seed=1))


def test_the_matching_discriminator_reads_points() -> None:
    discriminator = PointGenerator().opponent()
    assert discriminator(torch.zeros(5, 2)).shape == (5,)
