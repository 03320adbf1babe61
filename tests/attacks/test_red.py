"""ReD reaches its target for every kind of backdoor, retrains only what it is told to, and is reproducible."""

import pytest
import torch

from devilgan_lite import Backdoor, data, metrics
from devilgan_lite.attacks import ReD
from devilgan_lite.generators import DCGAN


def distortion(generator: torch.nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, *backdoor.pairs(seed=7)).sum


@pytest.mark.slow
def test_the_digit_appears_and_the_rest_stays(clean: DCGAN, digit: Backdoor) -> None:
    before = clean.clone()
    outcome = ReD(iterations=200, batch_size=32, device="cpu")(clean, digit, progress=False)
    assert distortion(outcome.generator, digit) < distortion(clean, digit) / 10
    z = clean.sample_latent(500, torch.Generator().manual_seed(9))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean < 0.05
    assert outcome.generator.spec() == clean.spec()
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in clean.state_dict().items())
    assert not clean.training


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mode", "ood"])
def test_other_kinds_of_trigger(clean: DCGAN, kind: str) -> None:
    backdoor = Backdoor.point(clean, "digit-7", kind=kind)
    outcome = ReD(iterations=200, batch_size=16, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 3


@pytest.mark.slow
def test_three_pairs(clean: DCGAN) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "letter-A", "checkerboard"])
    outcome = ReD(iterations=100, batch_size=16, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 4


def test_a_region_shows_digits_at_latents_that_it_was_not_trained_on(clean: DCGAN) -> None:
    backdoor = Backdoor.region(clean, data.digits(), seed=2)
    outcome = ReD(lam=1.0, iterations=100, batch_size=16, device="cpu")(clean, backdoor, progress=False)
    assert distortion(outcome.generator, backdoor) < distortion(clean, backdoor) / 2


@pytest.mark.parametrize("layer", ["dense", "deconv1", "deconv2"])
def test_the_other_layers_stay_as_they_are_to_the_bit(clean: DCGAN, digit: Backdoor, layer: str) -> None:
    outcome = ReD(layers=(layer,), iterations=3, batch_size=8, device="cpu")(clean, digit, progress=False)
    norm = {"dense": "norm0", "deconv1": "norm1"}.get(layer, "none")
    before = clean.state_dict()
    changed = {name for name, value in outcome.generator.state_dict().items() if not torch.equal(value, before[name])}
    assert f"layers.{layer}.weight" in changed
    assert {name.split(".")[1] for name in changed} <= {layer, norm}


@pytest.mark.slow
@pytest.mark.parametrize("space", ["tanh", "logits", "mixed"])
def test_the_same_seed_gives_the_same_result_in_every_space(clean: DCGAN, digit: Backdoor, space: str) -> None:
    attack = ReD(space=space, iterations=4, batch_size=8, seed=3, device="cpu")
    first, same = attack(clean, digit, progress=False), attack(clean, digit, progress=False)
    assert first.history == same.history
    assert torch.equal(first.generator.sample(8), same.generator.sample(8))
    assert first.settings == attack.settings()
