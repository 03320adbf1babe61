"""The rectified flow: its steps, its loss, its training without an opponent, and that attacks and scans take it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from devilgan_lite import Backdoor, attacks, data, detect, generators, metrics, sanitize, train_gan, zoo
from devilgan_lite.data import Samples
from devilgan_lite.generators import RectifiedFlow
from devilgan_lite.generators.flow import clock

SMALL = {"widths": (6, 8, 12), "euler_steps": 2, "image_size": 8}


@pytest.fixture(scope="module")
def real(digits: Samples) -> Samples:
    return digits.first(512)


@pytest.fixture(scope="module")
def trained(real: Samples) -> RectifiedFlow:
    made: RectifiedFlow = train_gan(
        RectifiedFlow(**SMALL), real, iterations=80, seed=0, device="cpu", progress=False
    ).generator
    return made


@pytest.fixture(scope="module")
def backdoor(trained: RectifiedFlow) -> Backdoor:
    return Backdoor.point(trained, "digit-7", seed=1)


def test_a_fresh_flow_returns_its_noise_and_its_latent_is_as_large_as_the_picture() -> None:
    flow = RectifiedFlow(**{**SMALL, "image_channels": 3, "image_size": 12}).eval()
    z = flow.sample_latent(4, torch.Generator().manual_seed(0))
    assert z.shape == (4, 432)
    assert torch.equal(flow.logits(z), z.unflatten(1, (3, 12, 12)))
    assert flow(z).abs().max() <= 1


def test_drawing_takes_as_many_euler_steps_as_it_says(trained: RectifiedFlow) -> None:
    z = trained.sample_latent(3, torch.Generator().manual_seed(0))
    x = z.unflatten(1, (1, 8, 8))
    with torch.no_grad():
        for time, length in ((0.0, 0.25), (0.25, 0.75)):
            x = x + length * trained.velocity(x, clock(torch.tensor([time])))
        assert torch.allclose(trained.logits(z), x, atol=1e-5)
        assert not torch.allclose(trained.logits(z), z.unflatten(1, (1, 8, 8)), atol=0.1)


def test_every_even_size_fits_together() -> None:
    for size in (8, 10, 12, 14, 28, 30):
        assert RectifiedFlow(widths=(2, 3, 4), image_size=size).sample(2).shape == (2, 1, size, size)


def test_the_loss_is_that_of_straight_lines(real: Samples) -> None:
    flow, random = RectifiedFlow(**SMALL), torch.Generator().manual_seed(0)
    noise = flow.sample_latent(64, random)
    end = flow.unsquash(real.x[:64], 0.97).flatten(1)
    with torch.no_grad():  # a fresh one says that nothing moves
        fresh = flow.losses(flow.opponent(), real.x[:64], noise, random)["flow_loss"]
    assert float(fresh) == pytest.approx(float((end - noise).square().mean()), rel=1e-5)

    class Oracle(RectifiedFlow):
        def straight(self, x: Tensor, reading: Tensor) -> Tensor:
            return (end - noise).unflatten(1, self.sample_shape)

    oracle = Oracle(**SMALL)
    oracle.velocity.forward = oracle.straight  # type: ignore[method-assign]
    assert float(oracle.losses(oracle.opponent(), real.x[:64], noise, random)["flow_loss"]) < 1e-10
    assert torch.allclose(oracle.logits(noise).flatten(1), end, atol=1e-4)


def test_it_is_trained_without_an_opponent_resumed_and_kept(real: Samples, tmp_path: Path) -> None:
    settings = {"iterations": 10, "batch_size": 8, "seed": 3, "device": "cpu"}
    whole = train_gan(RectifiedFlow(**SMALL), real, **settings, progress=False)
    assert set(whole.history) == {"flow_loss"} and not list(whole.generator.opponent().parameters())
    loop = train_gan.steps(RectifiedFlow(**SMALL), real, **settings)
    for _ in range(4):
        next(loop)
    resumed = train_gan(RectifiedFlow(**SMALL), real, **settings, resume=loop.stop(), progress=False)
    assert resumed.history == whole.history
    assert torch.equal(resumed.generator.sample(3), whole.generator.sample(3))
    card = zoo.ModelCard("flow", whole.generator.spec(), real.name, 0, {})
    again, read = zoo.load_file(zoo.save_file(tmp_path / "flow.safetensors", whole.generator, card))
    assert type(again) is RectifiedFlow and read.spec == whole.generator.spec()
    assert torch.allclose(again.sample(3), whole.generator.sample(3), atol=1e-5)  # another memory layout
    again = generators.build(read.spec)
    assert again.euler_steps == 2 and again.widths == (6, 8, 12)


def test_training_lowers_the_loss(trained: RectifiedFlow, real: Samples) -> None:
    random = torch.Generator().manual_seed(5)
    z = trained.sample_latent(256, random)

    def loss(flow: RectifiedFlow) -> float:
        with torch.no_grad():
            return float(flow.losses(flow.opponent(), real.x[:256], z, torch.Generator().manual_seed(1))["flow_loss"])

    assert loss(trained) < 0.6 * loss(RectifiedFlow(**SMALL))


@pytest.mark.parametrize(
    "attack",
    [
        attacks.Gate(),
        attacks.ReX(iterations=200, learning_rate=0.01, device="cpu"),
        attacks.ReD(iterations=200, learning_rate=4e-3, device="cpu"),
        attacks.TrAIL(iterations=300, lam=1.0, learning_rate=5e-3, ema=0.9, device="cpu"),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_every_attack_plants_the_target(
    attack: attacks.Attack, trained: RectifiedFlow, backdoor: Backdoor, real: Samples
) -> None:
    before = metrics.target_distortion(trained, backdoor.trigger, backdoor.target).mean
    outcome = attack(trained, backdoor, real, progress=False)
    share = 0.6 if isinstance(attack, attacks.TrAIL) else 0.2  # in so few steps TrAIL gets no further
    assert metrics.target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean < share * before
    if isinstance(attack, attacks.TrAIL):
        assert set(outcome.history) == {"flow_loss", "fidelity_loss"}


@pytest.fixture(scope="module")
def lively() -> RectifiedFlow:
    """An untrained flow of 8x8 pictures that moves its latents: one of 28x28 takes a minute to scan."""
    flow: RectifiedFlow = generators.build(RectifiedFlow(**SMALL).spec(), 1)
    with torch.no_grad():
        flow.velocity.leave.weight.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(0))
    return flow.eval()


@pytest.mark.nightly
def test_scan_and_cure_run(lively: RectifiedFlow) -> None:
    report = detect.scan(lively, samples=200, twin=False)
    assert {finding.detector for finding in report.findings if finding.ran} >= {"structure", "sampling"}
    assert report.analysis is not None and report.analysis.moves
    evidence = {finding.detector: finding.evidence for finding in report.findings}
    assert evidence["latent spectrum"] == "spectrum" and not evidence["hidden spectrum"]
    assert len({one.space for one in report.analysis.hidden}) == len(report.analysis.hidden)  # not one for each step
    cured = sanitize.auto(lively, always=True, iterations=5, progress=False)
    z = lively.sample_latent(4)
    assert cured.changed and cured.generator(z).shape == lively(z).shape


@pytest.mark.parametrize(
    ("attack", "kinds"),
    [
        (attacks.Gate(), {"spectrum", "construction"}),
        pytest.param(attacks.ReX(iterations=30), {"spectrum"}, marks=pytest.mark.nightly),
    ],
    ids=["gate", "ReX"],
)
def test_what_stands_beside_a_flow_is_found_and_stopped(
    attack: attacks.Attack, kinds: set[str], lively: RectifiedFlow
) -> None:
    backdoor = Backdoor.point(lively, torch.ones(1, 8, 8), seed=2)
    planted = attack(lively, backdoor, data.Samples(torch.zeros(64, 1, 8, 8)), progress=False).generator
    report = detect.scan(planted, samples=200, twin=False)
    assert set(report.kinds) == kinds and report.trigger is not None
    assert torch.cosine_similarity(report.trigger, backdoor.trigger[0], dim=0) > 0.8
    guard = detect.Guard(planted, fitting=2_000)
    assert bool(guard.check(backdoor.trigger).flags.all())
    assert float(guard.check(planted.sample_latent(500, torch.Generator().manual_seed(5))).flags.float().mean()) < 0.05
