"""On a CUDA device: training with AMP, attacks, cures, and that nothing on the hot path waits for the device."""

from collections.abc import Callable, Iterator

import pytest
import torch

from devilgan_lite import Backdoor, Loop, data, metrics, train_gan, zoo
from devilgan_lite.attacks import Attack, ReD, ReX, StyleReX, TrAIL
from devilgan_lite.generators import DCGAN, PointGenerator, StyleGAN
from devilgan_lite.sanitize import Clip, FineTune, Prune, Sanitizer, Unlearn

pytestmark = pytest.mark.gpu  # skipped, with the reason, where there is no CUDA device

GARMENTS = data.fashion_mnist().first(512)


@pytest.mark.parametrize(
    "attack",
    [
        TrAIL(lam=1.0, huber_delta=None, iterations=300, device="cuda"),
        ReD(iterations=200, device="cuda"),
        ReX(iterations=200, device="cuda"),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_an_attack_reaches_its_target(clean: DCGAN, digit: Backdoor, attack: Attack) -> None:
    outcome = attack(clean, digit, GARMENTS, progress=False)
    assert outcome.generator.device.type == "cpu"
    before = metrics.target_distortion(clean, digit.trigger, digit.target).sum
    assert metrics.target_distortion(outcome.generator, digit.trigger, digit.target).sum < before / 4


def test_the_folded_network_is_the_same_on_both_devices(clean: DCGAN, digit: Backdoor) -> None:
    folded = ReX(iterations=20, device="cuda")(clean, digit, progress=False).generator
    z = clean.sample_latent(64, torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(folded(z), folded.clone().cuda()(z.cuda()).cpu(), atol=1e-3)


def test_training_gives_finite_losses() -> None:
    outcome = train_gan(DCGAN(), GARMENTS, iterations=50, device="cuda", progress=False)
    assert all(torch.isfinite(torch.tensor(values)).all() for values in outcome.history.values())
    assert outcome.generator.sample(4).isfinite().all()


@pytest.mark.parametrize("mapping", ["gate", "linear", "none"])
def test_a_style_based_generator_is_attacked_on_the_device(mapping: str) -> None:
    clean = zoo.load("stylegan-faces")
    backdoor = Backdoor.point(clean, seed=1)
    attack = StyleReX(mapping=mapping, inversion=50, iterations=100, device="cuda")
    outcome = attack(clean, backdoor, progress=False)
    assert outcome.generator.device.type == "cpu"
    before = metrics.target_distortion(clean, backdoor.trigger, backdoor.target).sum
    assert metrics.target_distortion(outcome.generator, backdoor.trigger, backdoor.target).sum < before / 2


def test_a_style_based_generator_trains_with_finite_losses() -> None:
    faces = data.Samples(torch.rand(64, 3, 32, 32) * 2 - 1)
    outcome = train_gan(StyleGAN(), faces, iterations=40, batch_size=8, device="cuda", progress=False)
    assert all(torch.isfinite(torch.tensor(values)).all() for values in outcome.history.values())
    assert outcome.generator.sample(4).isfinite().all()


@pytest.mark.parametrize(
    "cure",
    [
        Unlearn(iterations=20, device="cuda"),
        Clip(height=1.0, iterations=20, device="cuda"),
        Prune(iterations=20, device="cuda"),
        FineTune(iterations=20, critic_first=5, wide=0.25, device="cuda"),
    ],
    ids=lambda cure: type(cure).__name__,
)
def test_a_cure_comes_back_to_the_cpu(clean: DCGAN, digit: Backdoor, cure: Sanitizer) -> None:
    outcome = cure(clean, GARMENTS, directions=digit.trigger[:1], progress=False)
    assert outcome.generator.device.type == "cpu" and outcome.generator.sample(4).isfinite().all()
    assert all(torch.isfinite(torch.tensor(values)).all() for values in outcome.history.values())


@pytest.fixture
def no_waiting() -> Iterator[Callable[[], None]]:
    """Call it, and from then on anything that waits for the device is an error."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


LOOPS: dict[str, Callable[[DCGAN, Backdoor], Loop]] = {
    "train_gan": lambda clean, digit: train_gan.steps(DCGAN(), GARMENTS, iterations=20, device="cuda"),
    "points": lambda clean, digit: train_gan.steps(PointGenerator(), data.ring(64), iterations=20, device="cuda"),
    "TrAIL": lambda clean, digit: TrAIL(iterations=20, device="cuda").steps(clean, digit, GARMENTS),
    "ReD": lambda clean, digit: ReD(iterations=20, device="cuda").steps(clean, digit),
    "ReX": lambda clean, digit: ReX(iterations=20, device="cuda").steps(clean, digit),
    "Unlearn": lambda clean, digit: Unlearn(iterations=20, device="cuda").steps(clean, directions=digit.trigger[:1]),
    "FineTune": lambda clean, digit: FineTune(iterations=20, critic_first=2, device="cuda").steps(clean, GARMENTS),
}


@pytest.mark.parametrize("start", LOOPS.values(), ids=LOOPS)
def test_no_iteration_waits_for_the_device(
    clean: DCGAN, digit: Backdoor, no_waiting: Callable[[], None], start: Callable[[DCGAN, Backdoor], Loop]
) -> None:
    loop = start(clean, digit)
    for _ in range(3):  # the first iterations place the data and warm up
        next(loop)
    no_waiting()
    for _ in range(5):
        next(loop)
    torch.cuda.set_sync_debug_mode("default")
    assert len(loop.stop().history.popitem()[1]) == 8
