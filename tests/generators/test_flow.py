"""The rectified flow: its steps, its loss, its training without an opponent, and what a scan says of it."""

from typing import Any

import pytest
import torch
from torch import Tensor

from devilgan_lite import Backdoor, attacks, detect, generators, sanitize, train_gan
from devilgan_lite.data import Samples
from devilgan_lite.generators import RectifiedFlow
from devilgan_lite.generators.flow.layers import clock

SMALL = {"widths": (6, 8, 12), "euler_steps": 2, "image_size": 8}


@pytest.fixture(scope="module")
def real(digits: Samples) -> Samples:
    return digits.first(512)


@pytest.fixture(scope="module")
def lively() -> RectifiedFlow:
    """An untrained flow of 8x8 pictures that moves its latents: one of 28x28 takes a minute to scan."""
    flow: RectifiedFlow = generators.build(RectifiedFlow(**SMALL).spec(), 1)
    with torch.no_grad():
        flow.velocity.leave.weight.normal_(0.0, 0.3, generator=torch.Generator().manual_seed(0))
    return flow.eval()


def test_a_fresh_flow_returns_its_noise_and_drawing_takes_as_many_euler_steps_as_it_says(lively: RectifiedFlow) -> None:
    flow = RectifiedFlow(**{**SMALL, "image_channels": 3, "image_size": 12}).eval()
    z = flow.sample_latent(4, torch.Generator().manual_seed(0))
    assert z.shape == (4, 432) and torch.equal(flow.logits(z), z.unflatten(1, (3, 12, 12)))
    z = lively.sample_latent(3, torch.Generator().manual_seed(0))
    x = z.unflatten(1, (1, 8, 8))
    with torch.no_grad():
        for time, length in ((0.0, 0.25), (0.25, 0.75)):
            x = x + length * lively.velocity(x, clock(torch.tensor([time])))
        assert torch.allclose(lively.logits(z), x, atol=1e-5)
        assert not torch.allclose(lively.logits(z), z.unflatten(1, (1, 8, 8)), atol=0.1)


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


def test_it_is_trained_without_an_opponent_and_resumed(real: Samples) -> None:
    settings = {"iterations": 60, "seed": 3, "device": "cpu"}
    whole = train_gan(RectifiedFlow(**SMALL), real, **settings, progress=False)
    assert set(whole.history) == {"flow_loss"} and not list(whole.generator.opponent().parameters())
    losses = whole.history["flow_loss"]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    loop = train_gan.steps(RectifiedFlow(**SMALL), real, **settings)
    for _ in range(4):
        next(loop)
    resumed = train_gan(RectifiedFlow(**SMALL), real, **settings, resume=loop.stop(), progress=False)
    assert resumed.history == whole.history and torch.equal(resumed.generator.sample(3), whole.generator.sample(3))


@pytest.fixture(scope="module")
def backdoor(lively: RectifiedFlow) -> Backdoor:
    return Backdoor.point(lively, torch.ones(1, 8, 8), seed=2)


@pytest.fixture(scope="module")
def planted(lively: RectifiedFlow, backdoor: Backdoor) -> generators.Generator:
    found: generators.Generator = attacks.Gate()(lively, backdoor, progress=False).generator
    return found


def test_a_gate_beside_a_flow_is_found(planted: generators.Generator, backdoor: Backdoor) -> None:
    report = detect.scan(planted, samples=200, twin=False)
    assert set(report.kinds) == {"spectrum", "construction"} and report.trigger is not None
    assert torch.cosine_similarity(report.trigger, backdoor.trigger[0], dim=0) > 0.8
    assert report.analysis is not None and report.analysis.moves
    assert len({one.space for one in report.analysis.hidden}) == len(report.analysis.hidden)  # not one for each step


def test_it_is_stopped(planted: generators.Generator, backdoor: Backdoor, monkeypatch: Any) -> None:
    monkeypatch.setattr("devilgan_lite.detect.usual.STEPS", 300)
    guard = detect.Guard(planted, fitting=2_000)
    assert bool(guard.check(backdoor.trigger).flags.all())
    assert float(guard.check(planted.sample_latent(500, torch.Generator().manual_seed(5))).flags.float().mean()) < 0.05


@pytest.mark.nightly
def test_it_is_cured(planted: generators.Generator) -> None:
    cured = sanitize.auto(planted, iterations=5, progress=False)
    assert cured.changed and cured.generator(planted.sample_latent(4)).shape == (4, 1, 8, 8)
