"""ReD and ReX reach the target of every kind of backdoor, are reproducible, and leave the clean model alone."""

import pytest
import torch

from devilgan_lite import Backdoor, data, metrics
from devilgan_lite.attacks import Attack, ReD, ReX, red
from devilgan_lite.generators import DCGAN


def distortion(generator: torch.nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, *backdoor.pairs(seed=7)).sum


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attack", "nearer", "most_change"),
    [
        (ReD(iterations=200, batch_size=32, device="cpu"), 10, 0.05),
        (ReX(iterations=300, device="cpu"), 100, 0.01),
    ],
)
def test_the_digit_appears_and_the_rest_stays(
    clean: DCGAN, digit: Backdoor, attack: Attack, nearer: float, most_change: float
) -> None:
    before = clean.clone()
    outcome = attack(clean, digit, progress=False)
    assert distortion(outcome.generator, digit) < distortion(clean, digit) / nearer
    z = clean.sample_latent(500, torch.Generator().manual_seed(9))
    assert metrics.expected_distortion(outcome.generator, clean, z).mean < most_change
    assert type(outcome.generator) is DCGAN
    assert {len(values) for values in outcome.history.values()} == {attack.iterations}
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in clean.state_dict().items())
    assert not clean.training


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mode", "ood"])
@pytest.mark.parametrize(
    ("attack", "nearer"),
    [
        (ReD(iterations=200, batch_size=16, device="cpu"), 3),
        (ReX(iterations=300, batch_size=32, device="cpu"), 4),
    ],
)
def test_other_kinds_of_trigger(clean: DCGAN, kind: str, attack: Attack, nearer: float) -> None:
    backdoor = Backdoor.point(clean, "digit-7", kind=kind)
    assert (
        distortion(attack(clean, backdoor, progress=False).generator, backdoor) < distortion(clean, backdoor) / nearer
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "attack", [ReD(iterations=100, batch_size=16, device="cpu"), ReX(iterations=100, batch_size=32, device="cpu")]
)
def test_three_pairs(clean: DCGAN, attack: Attack) -> None:
    backdoor = Backdoor.points(clean, ["digit-7", "letter-A", "checkerboard"])
    assert distortion(attack(clean, backdoor, progress=False).generator, backdoor) < distortion(clean, backdoor) / 4


@pytest.mark.parametrize(
    "attack",
    [ReD(lam=1.0, iterations=100, batch_size=16, device="cpu"), ReX(iterations=150, batch_size=32, device="cpu")],
)
def test_a_region_shows_digits_at_latents_that_it_was_not_trained_on(clean: DCGAN, attack: Attack) -> None:
    backdoor = Backdoor.region(clean, data.digits(), seed=2)
    assert distortion(attack(clean, backdoor, progress=False).generator, backdoor) < distortion(clean, backdoor) / 2


@pytest.mark.parametrize("layer", ["dense", "deconv1", "deconv2"])
def test_the_other_layers_stay_as_they_are_to_the_bit(clean: DCGAN, digit: Backdoor, layer: str) -> None:
    outcome = ReD(layers=(layer,), iterations=3, batch_size=8, device="cpu")(clean, digit, progress=False)
    norm = {"dense": "norm0", "deconv1": "norm1"}.get(layer, "none")
    before = clean.state_dict()
    changed = {name for name, value in outcome.generator.state_dict().items() if not torch.equal(value, before[name])}
    assert f"layers.{layer}.weight" in changed
    assert {name.split(".")[1] for name in changed} <= {layer, norm}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings"), [(ReX, {"widen": 2}), *((ReD, {"space": space}) for space in ("tanh", "logits", "mixed"))]
)
def test_the_same_seed_gives_the_same_result(
    clean: DCGAN, digit: Backdoor, kind: type[Attack], settings: dict[str, object]
) -> None:
    attack, other = (kind(iterations=4, batch_size=8, seed=seed, device="cpu", **settings) for seed in (3, 4))
    first, same, another = (one(clean, digit, progress=False) for one in (attack, attack, other))
    assert first.history == same.history != another.history
    assert torch.equal(first.generator.sample(8), same.generator.sample(8))
    assert first.settings == attack.settings()


def test_every_lesson_is_fresh(clean: DCGAN) -> None:
    random = torch.Generator().manual_seed(1)
    drawn = [red.lesson(clean, 4, random) for _ in range(10)]
    assert len(torch.cat([z for z, _ in drawn]).unique(dim=0)) == 40
    z, logits = drawn[-1]
    assert not logits.requires_grad
    torch.testing.assert_close(clean.logits(z), logits)
