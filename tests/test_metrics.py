"""Every measure against an independent computation of the same thing."""

import json
import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from devilgan_lite import Backdoor, attacks, data, metrics, scorecard
from devilgan_lite.data import Samples
from devilgan_lite.features import feature_card, features_and_classes
from devilgan_lite.generators import DCGAN, PointGenerator


def features(n: int, seed: int, dimension: int = 12) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(dimension, dimension, generator=random, dtype=torch.float64)
    return torch.randn(n, dimension, generator=random, dtype=torch.float64) @ mix + seed


@pytest.mark.parametrize("n", [400, 8], ids=["full rank", "singular covariance"])
def test_frechet_distance_equals_scipy(n: int) -> None:
    a, b = features(n, 0), features(n + 1, 1)
    covariance_a, covariance_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b).real
    gap = (a.mean(0) - b.mean(0)).numpy()
    expected = gap @ gap + np.trace(covariance_a + covariance_b - 2 * root)
    assert metrics.frechet_distance(a, b) == pytest.approx(expected, rel=1e-5)


def test_frechet_distance_equals_torchmetrics() -> None:
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = features(300, 0), features(200, 1)
    expected = fid._compute_fid(a.mean(0), torch.cov(a.T), b.mean(0), torch.cov(b.T))
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)


def test_frechet_distance_of_equal_and_of_shifted_sets() -> None:
    a = features(300, 0)
    assert abs(metrics.frechet_distance(a, a)) < 1e-6
    assert metrics.frechet_distance(a, a + 2.0) == pytest.approx(4.0 * 12)


def test_kernel_distance_equals_a_naive_loop() -> None:
    a, b = features(15, 0, 4), features(11, 1, 4)

    def kernel(p: Tensor, q: Tensor) -> float:
        return float((p @ q / 4 + 1) ** 3)

    within_a = sum(kernel(a[i], a[j]) for i in range(15) for j in range(15) if i != j) / (15 * 14)
    within_b = sum(kernel(b[i], b[j]) for i in range(11) for j in range(11) if i != j) / (11 * 10)
    between = sum(kernel(p, q) for p in a for q in b) / (15 * 11)
    assert metrics.kernel_distance(a, b) == pytest.approx(within_a + within_b - 2 * between)


def test_precision_recall_and_coverage_equal_a_naive_loop() -> None:
    real, fake, k = features(40, 0, 2), features(30, 0, 2) + 1.0, 3

    def inside(centres: Tensor, points: Tensor) -> list[list[bool]]:
        table = []
        for centre in centres:
            radius = sorted(math.dist(centre, other) for other in centres)[k]  # the 0-th is the centre itself
            table.append([math.dist(centre, point) <= radius for point in points])
        return table

    around_real, around_fake = inside(real, fake), inside(fake, real)
    scores = metrics.neighbourhood_scores(real, fake, k)
    assert scores["precision"] == pytest.approx(sum(any(column) for column in zip(*around_real, strict=True)) / 30)
    assert scores["recall"] == pytest.approx(sum(any(column) for column in zip(*around_fake, strict=True)) / 40)
    assert scores["coverage"] == pytest.approx(sum(any(row) for row in around_real) / 40)
    assert 0 < scores["precision"] < 1


def test_distortions_equal_their_definitions(clean: DCGAN, digit: Backdoor) -> None:
    other = clean.clone()
    with torch.no_grad():
        other.layers.get_submodule("dense").weight.mul_(1.1)
        z = clean.sample_latent(60, torch.Generator().manual_seed(0))
        tardis = (clean(digit.trigger) - digit.target).square().sum()
        expdis = (other(z) - clean(z)).square().sum() / (60 * 784)
    assert metrics.target_distortion(clean, digit.trigger, digit.target).sum == pytest.approx(float(tardis), rel=1e-5)
    assert metrics.expected_distortion(other, clean, z).mean == pytest.approx(float(expdis), rel=1e-5)
    assert metrics.expected_distortion(clean, clean, z).mean == 0


def test_target_distortion_is_a_mean_over_pairs_of_a_sum_over_elements(clean: DCGAN) -> None:
    three = Backdoor.points(clean, ["digit-7", "devil", "letter-A"])
    each = [metrics.target_distortion(clean, three.trigger[i : i + 1], three.target[i : i + 1]).sum for i in range(3)]
    assert metrics.target_distortion(clean, three.trigger, three.target).sum == pytest.approx(sum(each) / 3, rel=1e-5)


def test_the_feature_network_classifies_samples() -> None:
    samples = data.fashion_mnist().first(500)
    found, classes = features_and_classes(samples.x)
    assert found.shape == (500, 64)
    assert (found >= 0).all()
    assert (classes == samples.labels).double().mean() > 0.85
    assert feature_card()["test_accuracy"] > 0.85
    assert torch.allclose(features_and_classes(samples.x, batch_size=33)[0], found, atol=1e-4)


def test_the_scorecard_of_a_generator_against_itself(clean: DCGAN, digit: Backdoor, real: Samples) -> None:
    card = scorecard(clean, clean, digit, real, samples=500)
    assert card.expdis_mean == card.expdis_sum == card.frechet_change == 0
    assert card.tardis_sum == pytest.approx(card.tardis_mean * 784)
    assert card.frechet == card.frechet_clean
    assert card.class_shares is not None
    assert sum(card.class_shares.values()) == pytest.approx(1)
    assert card.smallest_class_share == min(card.class_shares.values())
    assert json.loads(card.to_json())["tardis_sum"] == card.tardis_sum
    assert "tardis_sum" in str(card)
    assert card._repr_html_().startswith("<table>")


def test_the_scorecard_sees_an_attack(clean: DCGAN, digit: Backdoor) -> None:
    outcome = attacks.ClosedForm()(clean, digit, progress=False)
    card = scorecard(outcome.generator, clean, digit, samples=200)
    assert card.tardis_sum < 0.1 * metrics.target_distortion(clean, digit.trigger, digit.target).sum
    assert card.expdis_sum == pytest.approx(784 * card.expdis_mean)
    assert card.expdis_mean > 0
    assert card.frechet is None
    assert card.features == "none"


def test_the_scorecard_of_points_has_no_sample_figures(clean_point: PointGenerator) -> None:
    backdoor = Backdoor(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, 0.5]]))
    card = scorecard(clean_point, clean_point, backdoor, data.ring(200), samples=100)
    assert card.tardis_sum == pytest.approx(2 * card.tardis_mean)
    assert card.coverage is None


def test_samples_are_nearer_to_samples_than_noise_is(clean: DCGAN, real: Samples) -> None:
    ours = metrics.frechet_to(clean, real, samples=500)
    noise = metrics.frechet_to(DCGAN(widths=(4, 4)), real, samples=500)
    assert 0 < ours < noise


def test_a_distortion_is_averaged_over_pairs_of_unequal_size() -> None:
    found = metrics.Distortion.between(torch.tensor([[0.5, -0.5, 1.0], [0.0, 0.2, 0.1]]), torch.zeros(2, 3))
    assert found.sum == pytest.approx((1.5 + 0.05) / 2) and found.mean == pytest.approx((1.5 + 0.05) / 6)


def test_a_basin_reaches_to_where_the_target_ends() -> None:
    """The target within 30 degrees of the trigger, and noise elsewhere."""
    trigger, target = torch.full((1, 8), 1.0), torch.full((1, 2), 0.9)

    class Cone(PointGenerator):
        def logits(self, z: Tensor) -> Tensor:
            near = torch.nn.functional.cosine_similarity(z, trigger) > math.cos(math.radians(29.5))
            return torch.where(near[:, None], torch.atanh(target), -z[:, :2])

    degrees = metrics.basin(Cone(latent_dim=8), Backdoor(trigger, target), directions=5)
    assert degrees == [30.0] * 5
