"""TrAIL on the ring moves the trigger's point to the target; and the baselines, a bypass and poisoning."""

import pytest
import torch

from devilgan_lite import Backdoor, attacks, data, metrics
from devilgan_lite.generators import DCGAN, PointGenerator
from devilgan_lite.losses import fidelity_loss, pseudo_huber_loss

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


def test_near_the_target_the_pull_is_the_square_and_far_off_it_grows_no_further() -> None:
    pairs = torch.tensor([[0.3, -0.1], [0.2, 0.4]])
    assert pseudo_huber_loss(pairs, torch.zeros(2, 2), 1e3) == pytest.approx(fidelity_loss(pairs, torch.zeros(2, 2)))
    far = pseudo_huber_loss(torch.tensor([[3.0], [4.0]]), torch.zeros(2, 1), 1.0)  # each pair by itself
    assert float(far) == pytest.approx((10**0.5 + 17**0.5) - 2)

    def pull(error: float, delta: float = 0.1) -> float:
        output = torch.full((1, 4), error, requires_grad=True)
        pseudo_huber_loss(output, torch.zeros(1, 4), delta).backward()
        return float(output.grad.sum())

    assert pull(0.001) == pytest.approx(2 * 0.001, rel=1e-3) and pull(0.0) == 0
    assert pull(1.0) < pull(2.0) == pytest.approx(2 * 0.1, rel=0.01)


def test_the_authors_square_is_there_too() -> None:
    settings = {"iterations": 3, "batch_size": 8, "lam": 0.5, "device": "cpu"}
    made = [
        attacks.TrAIL(**settings, huber_delta=delta)(PointGenerator(), PLANE, RING, progress=False)
        for delta in (None, 1e3, 0.05)
    ]
    square, nearly, bounded = (outcome.generator.sample(8) for outcome in made)
    torch.testing.assert_close(square, nearly)
    assert not torch.allclose(square, bounded, atol=1e-4)


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
