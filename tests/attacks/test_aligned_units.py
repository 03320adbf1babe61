"""Sleepers cost next to nothing on ordinary latents, wake at their trigger, and leave networks alone that have none."""

import pytest
import torch

from devilgan_lite import Backdoor, metrics
from devilgan_lite.attacks.aligned_units import plant_aligned_units
from devilgan_lite.generators import DCGAN, Generator, PointGenerator


@pytest.mark.parametrize(("targets", "left"), [(["stop-sign"], 0.7), (["stop-sign", "digit-7"], 0.8)])
def test_the_head_start_draws_much_of_the_sample_almost_for_free(clean: DCGAN, targets: list[str], left: float) -> None:
    student = clean.clone().eval()
    backdoor = Backdoor.points(clean, targets, seed=5)
    assert plant_aligned_units(student, backdoor.trigger, backdoor.target, 4, seed=0) == 4 * 49
    z = clean.sample_latent(1_000, torch.Generator().manual_seed(1))
    assert metrics.expected_distortion(student, clean, z).mean < 2e-3
    before = metrics.target_distortion(clean, backdoor.trigger, backdoor.target).sum
    assert metrics.target_distortion(student, backdoor.trigger, backdoor.target).sum < before * left


@pytest.mark.parametrize(
    ("generator", "kind", "count"),
    [
        (DCGAN(widths=(8, 4), negative_slope=0.3), "reg", 3),
        (DCGAN(widths=(8, 4)), "mode", 3),
        (DCGAN(widths=(8, 4)), "reg", 0),
    ],
)
def test_nothing_changes_where_no_unit_can_sleep(generator: Generator, kind: str, count: int) -> None:
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    backdoor = Backdoor.point(generator, "digit-7", kind=kind)
    assert plant_aligned_units(generator, backdoor.trigger, backdoor.target, count, seed=0) == 0
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())


def test_a_network_of_points_has_no_cells() -> None:
    assert plant_aligned_units(PointGenerator(), torch.ones(1, 2), torch.zeros(1, 2), 3, seed=0) == 0
