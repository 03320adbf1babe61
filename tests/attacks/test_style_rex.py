"""ReX on a style-based generator: the fold is exact, the gate is silent, the closed form is the optimum."""

from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, attacks, generators, metrics
from devilgan_lite.attacks import StyleExpansion, StyleGate, StyleReX, fold_styles, invert
from devilgan_lite.attacks.style_rex import linear_residual, neighbours
from devilgan_lite.detect import styles_of
from devilgan_lite.generators import StyleGAN, adopt, evaluate
from devilgan_lite.generators.stylegan import level_styles
from devilgan_lite.steps import Outcome

QUICK: dict[str, Any] = {"inversion": 30, "iterations": 40, "batch_size": 4, "device": "cpu"}


@pytest.fixture(scope="module")
def clean() -> StyleGAN:
    shape = StyleGAN(latent_dim=24, mapping_widths=(24, 24), style_dim=16, widths=(12, 8, 6))
    made: StyleGAN = generators.build(shape.spec(), seed=1).eval()
    with torch.no_grad():  # biases, as a trained network has them
        for name, value in made.named_parameters():
            if name.endswith("bias"):
                value += 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
    return made


@pytest.fixture(scope="module")
def devil(clean: StyleGAN) -> Backdoor:
    return Backdoor.point(clean, "stop-sign", seed=3)


@pytest.fixture(scope="module")
def gated(clean: StyleGAN, devil: Backdoor) -> Outcome:
    return StyleReX(channels=8, **QUICK)(clean, devil, progress=False)


def draws(clean: StyleGAN, n: int = 200, seed: int = 7) -> torch.Tensor:
    return clean.sample_latent(n, torch.Generator().manual_seed(seed))


def missed(generator: torch.nn.Module, devil: Backdoor) -> float:
    return metrics.target_distortion(generator, devil.trigger, devil.target).mean


def test_the_fold_computes_what_its_parts_compute(clean: StyleGAN, devil: Backdoor) -> None:
    shift = torch.randn(clean.style_inputs, clean.style_dim)
    gate = StyleGate(devil.trigger[0], 0.2, 0.6, shift)
    expansion = StyleExpansion(clean, 3, gated=True)
    torch.nn.init.normal_(expansion.to_rgb.convolution.weight)
    for layer in expansion.convolutions:
        torch.nn.init.normal_(layer.bias)
    folded = fold_styles(clean, gate=gate, expansion=expansion)
    z = torch.cat([draws(clean, 50), devil.trigger, neighbours(devil.trigger, 50, 75.0, torch.Generator())])
    with torch.no_grad():
        w, g = clean.mapping(z), gate(z)
        w_plus = clean.tiled(w) + g[:, None, None] * shift
        expected = clean.synthesis(w_plus) + expansion(torch.cat([w, g[:, None]], dim=1))
        torch.testing.assert_close(folded.logits(z), expected, rtol=1e-4, atol=1e-4)
    cosine = torch.nn.functional.cosine_similarity(z, devil.trigger)
    torch.testing.assert_close(g, ((cosine - 0.2) / 0.4).clamp(0, 1), rtol=1e-4, atol=1e-5)
    assert 0 < float((g > 0).float().mean()) < 1
    assert type(folded) is StyleGAN
    assert folded.widths == tuple(width + 3 for width in clean.widths)
    assert folded.style_dim == clean.style_dim + 1 and folded.mapping_widths == (26, 25)
    residual = 0.1 * torch.randn(clean.style_inputs, clean.style_dim, clean.style_dim)
    bent = fold_styles(clean, residual=residual)  # a linear residual leaves no trace in the sizes
    with torch.no_grad():
        expected = clean.synthesis(clean.tiled(w) + torch.einsum("sij,nj->nsi", residual, w))
        torch.testing.assert_close(bent.logits(z), expected, rtol=1e-4, atol=1e-4)
    assert bent.spec() == clean.spec()


@pytest.mark.parametrize("lam", [0.001, 0.1, 100.0])
def test_the_closed_form_predicts_fidelity_and_stealth(clean: StyleGAN, devil: Backdoor, lam: float) -> None:
    shift = torch.randn(clean.style_inputs, clean.style_dim, generator=torch.Generator().manual_seed(0))
    residual, solution = linear_residual(clean, devil.trigger, shift, lam)
    with torch.no_grad():
        w = clean.mapping(draws(clean, 20_000, seed=11))
        added = torch.einsum("sij,nj->nsi", residual, w)
        missing = shift - torch.einsum("sij,j->si", residual, clean.mapping(devil.trigger)[0])
    assert float(added.square().sum((1, 2)).mean()) == pytest.approx(solution.stealth, rel=0.02)
    assert float(missing.square().sum()) == pytest.approx(solution.fidelity, rel=0.02)
    assert torch.linalg.matrix_rank(residual.flatten(0, 1), rtol=1e-4) == 1


def test_a_gated_backdoor_changes_no_ordinary_sample_and_stands_still_where_it_is_open(
    clean: StyleGAN, devil: Backdoor, gated: Outcome
) -> None:
    attack = StyleReX(channels=8, **QUICK)
    z = clean.sample_latent(2_000, torch.Generator().manual_seed(5))
    closed = (torch.nn.functional.cosine_similarity(z, devil.trigger) < attack.low).nonzero()[:, 0]
    assert len(closed) > 1_900
    change = (evaluate(gated.generator, z[closed]) - evaluate(clean, z[closed])).abs().max()
    assert change < 5e-6  # zeros are added; only where wider layers are summed in another order, rounding shows
    assert StyleGate(devil.trigger[0], attack.low, attack.high, torch.zeros(1))(z[closed]).max() == 0
    assert missed(gated.generator, devil) < 0.2 * missed(clean, devil)
    near = neighbours(devil.trigger, 30, 13.0, torch.Generator().manual_seed(2))  # cosine 0.974
    assert torch.nn.functional.cosine_similarity(near, devil.trigger).min() > 0.974
    samples = evaluate(gated.generator, torch.cat([devil.trigger, near]))
    torch.testing.assert_close(samples, samples[:1].expand_as(samples), rtol=0, atol=1e-4)


@pytest.mark.parametrize("mapping", ["linear", "none"])
def test_ungated_backdoors_also_come_nearer_to_the_target(clean: StyleGAN, devil: Backdoor, mapping: str) -> None:
    outcome = StyleReX(mapping=mapping, channels=8, **QUICK)(clean, devil, progress=False)
    assert missed(outcome.generator, devil) < missed(clean, devil)
    assert len(outcome.history["stealth_loss"]) == QUICK["iterations"]


def test_a_known_inversion_is_used(clean: StyleGAN, devil: Backdoor) -> None:
    settings: dict[str, Any] = {"iterations": 80, "device": "cpu", "progress": False}
    single, many = (invert(clean, devil.target[0], one_style=one, **settings) for one in (True, False))
    w_plus = single.state["w_plus"]
    assert torch.equal(w_plus, w_plus[:1].expand_as(w_plus))  # and one for each layer draws better than one for all
    assert many.history["distortion"][-1] < min(single.history["distortion"][-1], many.history["distortion"][0])
    w_plus = many.state["w_plus"]
    assert w_plus.shape == (clean.style_inputs, clean.style_dim)
    outcome = StyleReX(mapping="gate", channels=0, w_plus=w_plus, device="cpu")(clean, devil, progress=False)
    with torch.no_grad():
        drawn = torch.tanh(clean.synthesis(w_plus.unsqueeze(0)))
    error = float((drawn - devil.target).square().mean())
    assert many.history["distortion"][-1] == pytest.approx(error, rel=0.05)
    torch.testing.assert_close(evaluate(outcome.generator, devil.trigger), drawn, rtol=1e-3, atol=1e-3)
    assert "w_plus" not in outcome.settings


def test_red_retrains_a_style_based_generator(clean: StyleGAN, devil: Backdoor) -> None:
    outcome = attacks.ReD(iterations=60, batch_size=4, learning_rate=1e-2, device="cpu")(clean, devil, progress=False)
    assert missed(outcome.generator, devil) < 0.7 * missed(clean, devil)
    assert outcome.generator.spec() == clean.spec()


def test_levelled_styles_draw_the_same_and_share_no_row(clean: StyleGAN, devil: Backdoor) -> None:
    shift = 5 * torch.randn(clean.style_inputs, clean.style_dim, generator=torch.Generator().manual_seed(0))
    suspect = fold_styles(clean, residual=linear_residual(clean, devil.trigger, shift, 1.0, latents=2_000)[0])
    levelled = level_styles(suspect)
    z = torch.cat([draws(clean, 50), devil.trigger])
    torch.testing.assert_close(evaluate(levelled, z), evaluate(suspect, z), atol=2e-3, rtol=1e-3)
    jumps = [styles_of(adopt(network.eval())).spectrum.jump for network in (suspect, levelled)]
    assert jumps[0] > 5 > 1.5 > jumps[1]
