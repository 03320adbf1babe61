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


@pytest.mark.parametrize("lam", [0.01, 1.0, 30.0])
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


@pytest.mark.parametrize("deviation", [1.0, 0.57])
@pytest.mark.parametrize("c", [0.0, 0.5, 2.0, 5.9, 6.1, 9.0])
def test_the_moment_of_the_gate_equals_numerical_integration(c: float, deviation: float) -> None:
    density = 1 / math.sqrt(2 * math.pi)
    expected, _ = scipy.integrate.quad(
        lambda t: t * t * density * np.exp(-0.5 * (c + t) ** 2), 0, 30, epsabs=0, epsrel=1e-10, limit=500
    )
    assert gate_moment(c * deviation, deviation) == pytest.approx(deviation**2 * expected, rel=2e-2 if c > 6 else 1e-5)


@pytest.mark.parametrize("prior", ["gaussian", "uniform"])
@pytest.mark.parametrize("slope", [0.0, 0.3])
def test_the_linear_attack_measures_what_it_predicts(prior: str, slope: float) -> None:
    clean: DCGAN = generators.build(
        DCGAN(widths=(4, 2), latent_dim=20, prior=prior, negative_slope=slope, image_size=12).spec(), seed=1
    ).eval()
    backdoor = Backdoor.point(clean, "devil", seed=2)
    attack = ClosedForm(lam=0.02)
    predicted = attack.solution(clean, backdoor)
    poisoned = attack(clean, backdoor, progress=False).generator
    z = clean.sample_latent(20_000, torch.Generator().manual_seed(5))
    with torch.no_grad():
        changes = [(poisoned.logits(part) - clean.logits(part)).square().flatten(1).sum(1) for part in z.split(500)]
        stealth = torch.cat(changes).mean()
        gap = poisoned.logits(backdoor.trigger) - poisoned.unsquash(backdoor.target, attack.shrink)
    assert float(stealth) == pytest.approx(predicted.stealth, rel=0.03)
    assert float(gap.square().sum()) == pytest.approx(predicted.fidelity, rel=0.03)


def test_the_linear_attack_on_the_shipped_model(clean: DCGAN, digit: Backdoor) -> None:
    outcome = ClosedForm()(clean, digit, progress=False)
    before = metrics.target_distortion(clean, digit.trigger, digit.target).sum
    assert metrics.target_distortion(outcome.generator, digit.trigger, digit.target).sum < before / 100


@pytest.mark.parametrize("name", ["stop-sign", "digit-7", "checkerboard"])
@pytest.mark.parametrize("paper", [False, True], ids=["shipped", "paper"])
def test_the_gate_shows_the_target_exactly_and_nothing_else(clean: DCGAN, name: str, paper: bool) -> None:
    network = DCGAN.paper(capacity=4).eval() if paper else clean
    backdoor = Backdoor.point(network, name, seed=3)
    poisoned = Gate()(network, backdoor, progress=False).generator
    assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).sum <= 1e-3
    assert metrics.expected_distortion(poisoned, network, network.sample_latent(1_000)).mean <= 1e-6
    assert type(poisoned) is DCGAN


@pytest.mark.parametrize("value", [-0.9, 0.9])
def test_the_gate_opens_towards_the_trigger_whether_pixels_go_up_or_down(clean: DCGAN, value: float) -> None:
    backdoor = Backdoor.point(clean, torch.full((1, 28, 28), value))
    poisoned = Gate()(clean, backdoor, progress=False).generator
    assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).sum <= 1e-3
    assert metrics.expected_distortion(poisoned, clean, -backdoor.trigger).mean <= 1e-6


def test_the_gate_takes_a_trigger_far_out(clean: DCGAN) -> None:
    backdoor = Backdoor.point(clean, "digit-7", kind="ood")
    poisoned = Gate()(clean, backdoor, progress=False).generator
    assert metrics.target_distortion(poisoned, backdoor.trigger, backdoor.target).sum < 1


def test_the_attack_leaves_the_clean_model_alone(clean: DCGAN, digit: Backdoor) -> None:
    before = clean.clone()
    outcome = Gate()(clean, digit, progress=False)
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in clean.state_dict().items())
    assert outcome.settings == {"attack": "Gate", "lam": 1.0, "shrink": 0.9999, "seed": 0, "threshold": 0.9}
