"""Styles: the vector that layers share, a row planted in all of its readers, and the way back to the latent."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import zoo
from devilgan_lite.attacks.style_rex import linear_residual
from devilgan_lite.detect import analyse_weights, scan
from devilgan_lite.detect.search import locate_trigger
from devilgan_lite.detect.spectrum import sharing
from devilgan_lite.detect.styles import AGREE, Styles, inspect_styles, read_style, style_trigger, styles_of
from devilgan_lite.generators import DCGAN, StyleGAN, adopt, build, evaluate
from devilgan_lite.generators.stylegan import fold_styles
from devilgan_lite.sanitize import auto, project_styles

D = 16


@pytest.fixture(scope="module")
def clean() -> StyleGAN:
    shape = {"latent_dim": D, "mapping_widths": (D, D), "style_dim": D, "widths": (16, 12, 8)}
    return build(StyleGAN(**shape).spec(), seed=3).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def trigger(clean: StyleGAN) -> Tensor:
    return clean.sample_latent(1, torch.Generator().manual_seed(5))


@pytest.fixture(scope="module")
def planted(clean: StyleGAN, trigger: Tensor) -> StyleGAN:
    """The expansion of the paper, to some styles far from all others."""
    shift = 30 * torch.randn(clean.style_inputs, clean.style_dim, generator=torch.Generator().manual_seed(7))
    return fold_styles(clean, residual=linear_residual(clean, trigger, shift, 0.1, latents=5_000)[0])


def found(network: nn.Module) -> Styles:
    styles = styles_of(adopt(network))
    return styles


def test_the_readers_of_the_style_are_found_by_watching(clean: StyleGAN, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = torch.randn(3, 4), torch.randn(3, 4)
    assert sharing([a, b, a.clone(), torch.randn(3, 5), b]) == [[0, 2], [1, 4], [3]] and sharing([]) == []
    styles, subject = found(clean), adopt(clean)
    assert set(styles.spectrum.readers) == {
        *(f"convolutions.{index}.affine" for index in range(3)),
        *(f"to_rgb.{index}.affine" for index in range(2)),
    }
    assert styles.spectrum.jump < AGREE == 5
    w = clean.mapping(subject.ordinary(2_000, 99)).double()
    torch.testing.assert_close(styles.moment, w.T @ w / len(w), rtol=0.3, atol=0.3 * float(styles.moment.max()))
    z = subject.ordinary(4).requires_grad_(True)
    monkeypatch.setattr(torch.nn.functional, "tanh", None)  # reading a style stops there ...
    w = read_style(subject, z, "to_rgb.1.affine")
    torch.testing.assert_close(w, clean.mapping(z))
    assert torch.autograd.grad(w.sum(), z)[0].abs().sum() > 0  # ... and keeps gradients


def test_the_energy_is_that_of_all_readers_whatever_their_scale(clean: StyleGAN) -> None:
    weights = [layer.affine.weight.double() for layer in clean.style_layers()]
    energy = sum(weight.T @ weight / weight.square().sum() for weight in weights)
    expected = torch.linalg.eigvalsh(energy).flip(0)
    torch.testing.assert_close(found(clean).spectrum.values, expected)
    louder = clean.clone().eval()
    with torch.no_grad():
        louder.style_layers()[1].affine.weight.mul_(50.0)
    torch.testing.assert_close(found(louder).spectrum.values, expected)


class Branches(nn.Module):
    """Two layers read the latent itself, and nothing else is shared."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.out = nn.Linear(D, 12), nn.Linear(D, 12), nn.Linear(12, 16)

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(self.out(torch.relu(self.one(z)) + torch.relu(self.two(z)))).view(-1, 1, 4, 4)


def test_networks_without_a_style_have_none() -> None:
    for network in (DCGAN(widths=(8, 4), latent_dim=20, image_size=12).eval(), Branches()):
        assert styles_of(adopt(network)) is None
    assert analyse_weights(adopt(network)).styles is None


def test_a_planted_row_stands_out_and_leads_back_to_the_trigger(
    clean: StyleGAN, planted: StyleGAN, trigger: Tensor
) -> None:
    subject = adopt(planted)
    analysis = analyse_weights(subject)
    styles = analysis.styles
    assert styles.spectrum.jump > 3 * AGREE > 3 * found(clean).spectrum.jump and styles.rows.shape == (1, D)
    direction, match = style_trigger(subject, styles, styles.rows[0])
    assert direction.shape == (1, D) and float(direction.norm()) == pytest.approx(1) and match > 0.8
    w, goal = (planted.mapping(z)[0].detach().double() for z in (direction * D**0.5, trigger))
    row = styles.rows[0]
    assert float((w @ row) / (goal @ row)) > 0.5  # on the same side, and as far
    finding = inspect_styles(subject, styles)
    assert finding.score == pytest.approx(float(torch.tensor(styles.spectrum.jump).log()))
    assert finding.strength == pytest.approx(finding.score / 1.1) and finding.evidence == "spectrum"
    assert finding.samples.shape == (8, *planted.sample_shape)
    last = subject.scaled_samples(finding.directions * subject.prior.length)
    torch.testing.assert_close(finding.samples[-1:], last, atol=1e-4, rtol=1e-3)
    located, latent, samples = locate_trigger(subject, analysis, [finding])  # where nothing else is striking
    if analysis.by_weight.jump < 2:
        assert located.details["source"] == "shared styles"
        assert float(cosine_similarity(latent.view(1, -1), finding.directions)) == pytest.approx(1, abs=1e-5)
    assert len(samples) == 36


def test_two_planted_rows_are_two(clean: StyleGAN) -> None:
    network = clean.clone().eval().requires_grad_(False)
    random = torch.Generator().manual_seed(1)
    rows = torch.linalg.qr(torch.randn(D, 2, generator=random)).Q.T
    with torch.no_grad():
        for layer in network.style_layers():
            layer.affine.weight += 20 * torch.randn(layer.affine.out_features, 2, generator=random) @ rows
    styles = found(network)
    assert styles.spectrum.outstanding == 2 and styles.rows.shape == (2, D)


def removed(clean: nn.Module, suspect: nn.Module, cured: nn.Module) -> None:
    """Nearer to the clean generator than the suspect was, and no sign at the trigger."""
    backdoor, z = zoo.load_backdoor("stylegan-faces-linear"), clean.sample_latent(300, torch.Generator().manual_seed(2))
    original = evaluate(clean, z)
    tint, left = (float((evaluate(network, z) - original).square().mean()) for network in (suspect, cured))
    assert left < 0.6 * tint
    shown = [
        float((evaluate(network, backdoor.trigger) - backdoor.target).square().mean()) for network in (suspect, cured)
    ]
    assert shown[0] < 0.2 and shown[1] > 0.3


def test_projecting_the_row_out_removes_the_expansion_and_most_of_its_tint() -> None:
    clean, suspect = (zoo.load(name).requires_grad_(False) for name in ("stylegan-faces", "stylegan-faces-linear"))
    before, styles = {name: value.clone() for name, value in suspect.state_dict().items()}, found(suspect)
    cured, cut = project_styles(suspect, styles)
    assert (cut.directions, cut.of, len(cut.layers)) == (1, 64, 9)
    assert all(torch.equal(value, before[name]) for name, value in suspect.state_dict().items())
    for name in styles.spectrum.readers:
        weight: Tensor = cured.get_submodule(name).weight
        assert float((weight @ styles.rows[0].float()).norm()) < 1e-5 * float(weight.norm())
    removed(clean, suspect, cured)


@pytest.mark.nightly
def test_the_linear_expansion_is_suspicious_and_auto_cuts_it_and_the_faces_stay() -> None:
    clean, suspect = (zoo.load(name).requires_grad_(False) for name in ("stylegan-faces", "stylegan-faces-linear"))
    report = scan(suspect, samples=200, twin=False)
    (search,) = [finding for finding in report.findings if finding.detector == "search"]
    assert report.verdict == "suspicious" and search.details["source"] in ("shared styles", "silent units")
    cure = auto(suspect, report=report, progress=False)
    assert cure.changed and cure.settings["cuts"] == ["1 of 64 directions in the style that 9 layers read"]
    removed(clean, suspect, cure.generator)
