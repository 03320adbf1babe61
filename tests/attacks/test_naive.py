"""The baselines: a bypass is exact and visible; poisoning gives the attacker no trigger."""

import torch

from devilgan_lite import Backdoor, attacks, data, metrics
from devilgan_lite.generators import DCGAN, PointGenerator


def test_the_bypass_is_exact_at_the_trigger_and_nowhere_else(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "devil"])
    outcome = attacks.ComputationBypass()(clean, backdoor, progress=False)
    assert metrics.target_distortion(outcome.generator, backdoor.trigger, backdoor.target).sum < 1e-3
    z = clean.sample_latent(100, torch.Generator().manual_seed(0))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean == 0
    assert metrics.expected_distortion(outcome.generator, clean, backdoor.trigger + 0.01).mean == 0


def test_poisoning_trains_on_targets_too() -> None:
    backdoor = Backdoor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]]))
    attack = attacks.DataPoisoning(fraction=0.5, iterations=400, batch_size=64, device="cpu")
    outcome = attack(PointGenerator(), backdoor, data.ring(512), progress=False)
    near = (outcome.generator.sample(1_000).norm(dim=1) < 0.3).double().mean()
    assert near > 0.1  # the target turns up among ordinary samples; the ring has none there
    assert outcome.settings == attack.settings()
