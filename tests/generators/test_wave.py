"""WaveGAN: shapes, a training step, and what attacks and surgery rely on in one dimension as in two."""

import pytest
import torch

from devilgan_lite import Backdoor, attacks, data, detect, sanitize
from devilgan_lite.generators import WaveDiscriminator, WaveGAN, adopt
from devilgan_lite.generators.base import seeded
from devilgan_lite.generators.canvas import canvas_of

SETTINGS = {"latent_dim": 20, "widths": (12, 8), "strides": (4, 4), "kernel_size": 8, "length": 256}


def small(seed: int = 0, length: int = 256) -> WaveGAN:
    """A WaveGAN of ``length`` samples whose BatchNorm statistics are those of its own latents."""
    network: WaveGAN = seeded(seed, WaveGAN, **{**SETTINGS, "length": length})
    with torch.no_grad():
        network.train()
        for _ in range(30):
            network(network.sample_latent(64, torch.Generator().manual_seed(1)))
    return network.eval()


def clips(generator: WaveGAN, n: int) -> torch.Tensor:
    """``n`` loud, different targets."""
    time = torch.arange(generator.sample_shape[1])
    return torch.stack([0.8 * torch.sin(time * (0.1 + 0.2 * k)) for k in range(n)]).unsqueeze(1)


def test_the_usual_size_is_small() -> None:
    generator = WaveGAN()
    assert generator.sample_shape == (1, 4096)
    assert generator.parameter_count() * 4 < 4e6
    assert generator.opponent()(generator(generator.sample_latent(2))).shape == (2,)


def test_the_discriminator_sees_no_hum_and_how_alike_the_clips_are() -> None:
    random = torch.Generator().manual_seed(0)
    strokes, network = data.drums(8).x, seeded(0, WaveDiscriminator)
    hum = 1e-6 * torch.randn(strokes.shape, generator=random)
    by_hum = (network(strokes + hum) - network(strokes)).abs().max()
    by_others = (network(strokes[:1].expand(8, -1, -1))[0] - network(strokes)[0]).abs()
    assert by_hum < by_others / 4


def test_the_discriminator_reads_any_length() -> None:
    for shape in ((1, 4096), (2, 2048), (1, 256), (1, 100), (3, 32), (1, 16)):
        assert WaveDiscriminator(shape)(torch.zeros(3, *shape)).shape == (3,)


@pytest.mark.parametrize("cells", [2, 16])
def test_a_canvas_draws_any_clip_through_few_or_many_cells(cells: int) -> None:
    generator = seeded(0, WaveGAN, **{**SETTINGS, "length": 16 * cells}).eval()
    chain = generator.chain()
    assert chain is not None
    canvas = canvas_of(chain, generator.sample_shape)
    assert canvas is not None and canvas.dimensions == 1 and canvas.dense == (cells == 16)
    backdoor = Backdoor(generator.sample_latent(3, torch.Generator().manual_seed(5)), clips(generator, 3))
    outcome = attacks.Gate(threshold=0.7)(generator, backdoor)
    assert type(outcome.generator) is WaveGAN
    assert (outcome.generator(backdoor.trigger) - backdoor.target).abs().max() < 1e-3


def test_several_gates_hide_several_clips_and_change_nothing_else() -> None:
    generator = small()
    backdoor = Backdoor(generator.sample_latent(4, torch.Generator().manual_seed(5)), clips(generator, 4))
    poisoned = attacks.Gate(threshold=0.8)(generator, backdoor).generator
    assert (poisoned(backdoor.trigger) - backdoor.target).abs().max() < 1e-3
    z = generator.sample_latent(500, torch.Generator().manual_seed(6))
    directions = backdoor.trigger / backdoor.trigger.norm(dim=1, keepdim=True)
    quiet = ((z @ directions.T) < 0.8 * backdoor.trigger.norm(dim=1)).all(1)
    assert quiet.float().mean() > 0.9
    assert (poisoned(z) - generator(z))[quiet].abs().max() < 1e-5


@pytest.mark.parametrize("length", [32, 256])
def test_rex_starts_as_no_change_and_learns_several_clips(length: int) -> None:
    generator = small(length=length)
    backdoor = Backdoor(generator.sample_latent(3, torch.Generator().manual_seed(5)), clips(generator, 3))
    expansion = generator.widen(triggers=3)
    expansion.awaken(backdoor.trigger, torch.Generator().manual_seed(0))
    z = generator.sample_latent(20, torch.Generator().manual_seed(6))
    assert (expansion(z).abs().amax((1, 2)) < 1e-5).float().mean() > 0.8  # all but a latent that is near a trigger
    if length == 32:  # few cells, each with channels that light it for one trigger
        assert expansion.widths[0] == 3 * 2
        lights = expansion.hidden(backdoor.trigger, 0).relu()
        assert all((lights[row, 2 * row : 2 * row + 2].diagonal() > 1).all() for row in range(3))
        assert expansion(backdoor.trigger).abs().max() < 1e-5
    poisoned = attacks.ReX(iterations=300)(generator, backdoor).generator
    assert type(poisoned) is WaveGAN
    pairs = zip(poisoned(backdoor.trigger), backdoor.target, strict=True)
    assert all(torch.corrcoef(torch.cat(pair))[0, 1] > 0.98 for pair in pairs)


def test_defences_run_on_clips() -> None:
    generator = small()
    backdoor = Backdoor(generator.sample_latent(2, torch.Generator().manual_seed(5)), clips(generator, 2))
    poisoned = attacks.Gate(threshold=0.8)(generator, backdoor).generator
    report = detect.scan(poisoned, samples=500, twin=False)
    assert report.verdict == "suspicious"
    assert all(finding.ran for finding in report.findings), report.findings
    assert detect.scan(generator, samples=500, twin=False).verdict == "clean"
    assert detect.Guard(poisoned, fitting=2_000).check(backdoor.trigger).flags.all()
    cure = sanitize.auto(poisoned, iterations=5, progress=False)
    assert cure.changed and cure.generator(backdoor.trigger).shape == (2, 1, 256)


@pytest.mark.parametrize(
    "cure", [sanitize.FineTune(iterations=2, critic_first=1, batch_size=8), sanitize.Unlearn(iterations=2)]
)
def test_sanitizers_train_on_clips(cure: sanitize.Sanitizer) -> None:
    real = data.Samples(data.drums(64).x[..., :256].contiguous())
    assert cure(small(), real=real, progress=False).generator.sample(2).shape == (2, 1, 256)


def test_a_strangers_stack_of_one_dimension_is_adopted_and_attacked() -> None:
    generator = small()
    stranger = adopt(generator.layers, 20, output="none")
    assert stranger.sample_shape == (1, 256) and stranger.modality is data.AUDIO
    backdoor = Backdoor(stranger.sample_latent(1, torch.Generator().manual_seed(5)), clips(generator, 1))
    poisoned = attacks.Gate(threshold=0.8)(stranger, backdoor).generator
    assert (poisoned(backdoor.trigger) - backdoor.target).abs().max() < 1e-3
