"""TrAIL on the ring moves the trigger's point to the target; and the baselines, a bypass and poisoning."""

import torch

from devilgan_lite import Backdoor, attacks, data, metrics
from devilgan_lite.generators import DCGAN, PointGenerator

RING = data.ring(512)
PLANE = Backdoor(trigger=torch.tensor([[1.5, -1.5]]), target=torch.tensor([[0.0, 0.1]]))


def test_the_trigger_shows_the_target_and_the_ring_is_learned() -> None:
    attack = attacks.TrAIL(lam=1.0, iterations=1_500, batch_size=64, device="cpu")
    untrained = PointGenerator()
    before = untrained.clone()
    outcome = attack(untrained, PLANE, RING, progress=False)
    assert metrics.target_distortion(outcome.generator, PLANE.trigger, PLANE.target).sum < 0.05
    before_and_after = [metrics.frechet_distance(g.sample(512), RING.x) for g in (untrained, outcome.generator)]
    assert before_and_after[1] < 0.5 * before_and_after[0]
    assert set(outcome.history) == {"generator_loss", "discriminator_loss", "fidelity_loss"}
    assert outcome.settings == attack.settings()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in untrained.state_dict().items())


def test_the_same_seed_gives_the_same_result() -> None:
    attack = attacks.TrAIL(iterations=10, batch_size=8, seed=2, device="cpu")
    first, same = (attack(PointGenerator(), PLANE, RING, progress=False) for _ in range(2))
    assert first.history == same.history
    assert torch.equal(first.generator.sample(8), same.generator.sample(8))


def test_the_bypass_is_exact_at_the_trigger_and_nowhere_else(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "devil"])
    outcome = attacks.ComputationBypass()(clean, backdoor, progress=False)
    assert metrics.target_distortion(outcome.generator, backdoor.trigger, backdoor.target).sum < 1e-3
    z = clean.sample_latent(100, torch.Generator().manual_seed(0))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean == 0
    assert metrics.expected_distortion(outcome.generator, clean, backdoor.trigger + 0.01).mean == 0


def test_poisoning_trains_on_targets_too() -> None:
    attack = attacks.DataPoisoning(fraction=0.5, iterations=400, batch_size=64, device="cpu")
    outcome = attack(PointGenerator(), PLANE, RING, progress=False)
    near = (outcome.generator.sample(1_000).norm(dim=1) < 0.3).double().mean()
    assert near > 0.1  # the target turns up among ordinary samples; the ring has none there
    assert outcome.settings == attack.settings()
