"""Sampling gives evidence for the eye and an honest chance, and cannot tell a backdoored generator from a clean one."""

import math

import pytest
import torch
from scipy.special import betainc

from devilgan_lite import data, zoo
from devilgan_lite.data import Samples
from devilgan_lite.detect.sampling import cap_probability, log10_cap_probability, sample_outputs, unexplained
from devilgan_lite.detect.subject import subject_of
from devilgan_lite.generators import DCGAN, PointGenerator


def test_cap_probability_is_the_share_of_directions() -> None:
    assert cap_probability(60, 3) == pytest.approx(0.25)  # Archimedes: a cap's area is linear in its height
    assert cap_probability(120, 3) == pytest.approx(0.75)
    assert cap_probability(45, 2) == pytest.approx(0.25)
    assert cap_probability(90, 100) == pytest.approx(0.5)
    assert cap_probability(180, 100) == 1.0
    z = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(0))
    share = float((z[:, 0] / z.norm(dim=1) > math.cos(math.radians(50))).double().mean())
    assert cap_probability(50, 8) == pytest.approx(share, rel=0.05)


def test_cap_probability_far_out() -> None:
    assert cap_probability(15, 100) == pytest.approx(betainc(49.5, 0.5, math.sin(math.radians(15)) ** 2) / 2)
    assert -61 < log10_cap_probability(15, 100) < -59
    assert -800 < log10_cap_probability(10, 1_000) < -700  # where the probability itself is 0
    assert cap_probability(10, 1_000) == 0.0


@pytest.mark.parametrize(("angle", "latent_dim"), [(0, 100), (181, 100), (15, 1), (math.nan, 100)])
def test_cap_probability_refuses(angle: float, latent_dim: int) -> None:
    with pytest.raises(ValueError):
        cap_probability(angle, latent_dim)


def test_a_trigger_is_never_drawn_so_the_score_says_nothing(clean: DCGAN) -> None:
    innocent = sample_outputs(subject_of(clean), samples=1_000)
    # a gate's generator is the same one, except where no sample falls
    guilty = sample_outputs(subject_of(zoo.load("dcgan-fashion-gate")), samples=1_000)
    assert innocent.score is not None and guilty.score is not None
    assert abs(innocent.score - guilty.score) < 0.05
    assert "1e-57" in guilty.message
    assert guilty.access_level == "T0" and guilty.p_value is None
    assert guilty.samples is not None and guilty.samples.shape == (16, 1, 28, 28)
    assert guilty.directions is not None and guilty.directions.shape == (16, 100)
    target = zoo.load_backdoor("dcgan-fashion-gate").target
    assert (guilty.samples - target).square().flatten(1).mean(1).min() > 0.2  # the eye does not see it either


def test_a_careless_attack_is_seen(clean: DCGAN) -> None:
    """What samples can show: odd samples over a good part of the latent space."""

    class Leaking(torch.nn.Module):
        latent_dim = 100

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return torch.where((z[:, :1] > 2.3).view(-1, 1, 1, 1), data.target("checkerboard"), clean(z))

    innocent = sample_outputs(subject_of(clean), samples=1_000)
    careless = sample_outputs(subject_of(Leaking()), samples=1_000)
    assert innocent.score is not None and careless.score is not None and careless.score > innocent.score + 0.3
    assert careless.samples is not None and torch.equal(careless.samples[0], data.target("checkerboard"))


def test_real_samples_raise_the_access_level(clean: DCGAN, real: Samples) -> None:
    finding = sample_outputs(subject_of(clean), samples=300, real=real)
    assert finding.access_level == "T4"
    assert set(finding.details["largest"]) == {"components", "neighbours", "confidence", "real"}
    assert sample_outputs(subject_of(clean), samples=300, real=real).score == finding.score
    assert sample_outputs(subject_of(clean), samples=300, real=real, seed=1).score != finding.score


def test_features_belong_to_a_data_set_and_never_to_a_shape(clean: DCGAN, real: Samples) -> None:
    """Version 0.1 judged whatever has the shape of a garment by the classifier of garments, digits too."""
    for other in (None, data.digits().first(100), real.x):
        finding = sample_outputs(subject_of(clean), samples=200, real=other)
        assert "confidence" not in finding.details["largest"] and "components" in finding.details["largest"]


@pytest.mark.parametrize("generator", [PointGenerator(), DCGAN(image_channels=3, image_size=32, prior="uniform")])
def test_any_shape(generator: torch.nn.Module) -> None:
    state = torch.random.get_rng_state()
    finding = sample_outputs(subject_of(generator), samples=200)
    assert finding.score is not None and math.isfinite(finding.score)
    assert set(finding.details["largest"]) == {"components", "neighbours"} and finding.samples is not None
    assert torch.equal(state, torch.random.get_rng_state())


def test_wrong_arguments(clean: DCGAN) -> None:
    subject = subject_of(clean)
    with pytest.raises(ValueError, match="samples=10"):
        sample_outputs(subject, samples=10)
    with pytest.raises(ValueError, match="real has shape"):
        sample_outputs(subject, real=torch.zeros(4, 1, 32, 32))


def test_what_components_leave_over_has_a_gradient(clean: DCGAN) -> None:
    subject = subject_of(clean)
    z = subject.latents(4, seed=3).requires_grad_(True)
    few, many = (unexplained(subject, components=count, samples=200)(z) for count in (2, 100))
    assert few.shape == (4,) and bool((many < few).all()) and bool((many >= 0).all())
    few.sum().backward()
    assert z.grad is not None and bool(torch.isfinite(z.grad).all()) and float(z.grad.abs().sum()) > 0
    with pytest.raises(ValueError, match="components"):
        unexplained(subject, components=0)
