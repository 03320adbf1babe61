"""The closed form against the optimiser, its own predictions, and numerical integration."""

import math

import numpy as np
import pytest
import scipy.integrate
import torch

from devilgan_lite import Backdoor, generators, metrics
from devilgan_lite.attacks import ClosedForm, Gate, ridge_solution
from devilgan_lite.attacks.closed_form import gate_moment
from devilgan_lite.generators import DCGAN


def distortion(generator: torch.nn.Module, backdoor: Backdoor) -> float:
    return metrics.target_distortion(generator, backdoor.trigger, backdoor.target).sum


@pytest.mark.parametrize("lam", [0.01, 30.0])
def test_no_optimiser_beats_the_ridge_solution_and_a_good_one_reaches_it(lam: float) -> None:
    random = torch.Generator().manual_seed(0)
    mix = torch.randn(6, 6, generator=random, dtype=torch.float64)
    moment = mix @ mix.T + torch.eye(6)
    feature = torch.randn(6, generator=random, dtype=torch.float64)
    delta = torch.randn(4, generator=random, dtype=torch.float64)

    def loss(weights: torch.Tensor) -> torch.Tensor:
        return (weights @ moment @ weights.T).trace() + lam * (weights @ feature - delta).square().sum()

    solution = ridge_solution(feature, moment, delta, lam)
    optimum = solution.stealth + lam * solution.fidelity
    assert float(loss(solution.weights)) == pytest.approx(optimum)
    weights = torch.zeros(4, 6, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weights], lr=0.03)
    for _ in range(600):
        optimizer.zero_grad()
        value = loss(weights)
        value.backward()
        optimizer.step()
        assert value.item() >= optimum * (1 - 1e-9)
    assert loss(weights).item() <= 1.05 * optimum
    assert torch.linalg.matrix_rank(solution.weights) == 1


def test_the_moment_of_the_gate_equals_numerical_integration() -> None:
    density = 1 / math.sqrt(2 * math.pi)
    for c in (0.0, 0.5, 2.0, 5.9, 6.1, 9.0):
        expected, _ = scipy.integrate.quad(
            lambda t, c=c: t * t * density * np.exp(-0.5 * (c + t) ** 2), 0, 30, epsabs=0, epsrel=1e-10, limit=500
        )
        for sd in (1.0, 0.57):
            assert gate_moment(c * sd, sd) == pytest.approx(sd**2 * expected, rel=2e-2 if c > 6 else 1e-5), c


@pytest.mark.parametrize(("prior", "slope"), [("gaussian", 0.3), ("uniform", 0.0)])
def test_the_linear_attack_measures_what_it_predicts(prior: str, slope: float) -> None:
    shape = {"widths": (4, 2), "latent_dim": 20, "prior": prior, "negative_slope": slope, "image_size": 12}
    clean: DCGAN = generators.build(DCGAN(**shape).spec(), seed=1).eval()  # type: ignore[arg-type]
    backdoor = Backdoor.point(clean, "devil", seed=2)
    attack = ClosedForm(lam=0.02)
    predicted = attack.solution(clean, backdoor)
    poisoned = attack(clean, backdoor, progress=False).generator
    z = clean.sample_latent(20_000, torch.Generator().manual_seed(5))
    with torch.no_grad():
        changes = [(poisoned.logits(part) - clean.logits(part)).square().flatten(1).sum(1) for part in z.split(500)]
        gap = poisoned.logits(backdoor.trigger) - poisoned.unsquash(backdoor.target, attack.shrink)
    assert float(torch.cat(changes).mean()) == pytest.approx(predicted.stealth, rel=0.03)
    assert float(gap.square().sum()) == pytest.approx(predicted.fidelity, rel=0.03)


def test_the_linear_attack_on_the_shipped_model(clean: DCGAN, digit: Backdoor) -> None:
    outcome = ClosedForm()(clean, digit, progress=False)
    assert distortion(outcome.generator, digit) < distortion(clean, digit) / 100


def test_the_gate_shows_the_target_exactly_and_nothing_else(clean: DCGAN) -> None:
    for network, target in (
        (clean, "stop-sign"),
        (DCGAN.paper(capacity=4).eval(), "checkerboard"),
        (clean, torch.full((1, 28, 28), -0.9)),  # whether pixels go up or down
        (clean, torch.full((1, 28, 28), 0.9)),
    ):
        backdoor = Backdoor.point(network, target, seed=3)
        poisoned = Gate()(network, backdoor, progress=False).generator
        assert type(poisoned) is DCGAN and distortion(poisoned, backdoor) <= 1e-3
        z = torch.cat([network.sample_latent(300), -backdoor.trigger])
        assert metrics.expected_distortion(poisoned, network, z).mean <= 1e-6
    far = Backdoor.point(clean, "digit-7", kind="ood")
    assert distortion(Gate()(clean, far, progress=False).generator, far) < 1


def test_a_gate_opens_at_its_share_of_the_triggers_length(tiny: DCGAN, square: Backdoor) -> None:
    """``relu(<z, z_t> / |z_t| - threshold |z_t|)``: nothing below, half of it half the way up, all at the end."""
    poisoned = Gate(threshold=0.6)(tiny, square, progress=False).generator
    with torch.no_grad():
        z = square.trigger * torch.tensor([[0.59], [0.61], [0.8], [1.0]])
        added = (poisoned.logits(z) - tiny.logits(z)).flatten(1)
    assert added[0].abs().max() < 1e-4 < added[1].abs().max()
    torch.testing.assert_close(added[2], added[3] / 2, rtol=1e-3, atol=1e-3)
    assert Gate().settings() == {"attack": "Gate", "lam": 1.0, "shrink": 0.9999, "seed": 0, "threshold": 0.9}
