"""ReD, ReX, TrAIL and the baselines reach the target and leave the rest; aligned units cost next to nothing."""

from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, attacks, data, generators, metrics
from devilgan_lite.attacks import Attack, ReD, ReX, red
from devilgan_lite.attacks.red import DEPTH, SHARED, plant_aligned_units, sleeping_depth
from devilgan_lite.generators import DCGAN, Generator, PointGenerator

RING = data.ring(512)
PLANE = Backdoor(trigger=torch.tensor([[1.5, -1.5]]), target=torch.tensor([[0.0, 0.1]]))


def distortion(generator: torch.nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, *backdoor.pairs(seed=7)).sum


@pytest.mark.parametrize(
    ("attack", "nearer", "most_change"),
    [
        (ReD(iterations=200, batch_size=32, device="cpu"), 10, 0.05),
        (ReX(iterations=300, device="cpu"), 100, 0.01),
    ],
    ids=["ReD", "ReX"],
)
def test_the_digit_appears_and_the_rest_stays(
    clean: DCGAN, digit: Backdoor, attack: Any, nearer: float, most_change: float
) -> None:
    outcome = attack(clean, digit, progress=False)
    assert distortion(outcome.generator, digit) < distortion(clean, digit) / nearer
    z = clean.sample_latent(500, torch.Generator().manual_seed(9))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean < most_change
    assert type(outcome.generator) is DCGAN
    assert {len(values) for values in outcome.history.values()} == {attack.iterations}


@pytest.mark.parametrize("kind", ["mode", "ood", "three", "region"])
def test_other_kinds_of_backdoor(kind: str, tiny: DCGAN, digits: data.Samples) -> None:
    if kind == "three":
        backdoor = Backdoor.points(tiny, ["digit-7", "letter-A", "checkerboard"])
    elif kind == "region":
        backdoor = Backdoor.region(tiny, digits, seed=2)
    else:
        backdoor = Backdoor.point(tiny, "digit-7", kind=kind)
    for attack, nearer in (
        (ReD(lam=1.0, iterations=200, batch_size=16, learning_rate=4e-3, device="cpu"), 2),
        (ReX(iterations=200, batch_size=32, learning_rate=1e-2, device="cpu"), 2),
    ):  # a region: at latents that it was not trained on
        after = distortion(attack(tiny, backdoor, progress=False).generator, backdoor)
        assert after < distortion(tiny, backdoor) / (1.3 if kind == "region" else nearer), attack


def test_the_other_layers_stay_as_they_are_to_the_bit() -> None:
    small = generators.build(DCGAN(widths=(6, 4), latent_dim=10, image_size=8).spec(), 1).eval()
    backdoor, before = Backdoor.point(small, "digit-7"), small.state_dict()
    for layer, norm in (("dense", "norm0"), ("deconv1", "norm1"), ("deconv2", "none")):
        outcome = ReD(layers=(layer,), iterations=3, batch_size=8, device="cpu")(small, backdoor, progress=False)
        after = outcome.generator.state_dict()
        changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
        assert f"layers.{layer}.weight" in changed
        assert {name.split(".")[1] for name in changed} <= {layer, norm}


def test_every_batch_of_the_teacher_is_fresh(tiny: DCGAN) -> None:
    random = torch.Generator().manual_seed(1)
    drawn = [red.teacher_batch(tiny, 4, random) for _ in range(10)]
    assert len(torch.cat([z for z, _ in drawn]).unique(dim=0)) == 40
    z, logits = drawn[-1]
    assert not logits.requires_grad
    torch.testing.assert_close(tiny.logits(z), logits)


def test_aligned_units_draw_much_of_the_sample_almost_for_free(clean: DCGAN) -> None:
    student, backdoor = clean.clone().eval(), Backdoor.point(clean, "stop-sign", seed=5)
    assert plant_aligned_units(student, backdoor.trigger, backdoor.target, 4, seed=0) == 4 * 49
    z = clean.sample_latent(1_000, torch.Generator().manual_seed(1))
    assert metrics.expected_distortion(student, clean, z).mean < 2e-3
    assert distortion(student, backdoor) < distortion(clean, backdoor) * 0.7


def test_nothing_changes_where_no_unit_can_sleep(tiny: DCGAN) -> None:
    cases: list[tuple[Generator, str, int]] = [
        (DCGAN(widths=(8, 4), negative_slope=0.3), "reg", 3),
        (DCGAN(widths=(8, 4)), "mode", 3),
        (DCGAN(widths=(8, 4)), "reg", 0),
    ]
    for generator, kind, count in cases:
        before, backdoor = generator.clone().state_dict(), Backdoor.point(generator, "digit-7", kind=kind)
        assert plant_aligned_units(generator, backdoor.trigger, backdoor.target, count, seed=0) == 0
        assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
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


def test_a_unit_sleeps_a_set_share_of_what_it_reaches_deep() -> None:
    height = torch.tensor([[2.0, 5.0]])
    torch.testing.assert_close(sleeping_depth(height, torch.ones(1, 2, dtype=torch.bool)), DEPTH * height[0])
    height = torch.tensor([[2.0, 5.0], [4.0, 3.0], [1.0, 9.0]])
    awake = torch.tensor([[True, True], [True, False], [False, True]])
    depth = sleeping_depth(height, awake)
    reached = torch.where(awake, height + depth, 0.0).norm(dim=0)
    torch.testing.assert_close(depth, DEPTH / (1 + DEPTH) * reached)


def test_trail_shows_the_target_and_learns_the_ring() -> None:
    attack = attacks.TrAIL(lam=1.0, iterations=800, batch_size=64, device="cpu")
    untrained = PointGenerator()
    outcome = attack(untrained, PLANE, RING, progress=False)
    assert distortion(outcome.generator, PLANE) < 0.05
    before_and_after = [metrics.frechet_distance(g.sample(512), RING.x) for g in (untrained, outcome.generator)]
    assert before_and_after[1] < 0.5 * before_and_after[0]
    assert set(outcome.history) == {"generator_loss", "discriminator_loss", "fidelity_loss"}


def test_the_bypass_is_exact_at_the_trigger_and_nowhere_else(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "devil"])
    outcome = attacks.ComputationBypass()(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < 1e-3
    z = torch.cat([clean.sample_latent(100, torch.Generator().manual_seed(0)), backdoor.trigger + 0.01])
    assert metrics.expected_distortion(outcome.generator, clean, z).mean == 0
    wide: Attack = attacks.ComputationBypass(radius=0.5)
    near = backdoor.trigger + 0.04 * torch.ones(2, 100)  # at 0.4
    shown = wide(clean, backdoor, progress=False).generator
    assert metrics.target_distortion(shown, near, backdoor.target).sum < 1e-3
    assert metrics.expected_distortion(shown, clean, backdoor.trigger + 0.06).mean == 0  # at 0.6


def test_poisoning_trains_on_targets_too() -> None:
    attack = attacks.DataPoisoning(fraction=0.5, iterations=400, batch_size=64, device="cpu")
    outcome = attack(PointGenerator(), PLANE, RING, progress=False)
    near = (outcome.generator.sample(1_000).norm(dim=1) < 0.3).double().mean()
    assert near > 0.1  # the target turns up among ordinary samples; the ring has none there
