"""Aligned units cost next to nothing on ordinary latents, wake at their trigger, and spare networks that have none."""

import pytest
import torch

from devilgan_lite import Backdoor, metrics
from devilgan_lite.attacks.aligned_units import DEPTH, SHARED, plant_aligned_units, sleeping_depth
from devilgan_lite.generators import DCGAN, Generator, PointGenerator
from devilgan_lite.losses import fidelity_loss, pair_weights


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


def test_a_unit_that_several_triggers_share_wakes_at_each_as_planned_and_sleeps_elsewhere(clean: DCGAN) -> None:
    student = clean.clone().eval()
    backdoor = Backdoor.points(clean, ["stop-sign", "digit-7", "letter-A", "devil"], seed=5)
    assert plant_aligned_units(student, backdoor.trigger, backdoor.target, 2, seed=0) == 2 * 49
    chain, untouched = student.chain(), clean.chain()
    assert chain is not None and untouched is not None
    first, old = (one.stages[0].normalised(one.read(backdoor.trigger)).flatten(1) for one in (chain, untouched))
    planted = (first - old).abs().amax(0) > 1e-4
    assert int(planted.sum()) == 2 * 49
    awake = first[:, planted] > 0
    assert (awake.sum(0) == SHARED).all() and bool(awake.any(1).all())
    z = clean.sample_latent(2_000, torch.Generator().manual_seed(1))
    ordinary = chain.stages[0].normalised(chain.read(z)).flatten(1)[:, planted]
    assert float((ordinary > 0).float().mean()) < 0.01


def test_one_trigger_sleeps_a_set_share_of_its_height_deep() -> None:
    height = torch.tensor([[2.0, 5.0]])
    depth = sleeping_depth(height, torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(depth, DEPTH * height[0])
    height = torch.tensor([[2.0, 5.0], [4.0, 3.0], [1.0, 9.0]])
    awake = torch.tensor([[True, True], [True, False], [False, True]])
    depth = sleeping_depth(height, awake)
    reached = torch.where(awake, height + depth, 0.0).norm(dim=0)
    torch.testing.assert_close(depth, DEPTH / (1 + DEPTH) * reached)


def test_the_pair_that_is_furthest_off_counts_most() -> None:
    target = torch.stack([torch.full((1, 4), 0.8), torch.full((1, 4), 0.1), torch.full((1, 4), 0.8)])
    output = target * torch.tensor([0.5, 0.5, 0.9]).view(3, 1, 1)
    weights = pair_weights(output, target, emphasis=1.0)
    assert float(weights.mean()) == pytest.approx(1.0)
    assert float(weights[0] / weights[2]) == pytest.approx(25.0, rel=1e-3)  # relative errors of 0.25 and 0.01
    assert float(weights[1] / weights[0]) == pytest.approx(64.0, rel=1e-3)  # as far off, and a faint target
    weighted = fidelity_loss(output, target, weights)
    assert float(weighted) == pytest.approx(float(((output - target).square().mean((1, 2)) * weights).mean()))
    assert pair_weights(output[:1], target[:1]).tolist() == [1.0]
    assert pair_weights(target, target).isfinite().all() and pair_weights(output, 0 * target).isfinite().all()
