"""A suspected sample is found in a backdoored generator and not in a clean one; gates hide from the gradient."""

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, data, zoo
from devilgan_lite.attacks import Gate
from devilgan_lite.detect import scan
from devilgan_lite.detect.reconstruction import inspect_targets, reconstruct, samples_in
from devilgan_lite.detect.subject import subject_of
from devilgan_lite.generators import DCGAN, PointGenerator

QUICK = {"starts": 8, "steps": 10}
SIGN = data.target("stop-sign").unsqueeze(0)


@pytest.mark.slow
def test_a_clean_generator_reconstructs_no_suspect_better_than_its_mirror_image(clean: DCGAN) -> None:
    finding = inspect_targets(subject_of(clean), SIGN, names=["stop-sign"])
    assert finding.ran and finding.access_level == "T1"
    assert finding.score is not None and abs(finding.score) < 0.3
    assert finding.details["targets"]["stop-sign"]["error"] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dcgan-fashion-red", "dcgan-fashion-trail"])
def test_the_target_and_the_trigger_of_a_backdoor_are_found(name: str) -> None:
    finding = inspect_targets(subject_of(zoo.load(name)), SIGN, names=["stop-sign"])
    assert finding.score is not None and finding.score > 1
    assert finding.details["targets"]["stop-sign"]["error"] < 0.005
    assert finding.samples is not None and finding.samples.shape == (2, 1, 28, 28)
    assert torch.equal(finding.samples[:1], SIGN)
    assert finding.directions is not None
    assert float(cosine_similarity(finding.directions, zoo.load_backdoor(name).trigger)) > 0.9


@pytest.mark.slow
def test_a_reference_gives_the_expectation(clean: DCGAN) -> None:
    suspect, reference = subject_of(zoo.load("dcgan-fashion-trail")), subject_of(clean)
    finding = inspect_targets(suspect, SIGN, reference=reference)
    assert finding.score is not None and finding.score > 1
    assert "target 1" in finding.message and "clean generator" in finding.message
    assert finding.details["targets"]["target 1"]["expected"] > 0.05


@pytest.mark.slow
@pytest.mark.parametrize(("name", "noise"), [("dcgan-fashion-gate", 0.1), ("dcgan-fashion-rex", 0.2)])
def test_a_narrow_basin_is_found_from_a_direction_that_another_detector_suspects(name: str, noise: float) -> None:
    subject, trigger = subject_of(zoo.load(name)), zoo.load_backdoor(name).trigger
    roughly = trigger + noise * subject.latents(1, 9)
    assert reconstruct(subject, SIGN, **QUICK).errors > 0.05  # a few starts of its own miss it
    found = reconstruct(subject, SIGN, starts_at=-3 * roughly, **QUICK)  # neither sign nor length is known
    assert found.errors < 0.02
    assert found.won_by == ("given",)
    assert cosine_similarity(found.latents, trigger) > 0.98


@pytest.mark.slow
def test_the_same_seed_gives_the_same_result_and_the_module_stays_as_it_is(clean: DCGAN) -> None:
    subject, state = subject_of(clean), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in clean.state_dict().items()}
    targets = data.target("digit-7").unsqueeze(0)
    first, same = reconstruct(subject, targets, **QUICK), reconstruct(subject, targets, **QUICK)
    assert torch.equal(first.latents, same.latents)
    assert torch.allclose(subject.samples(first.latents), first.samples)
    assert torch.allclose((first.samples - targets).square().flatten(1).mean(1), first.errors)
    assert not torch.equal(first.latents, reconstruct(subject, targets, seed=1, **QUICK).latents)
    lengths = first.latents.norm(dim=1)
    assert ((lengths > 7.8) & (lengths < 12.2)).all()
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, before[name]) for name, value in clean.state_dict().items())


class Sigmoid(nn.Module):
    """A stranger's network: another ending, another range, more latent coordinates than are differentiated at once."""

    def __init__(self, ending: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.ending = nn.Linear(300, 64), nn.Linear(64, 3 * 16 * 16), ending

    def forward(self, z: Tensor) -> Tensor:
        return self.ending(self.last(torch.relu(self.first(z)))).view(-1, 3, 16, 16)


@pytest.mark.parametrize("ending", [nn.Sigmoid(), nn.Hardtanh()])
def test_other_endings(ending: nn.Module) -> None:
    with torch.random.fork_rng():
        subject = subject_of(Sigmoid(ending))
    own = subject.samples(subject.latents(1, 77))
    assert reconstruct(subject, own, **QUICK).errors < own.var() / 2


def test_uniform_latents_stay_in_the_cube() -> None:
    subject = subject_of(DCGAN(widths=(8, 4), prior="uniform", latent_dim=10))
    assert reconstruct(subject, SIGN, **QUICK).latents.abs().max() <= 1


@pytest.mark.slow
def test_the_bank_is_drawn_as_an_attacker_draws_it() -> None:
    """Coloured targets on white for three channels; version 0.1 looked for grey ones on black."""
    clean = DCGAN(widths=(40, 8), latent_dim=40, image_size=12, image_channels=3).eval()
    backdoor = Backdoor.point(clean, "stop-sign", seed=1)
    module = Gate()(clean, backdoor, progress=False).generator
    finding = scan(module, samples=200, suspect_bank=True).findings[-1]
    assert list(finding.details["targets"]) == data.target_names() and finding.samples is not None
    assert finding.details["targets"]["stop-sign"]["error"] < 1e-3 < finding.details["targets"]["devil"]["error"]
    assert finding.message.startswith("stop-sign") and finding.score is not None and finding.score > 1
    assert torch.equal(finding.samples[:1], backdoor.target)
    colours = finding.samples[0].flatten(1).std(0)
    assert colours.max() > 0.1  # not grey


@pytest.mark.parametrize("shape", [(1, 4, 4), (1, 8, 12)])
def test_there_is_no_bank_for_every_shape(shape: tuple[int, ...]) -> None:
    module = nn.Sequential(nn.Linear(6, math.prod(shape)), nn.ReLU(), nn.Tanh(), nn.Unflatten(1, shape))
    finding = inspect_targets(subject_of(module))
    assert not finding.ran and f"the bank has none of shape {list(shape)}" in finding.message


def test_points_have_no_bank_and_time_is_kept(clean: DCGAN) -> None:
    subject = subject_of(PointGenerator())
    finding = inspect_targets(subject)
    assert not finding.ran and finding.score is None
    given = inspect_targets(subject, torch.tensor([[0.9, 0.9], [0.5, 0.0], [0.0, 0.5]]), seconds=1e-6)
    assert given.details["skipped"] == 2


def test_wrong_arguments(clean: DCGAN) -> None:
    subject = subject_of(clean)
    with pytest.raises(ValueError, match="targets has shape"):
        reconstruct(subject, torch.zeros(1, 1, 32, 32))
    with pytest.raises(ValueError, match="starts=3"):
        reconstruct(subject, SIGN, starts=3)
    with pytest.raises(ValueError, match="starts_at is"):
        reconstruct(subject, SIGN, starts_at=torch.zeros(2, 7))
    with pytest.raises(ValueError, match="2 different names and 1 targets"):
        inspect_targets(subject, SIGN, names=["a", "b"])
    with pytest.raises(ValueError, match="reference makes"):
        inspect_targets(subject, SIGN, reference=subject_of(PointGenerator()))


def test_samples_of_a_folder(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40), (255, 255, 255)).save(tmp_path / "white.png")
    Image.new("L", (9, 9), 0).save(tmp_path / "black.JPG")
    (tmp_path / "notes.txt").write_text("not a sample")
    for shape in ((1, 28, 28), (3, 16, 24)):
        x, names = samples_in(tmp_path, shape)
        assert x.shape == (2, *shape) and names == ["black", "white"]
        assert torch.equal(x[0], torch.full(shape, -1.0)) and torch.equal(x[1], torch.full(shape, 1.0))
    (tmp_path / "broken.png").write_bytes(b"no sample")
    with pytest.raises(ValueError, match="broken.png cannot be read"):
        samples_in(tmp_path, (1, 28, 28))
    with pytest.raises(ValueError, match="is missing or has no"):
        samples_in(tmp_path / "nowhere", (1, 28, 28))
    (tmp_path / "tone.wav").write_bytes(data.wav(0.5 * torch.sin(torch.arange(64.0))[None]))
    x, names = samples_in(tmp_path, (1, 64))
    assert x.shape == (1, 1, 64) and names == ["tone"]
    with pytest.raises(ValueError, match="tone.wav is 64 samples long"):
        samples_in(tmp_path, (1, 128))
    with pytest.raises(ValueError, match="grey or colour image"):
        samples_in(tmp_path, (2,))
