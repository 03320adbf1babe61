"""With a clean reference, a retrained copy gives itself away; two trainings from scratch cannot be compared."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from devilgan_lite import zoo
from devilgan_lite.detect import Subject, subject_of
from devilgan_lite.detect.reference import COPY, compare
from devilgan_lite.generators import DCGAN


@pytest.fixture(scope="module")
def reference() -> Subject:
    return subject_of(zoo.load("dcgan-fashion"))


@pytest.mark.parametrize(("name", "least"), [("red", 0.9), ("rex", 0.9), ("gate", 0.99)])
def test_what_was_added_to_a_copy_points_to_the_trigger(name: str, least: float, reference: Subject) -> None:
    model = f"dcgan-fashion-{name}"
    subject = subject_of(zoo.load(model))
    finding = compare(subject, reference)
    assert finding.access_level == "T3" and finding.detector == "reference" and finding.ran
    assert finding.details["apart"] < COPY and "a copy of the reference" in finding.message
    assert finding.score is not None and 0.2 < finding.score <= 1
    assert finding.directions is not None and finding.samples is not None
    assert float(cosine_similarity(finding.directions, zoo.load_backdoor(model).trigger)) > least
    both = torch.cat([finding.directions, -finding.directions]) * subject.radius
    torch.testing.assert_close(finding.samples, subject.samples(both), atol=1e-3, rtol=0.0)


def test_the_same_model_has_no_difference(reference: Subject) -> None:
    finding = compare(reference, reference, samples=50)
    assert finding.score == 0.0 and finding.details["apart"] == 0.0


def test_a_change_in_every_direction_is_not_one_direction(reference: Subject) -> None:
    """A benign copy, trained on a little: noise on all weights."""
    network = zoo.load("dcgan-fashion")
    weight: Tensor = network.layers.dense.weight
    with torch.no_grad():
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        weight.add_(0.1 * float(weight.std()) * noise)
    finding = compare(subject_of(network), reference, samples=100)
    assert finding.score is not None and finding.score < 0.1


def test_another_training_is_not_compared(reference: Subject) -> None:
    finding = compare(subject_of(zoo.load("dcgan-fashion-trail")), reference)
    assert finding.score is None and finding.directions is None and finding.ran
    assert "two trainings" in finding.message and finding.details["apart"] > COPY


def test_the_same_seed_gives_the_same_finding(reference: Subject) -> None:
    subject = subject_of(zoo.load("dcgan-fashion-gate"))
    first, same = (compare(subject, reference, samples=50, seed=2) for _ in range(2))
    assert (first.score, first.details) == (same.score, same.details)


@pytest.mark.parametrize("settings", [{"latent_dim": 50}, {"image_size": 32}, {"image_channels": 3}])
def test_another_shape_is_refused(settings: dict[str, int], reference: Subject) -> None:
    other = subject_of(DCGAN(widths=(4, 2), **settings))
    with pytest.raises(ValueError, match="they must be equal"):
        compare(other, reference)
