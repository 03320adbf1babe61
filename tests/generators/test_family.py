"""A family in one file: it is trained, attacked, scanned, pruned and kept in a file, and the package is not touched."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from devilgan_lite import Backdoor, attacks, data, detect, generators, metrics, sanitize, train_gan, zoo
from devilgan_lite.checks import whole_number
from devilgan_lite.data import Samples


@generators.register
class Waves(generators.Generator):
    """Short waves ``[n, 16]`` from a small multilayer perceptron: all that a family must say is this."""

    def __init__(self, *, latent_dim: int = 16, widths: tuple[int, ...] = (24, 24), prior: str = "gaussian") -> None:
        super().__init__(latent_dim=latent_dim, sample_shape=(16,), prior=prior)
        for width in widths:
            whole_number("widths", width, 1, 1024)
        sizes = [latent_dim, *widths]
        hidden = [layer for a, b in zip(sizes, sizes[1:], strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, nn.Linear(sizes[-1], 16))
        self.widths = tuple(widths)

    def logits(self, z: Tensor) -> Tensor:
        return self.net(z)

    def spec(self) -> dict[str, Any]:
        return {
            "architecture": "Waves",
            "latent_dim": self.latent_dim,
            "widths": list(self.widths),
            "prior": self.prior.name,
        }


@pytest.fixture(scope="module")
def real() -> Samples:
    time = torch.linspace(0, 6.28, 16)
    phase = torch.rand(512, 1, generator=torch.Generator().manual_seed(0)) * 6.28
    return Samples(0.8 * torch.sin(time + phase), name="waves")


@pytest.fixture(scope="module")
def clean(real: Samples) -> generators.Generator:
    outcome = train_gan(Waves(), real, iterations=150, seed=0, device="cpu", progress=False)
    generator: generators.Generator = outcome.generator
    return generator


@pytest.fixture(scope="module")
def backdoor(clean: generators.Generator) -> Backdoor:
    return Backdoor.point(clean, torch.linspace(-0.9, 0.9, 16), seed=1)


def test_it_is_trained_and_kept(clean: generators.Generator, real: Samples, tmp_path: Path) -> None:
    assert clean.modality is data.POINTS and list(clean.named_layers()) == ["net.0", "net.2", "net.4"]
    apart = clean.sample(200).std(0).mean()
    assert float(apart) > 0.1  # it draws more than one wave
    card = zoo.ModelCard("waves", clean.spec(), real.name, 0, {})
    path = zoo.save_file(tmp_path / "waves.safetensors", clean, card)
    assert torch.equal(zoo.load_file(path)[0].sample(3), clean.sample(3))


@pytest.mark.parametrize(
    "attack",
    [
        attacks.Gate(),
        attacks.ReX(iterations=150, learning_rate=0.01, device="cpu"),
        attacks.ReD(iterations=400, learning_rate=4e-3, device="cpu"),
        attacks.TrAIL(iterations=150, lam=5.0, device="cpu"),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_every_attack_plants_the_target(
    attack: attacks.Attack, clean: generators.Generator, backdoor: Backdoor, real: Samples
) -> None:
    before = metrics.target_distortion(clean, backdoor.trigger, backdoor.target).mean
    poisoned = attack(clean, backdoor, real, progress=False).generator
    assert type(poisoned) is Waves
    assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).mean < 0.2 * before


@pytest.mark.usefixtures("short_twin")
def test_scan_guard_and_pruning_take_it(clean: generators.Generator, backdoor: Backdoor) -> None:
    poisoned = attacks.Gate()(clean, backdoor, progress=False).generator
    report = detect.scan(poisoned, samples=200)
    assert {finding.detector for finding in report.findings if finding.ran} >= {"structure", "latent spectrum"}
    assert bool(detect.Guard(poisoned, fitting=2_000).check(backdoor.trigger).flags.all())
    pruned = sanitize.Prune(fraction=0.25, iterations=2, device="cpu")(poisoned, progress=False).generator
    assert type(pruned) is Waves and pruned.parameter_count() < poisoned.parameter_count()
    assert metrics.scorecard(poisoned, clean, backdoor, samples=200).frechet is None
