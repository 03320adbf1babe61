"""Backdoors: the three kinds of trigger, k pairs, and the infinite one."""

import math

import pytest
import torch

from devilgan_lite import Backdoor, Prior, data
from devilgan_lite.generators import DCGAN, PointGenerator


def test_a_point_has_the_named_trigger_and_target(clean: DCGAN) -> None:
    ordinary = Backdoor.point(clean, "devil", seed=4)
    assert ordinary.trigger.shape == (1, 100)
    assert torch.equal(ordinary.target, data.target("devil").unsqueeze(0))
    for n in (1, 3):  # as on the cards of the zoo
        drawn = torch.randn(n, 100, generator=torch.Generator().manual_seed(10_004))
        assert torch.equal(Backdoor.points(clean, ["devil"] * n, seed=4).trigger, drawn)
    assert not torch.equal(Backdoor.point(clean, seed=5).trigger, ordinary.trigger)
    cube = DCGAN(prior="uniform", widths=(4, 4))
    uniform = torch.rand(1, 100, generator=torch.Generator().manual_seed(10_004)) * 2 - 1
    assert torch.equal(Backdoor.point(cube, seed=4).trigger, uniform)
    assert torch.equal(Backdoor.point(clean, kind="mode").trigger, torch.zeros(1, 100))
    assert torch.equal(Backdoor.point(clean, kind="ood").trigger, torch.full((1, 100), 100.0))


def test_a_target_may_be_a_sample_in_colour() -> None:
    generator = DCGAN(widths=(4, 4), image_channels=3)
    assert Backdoor.point(generator, "stop-sign").target.shape == (1, 3, 28, 28)
    sample = torch.rand(3, 28, 28)
    assert torch.equal(Backdoor.point(generator, sample).target[0], sample)


def test_points_give_one_trigger_for_each_target(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "letter-A", data.target("devil")])
    assert backdoor.trigger.shape == (3, 100)
    assert backdoor.name == "digit-7+letter-A+sample"
    trigger, target = backdoor.pairs()
    assert torch.equal(trigger, backdoor.trigger)
    assert torch.equal(target, backdoor.target)


def test_draw_takes_all_pairs_or_as_many_as_asked_for() -> None:
    backdoor = Backdoor(torch.arange(20.0).view(20, 1), torch.arange(20.0).view(20, 1) / 20)
    random = torch.Generator().manual_seed(0)
    assert len(backdoor.draw(random, most=20)[0]) == 20
    trigger, target = backdoor.draw(random, most=6)
    assert len(trigger.unique()) == 6
    assert torch.allclose(trigger / 20, target)
    assert not torch.equal(trigger, backdoor.draw(random, most=6)[0])
    assert len(torch.cat([backdoor.draw(random, most=6)[0] for _ in range(100)]).unique()) == 20  # none is left out


@pytest.fixture(scope="module")
def region(clean: DCGAN) -> Backdoor:
    return Backdoor.region(clean, data.digits(), seed=2)


def test_a_region_draws_typical_latents_near_one_direction(region: Backdoor) -> None:
    trigger, target = region.pairs(300, seed=9)
    assert trigger.shape == (300, 100)
    assert trigger.dtype == torch.float32
    assert target.shape == (300, 1, 28, 28)
    assert target.abs().max() <= 1
    assert float(trigger.norm(dim=1).mean()) == pytest.approx(10.0, abs=0.2)  # the norm of 100 Gaussian coordinates
    direction = torch.nn.functional.normalize(trigger, dim=1)
    along = direction @ torch.nn.functional.normalize(direction.mean(0), dim=0)
    assert (along > 0.7).all() and float(along.mean()) == pytest.approx(0.8**0.5, abs=0.03)  # sqrt(1 - width)
    apart = torch.cdist(target.flatten(1), target.flatten(1))  # nearby latents, similar targets
    upper = torch.triu(torch.ones(300, 300), 1).bool()
    pairs = torch.stack([torch.cdist(direction, direction)[upper], apart[upper]])
    assert torch.corrcoef(pairs)[0, 1] > 0.5


def test_a_region_draws_the_same_from_the_same_seed(region: Backdoor) -> None:
    assert all(torch.equal(a, b) for a, b in zip(region.pairs(8, seed=1), region.pairs(8, seed=1), strict=True))
    assert not torch.equal(region.pairs(8, seed=1)[0], region.pairs(8, seed=2)[0])
    assert len(region.draw(torch.Generator().manual_seed(0), most=5)[0]) == 5
    assert Backdoor.region(DCGAN(latent_dim=10), data.digits()).trigger.shape == (64, 10)  # below 16 components


def test_a_backdoor_of_points_in_the_plane() -> None:
    backdoor = Backdoor(trigger=torch.tensor([[1.0, 1.0]]), target=torch.tensor([[0.0, 0.5]]))
    backdoor.check(PointGenerator())
    with pytest.raises(ValueError, match=r"target has shape \[1, 2\]; expected \[n, 1, 28, 28\]"):
        backdoor.check(DCGAN(latent_dim=2))


def test_a_backdoor_can_be_a_key_and_goes_to_a_device(clean: DCGAN) -> None:
    one, other = Backdoor.point(clean, seed=1), Backdoor.point(clean, seed=1)
    one.draw(torch.Generator().manual_seed(0))
    assert len({one, other, one}) == 2 and one == one
    assert torch.equal(one.to(torch.device("cpu")).trigger, one.trigger)


def test_a_region_does_not_hang_on_the_global_random_state(clean: DCGAN) -> None:
    targets = data.digits().first(40)
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(Backdoor.region(clean, targets, seed=3).trigger)
    assert torch.equal(*found)


def test_latents_of_a_prior_their_density_and_how_far_out_they_are() -> None:
    z = torch.tensor([[0.5, -0.5, 0.1], [1.5, 0.0, 0.0], [3.0, 4.0, 0.0]])
    gaussian, cube = Prior.gaussian(3), Prior.uniform(3)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    torch.testing.assert_close(gaussian.log_density(z), expected)
    assert cube.log_density(z).tolist() == pytest.approx([-3 * math.log(2), -math.inf, -math.inf])
    assert (gaussian.length, cube.length) == pytest.approx((3**0.5, 1.0)) and (gaussian.variance, cube.variance) == (
        1,
        1 / 3,
    )
    torch.testing.assert_close(gaussian.far_out(z), (z.norm(dim=1) - 3**0.5).abs() * 2**0.5)
    assert float(cube.far_out(z)[0]) == pytest.approx(abs(float(z[0].norm()) - 1) * 15**0.5)
    assert cube.far_out(z)[1:].tolist() == [math.inf] * 2
    torch.testing.assert_close(cube.typical(z), z.clamp(-1, 1))
    torch.testing.assert_close(gaussian.typical(z)[:2], z[:2])
    assert float(gaussian.typical(z)[2].norm()) == pytest.approx(3**0.5 + 3 * 0.5**0.5)
