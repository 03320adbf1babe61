"""What samples alone, suspected targets and a clean reference can show: sampling, reconstruction, comparison."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from scipy.special import betainc
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import data, zoo
from devilgan_lite.data import Samples
from devilgan_lite.detect import scan
from devilgan_lite.detect.reconstruction import inspect_targets, reconstruct, samples_in
from devilgan_lite.detect.reference import COPY, compare
from devilgan_lite.detect.sampling import cap_probability, log10_cap_probability, sample_outputs, unexplained
from devilgan_lite.generators import DCGAN, PointGenerator, adopt

QUICK = {"starts": 8, "steps": 10}
SIGN = data.target("stop-sign").unsqueeze(0)


def test_cap_probability_is_the_share_of_directions(refuses: Any) -> None:
    assert cap_probability(60, 3) == pytest.approx(0.25)  # Archimedes: a cap's area is linear in its height
    assert cap_probability(120, 3) == pytest.approx(0.75) and cap_probability(45, 2) == pytest.approx(0.25)
    assert cap_probability(90, 100) == pytest.approx(0.5) and cap_probability(180, 100) == 1.0
    z = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(0))
    share = float((z[:, 0] / z.norm(dim=1) > math.cos(math.radians(50))).double().mean())
    assert cap_probability(50, 8) == pytest.approx(share, rel=0.05)
    assert cap_probability(15, 100) == pytest.approx(betainc(49.5, 0.5, math.sin(math.radians(15)) ** 2) / 2)
    assert -61 < log10_cap_probability(15, 100) < -59
    assert -800 < log10_cap_probability(10, 1_000) < -700  # where the probability itself is 0
    assert cap_probability(10, 1_000) == 0.0
    for angle, latent_dim, name in ((0, 100, "angle"), (181, 100, "angle"), (math.nan, 100, "angle"), (15, 1, "dim")):
        refuses(lambda angle=angle, d=latent_dim: cap_probability(angle, d), name)


def test_a_trigger_is_never_drawn_so_the_score_says_nothing(clean: DCGAN) -> None:
    innocent = sample_outputs(adopt(clean), samples=1_000)
    # a gate's generator is the same one, except where no sample falls
    guilty = sample_outputs(adopt(zoo.load("dcgan-fashion-gate")), samples=1_000)
    assert abs(innocent.score - guilty.score) < 0.05
    assert guilty.score == pytest.approx(max(guilty.details["largest"].values()))
    assert "1e-57" in guilty.message and guilty.access_level == "T0" and guilty.evidence == ""
    assert guilty.samples.shape == (16, 1, 28, 28) and guilty.directions.shape == (16, 100)
    target = zoo.load_backdoor("dcgan-fashion-gate").target
    assert (guilty.samples - target).square().flatten(1).mean(1).min() > 0.2  # the eye does not see it either

    class Leaking(nn.Module):  # what samples can show: odd ones over a good part of the latent space
        latent_dim = 100

        def forward(self, z: Tensor) -> Tensor:
            return torch.where((z[:, :1] > 2.3).view(-1, 1, 1, 1), data.target("checkerboard"), clean(z))

    careless = sample_outputs(adopt(Leaking()), samples=1_000)
    assert careless.score > innocent.score + 0.3 and torch.equal(careless.samples[0], data.target("checkerboard"))


def test_real_samples_raise_the_access_level_and_bring_their_own_features(clean: DCGAN, real: Samples) -> None:
    subject = adopt(clean)
    first, same, other = (sample_outputs(subject, samples=300, real=real, seed=seed) for seed in (0, 0, 1))
    assert first.access_level == "T4" and first.score == same.score != other.score
    assert set(first.details["largest"]) == {"components", "neighbours", "confidence", "real"}
    for without in (None, data.digits().first(100), real.x):  # features belong to a data set and never to a shape
        largest = sample_outputs(subject, samples=200, real=without).details["largest"]
        assert set(largest) - {"real"} == {"components", "neighbours"} and ("real" in largest) == (without is not None)
    large = DCGAN(image_channels=3, image_size=32, prior="uniform")
    assert math.isfinite(sample_outputs(adopt(large), samples=200).score)


def test_what_components_leave_over_has_a_gradient(clean: DCGAN) -> None:
    subject = adopt(clean)
    z = subject.ordinary(4, seed=3).requires_grad_(True)
    few, many = (unexplained(subject, components=count, samples=200)(z) for count in (2, 100))
    assert few.shape == (4,) and bool((many < few).all()) and bool((many >= 0).all())
    few.sum().backward()
    assert bool(torch.isfinite(z.grad).all()) and float(z.grad.abs().sum()) > 0


def test_a_suspected_target_is_found_in_a_backdoored_generator_and_not_in_a_clean_one(clean: DCGAN) -> None:
    """A clean generator reconstructs no suspect better than its mirror image."""
    finding = inspect_targets(adopt(clean), SIGN, names=["stop-sign"])
    assert finding.ran and finding.access_level == "T1" and abs(finding.score) < 0.3
    assert finding.details["targets"]["stop-sign"]["error"] > 0.05
    finding = inspect_targets(adopt(zoo.load("dcgan-fashion-red")), SIGN, names=["stop-sign"])
    row = finding.details["targets"]["stop-sign"]
    assert finding.score > 1 and row["error"] < 0.005
    assert finding.score == pytest.approx(math.log10(row["expected"] / row["error"]))
    assert finding.samples.shape == (2, 1, 28, 28) and torch.equal(finding.samples[:1], SIGN)
    assert float(cosine_similarity(finding.directions, zoo.load_backdoor("dcgan-fashion-red").trigger)) > 0.9


def test_a_narrow_basin_is_found_from_a_direction_that_another_detector_suspects() -> None:
    subject, trigger = adopt(zoo.load("dcgan-fashion-gate")), zoo.load_backdoor("dcgan-fashion-gate").trigger
    roughly = trigger + 0.1 * subject.ordinary(1, 9)
    assert reconstruct(subject, SIGN, **QUICK).errors > 0.05  # a few starts of its own miss it
    found = reconstruct(subject, SIGN, starts_at=-3 * roughly, **QUICK)  # neither sign nor length is known
    assert found.errors < 0.02 and found.won_by == ("given",) and cosine_similarity(found.latents, trigger) > 0.98


def test_a_reconstruction_repeats_and_says_what_it_measured(tiny: DCGAN, digits: Samples) -> None:
    subject, targets = adopt(tiny), digits.x[:2]
    first, same, other = (reconstruct(subject, targets, seed=seed, **QUICK) for seed in (0, 0, 1))
    assert torch.equal(first.latents, same.latents) and not torch.equal(first.latents, other.latents)
    torch.testing.assert_close(subject.scaled_samples(first.latents), first.samples)
    torch.testing.assert_close((first.samples - targets).square().flatten(1).mean(1), first.errors)
    ordinary = (subject.scaled_samples(subject.ordinary(1_000)) - targets[:1]).square().flatten(1).mean(1)
    assert first.errors[0] < ordinary.min()
    lengths = first.latents.norm(dim=1) / subject.prior.length
    assert ((lengths > 0.3) & (lengths < 1.7)).all()
    uniform = adopt(DCGAN(widths=(8, 4), prior="uniform", latent_dim=10))
    assert reconstruct(uniform, SIGN, **QUICK).latents.abs().max() <= 1  # stays in the cube


class Ending(nn.Module):
    """A stranger's network: another ending, another range, more latent coordinates than are differentiated at once."""

    def __init__(self, ending: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.ending = nn.Linear(300, 64), nn.Linear(64, 3 * 16 * 16), ending

    def forward(self, z: Tensor) -> Tensor:
        return self.ending(self.last(torch.relu(self.first(z)))).view(-1, 3, 16, 16)


def test_other_endings() -> None:
    for ending in (nn.Sigmoid(), nn.Hardtanh()):
        with torch.random.fork_rng():
            subject = adopt(Ending(ending))
        own = subject.scaled_samples(subject.ordinary(1, 77))
        assert reconstruct(subject, own, **QUICK).errors < own.var() / 2


def test_where_lu_fails_another_solver_finds_the_same(tiny: DCGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    subject = adopt(tiny)
    own = subject.scaled_samples(subject.ordinary(1, 77))
    usual = reconstruct(subject, own, **QUICK)

    def broken(*matrices: Tensor) -> Tensor:
        raise RuntimeError("Pivots given to lu_solve must all be greater or equal to 1.")

    monkeypatch.setattr(torch.linalg, "solve", broken)
    assert usual.errors < own.var() / 2 and reconstruct(subject, own, **QUICK).errors < own.var() / 2


def test_there_is_no_bank_for_every_shape_and_time_is_kept() -> None:
    module = nn.Sequential(nn.Linear(6, 96), nn.ReLU(), nn.Tanh(), nn.Unflatten(1, (1, 8, 12)))
    finding = inspect_targets(adopt(module))
    assert not finding.ran and "[1, 8, 12]" in finding.message
    points = adopt(PointGenerator())
    assert not inspect_targets(points).ran
    given = inspect_targets(points, torch.tensor([[0.9, 0.9], [0.5, 0.0], [0.0, 0.5]]), seconds=1e-6)
    assert given.details["skipped"] == 2


def test_the_bank_has_every_name_as_it_is_planted(monkeypatch: pytest.MonkeyPatch) -> None:
    still = SimpleNamespace(perf_counter=lambda: 0.0)  # a busy machine takes longer than such a search has time
    monkeypatch.setattr("devilgan_lite.detect.reconstruction.time", still)
    monkeypatch.setattr("devilgan_lite.detect.reconstruction.STARTS", 4)
    monkeypatch.setattr("devilgan_lite.detect.reconstruction.STEPS", 10)
    coloured = adopt(DCGAN(widths=(4, 2), latent_dim=12, image_size=12, image_channels=3).eval())
    finding = scan(coloured, samples=200, access="samples", suspect_bank=True).findings[-1]
    assert [*finding.details["targets"]] == data.target_names()
    first = max(finding.details["targets"], key=lambda name: finding.details["targets"][name]["score"])
    assert torch.equal(finding.samples[0], coloured.modality.target(first, coloured.sample_shape))


def test_samples_of_a_folder(tmp_path: Path, refuses: Any) -> None:
    Image.new("RGB", (50, 40), (255, 255, 255)).save(tmp_path / "white.png")
    Image.new("L", (9, 9), 0).save(tmp_path / "black.JPG")
    (tmp_path / "notes.txt").write_text("not a sample")
    x, names = samples_in(tmp_path, (3, 16, 24))
    assert x.shape == (2, 3, 16, 24) and names == ["black", "white"]
    assert torch.equal(x[0], torch.full((3, 16, 24), -1.0)) and torch.equal(x[1], torch.full((3, 16, 24), 1.0))
    (tmp_path / "tone.wav").write_bytes(data.wav(0.5 * torch.sin(torch.arange(64.0))[None]))
    x, names = samples_in(tmp_path, (1, 64))
    assert x.shape == (1, 1, 64) and names == ["tone"]
    (tmp_path / "broken.png").write_bytes(b"no sample")
    for folder, shape, said in (
        (tmp_path, (1, 28, 28), "broken.png"),
        (tmp_path / "nowhere", (1, 28, 28), "nowhere"),
        (tmp_path, (1, 128), "tone.wav"),
        (tmp_path, (2,), "shape"),
    ):
        refuses(lambda folder=folder, shape=shape: samples_in(folder, shape), said)


def test_what_was_added_to_a_copy_of_a_reference_points_to_the_trigger(clean: DCGAN) -> None:
    reference = adopt(clean)
    for name, least in (("red", 0.9), ("gate", 0.99)):
        subject = adopt(zoo.load(f"dcgan-fashion-{name}"))
        finding = compare(subject, reference, samples=300)
        assert finding.access_level == "T3" and finding.detector == "reference" and finding.ran
        assert finding.details["apart"] < COPY == 0.05 and 0.2 < finding.score <= 1
        trigger = zoo.load_backdoor(f"dcgan-fashion-{name}").trigger
        assert float(cosine_similarity(finding.directions, trigger)) > least
        both = torch.cat([finding.directions, -finding.directions]) * subject.prior.length
        torch.testing.assert_close(finding.samples, subject.scaled_samples(both), atol=1e-3, rtol=0.0)
    finding = compare(reference, reference, samples=50)
    assert finding.score == finding.details["apart"] == 0.0


def test_two_trainings_are_not_compared_and_a_change_in_every_direction_is_not_one(clean: DCGAN, refuses: Any) -> None:
    reference = adopt(clean)
    finding = compare(adopt(zoo.load("dcgan-fashion-trail")), reference)
    assert finding.score is None and finding.directions is None and finding.ran and finding.details["apart"] > COPY
    network = zoo.load("dcgan-fashion")  # a benign copy, trained on a little: noise on all weights
    weight: Tensor = network.layers.dense.weight
    with torch.no_grad():
        noise = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
        weight.add_(0.1 * float(weight.std()) * noise)
    finding = compare(adopt(network), reference, samples=100)
    assert finding.score < 0.1
    for settings in ({"latent_dim": 50}, {"image_size": 32}, {"image_channels": 3}):
        refuses(lambda s=settings: compare(adopt(DCGAN(widths=(4, 2), **s)), reference), "reference")


def test_what_does_not_fit_is_refused(refuses: Any, clean: DCGAN) -> None:
    subject = adopt(clean)
    for call, name in (
        (lambda: sample_outputs(subject, samples=10), "samples"),
        (lambda: sample_outputs(subject, real=torch.zeros(4, 1, 32, 32)), "real"),
        (lambda: unexplained(subject, components=0), "components"),
        (lambda: reconstruct(subject, torch.zeros(1, 1, 32, 32)), "targets"),
        (lambda: reconstruct(subject, SIGN, starts=3), "starts"),
        (lambda: reconstruct(subject, SIGN, starts_at=torch.zeros(2, 7)), "starts_at"),
        (lambda: inspect_targets(subject, SIGN, names=["a", "b"]), "names"),
        (lambda: inspect_targets(subject, SIGN, reference=adopt(PointGenerator())), "reference"),
    ):
        refuses(call, name)
