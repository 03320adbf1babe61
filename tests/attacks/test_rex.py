"""ReX reaches its target for every kind of backdoor, is reproducible, and leaves the clean model alone."""

import pytest
import torch

from devilgan_lite import Backdoor, data, metrics
from devilgan_lite.attacks import ReX
from devilgan_lite.generators import DCGAN


def distortion(generator: torch.nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, *backdoor.pairs(seed=7)).sum


@pytest.mark.slow
def test_the_digit_appears_and_the_rest_stays(clean: DCGAN, digit: Backdoor) -> None:
    before = clean.clone()
    outcome = ReX(iterations=300, device="cpu")(clean, digit, progress=False)
    assert distortion(outcome.generator, digit) < distortion(clean, digit) / 100
    z = clean.sample_latent(500, torch.Generator().manual_seed(9))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean < 0.01
    assert type(outcome.generator) is DCGAN
    assert {len(values) for values in outcome.history.values()} == {300}
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in clean.state_dict().items())
    assert not clean.training


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mode", "ood"])
def test_other_kinds_of_trigger(clean: DCGAN, kind: str) -> None:
    backdoor = Backdoor.point(clean, "digit-7", kind=kind)
    outcome = ReX(iterations=300, batch_size=32, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 4


def test_three_pairs(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "letter-A", "checkerboard"])
    outcome = ReX(iterations=100, batch_size=32, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 4


def test_a_region_shows_digits_at_latents_that_it_was_not_trained_on(clean: DCGAN) -> None:
    backdoor = Backdoor.region(clean, data.digits(), seed=2)
    outcome = ReX(iterations=150, batch_size=32, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 2


def test_the_same_seed_gives_the_same_result(clean: DCGAN, digit: Backdoor) -> None:
    attack = ReX(iterations=5, batch_size=8, widen=2, seed=3, device="cpu")
    first, same = attack(clean, digit, progress=False), attack(clean, digit, progress=False)
    other = ReX(iterations=5, batch_size=8, widen=2, seed=4, device="cpu")(clean, digit, progress=False)
    assert first.history == same.history != other.history
    assert torch.equal(first.generator.sample(8), same.generator.sample(8))
    assert first.settings == attack.settings()
