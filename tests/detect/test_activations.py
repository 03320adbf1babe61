"""Silent units: how often a unit is on, what wakes it, and what then appears, against sampling and brute force."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import zoo
from devilgan_lite.detect import inspect_activations
from devilgan_lite.detect.activations import RARE, mean_square_when_on, waking_direction
from devilgan_lite.detect.spectrum import Units, latent_units, on_rate, path_gains
from devilgan_lite.generators import DCGAN, adopt
from devilgan_lite.prior import PRIORS, VARIANCE


def some_units(count: int = 12, d: int = 40, seed: int = 0) -> Units:
    random = torch.Generator().manual_seed(seed)
    rows = torch.randn(count, d, generator=random, dtype=torch.float64)
    bias = rows.norm(dim=1) * torch.linspace(-2, 2, count)
    return Units(rows, bias, torch.rand(count, generator=random, dtype=torch.float64) + 0.1, 0.0, True)


def draws(prior: str, d: int) -> Tensor:
    random = torch.Generator().manual_seed(1)
    if prior == "gaussian":
        return torch.randn(100_000, d, generator=random, dtype=torch.float64)
    return torch.rand(100_000, d, generator=random, dtype=torch.float64) * 2 - 1


def test_rates_and_energies_are_those_of_samples_and_exact_far_out() -> None:
    units = some_units()
    for prior in PRIORS:
        before = draws(prior, 40) @ units.rows.T + units.bias
        torch.testing.assert_close(on_rate(units, VARIANCE[prior]), (before > 0).double().mean(0), rtol=0.0, atol=0.01)
        sampled = before.clamp(min=0).square().mean(0)
        least = 0.01 * float(sampled.max())
        torch.testing.assert_close(mean_square_when_on(units, VARIANCE[prior]), sampled, rtol=0.06, atol=least)
    rows = torch.tensor([[2.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    far = Units(rows, torch.tensor([-12.0, 12.0]).double(), torch.ones(2).double(), 0.0, True)
    assert on_rate(far).tolist() == pytest.approx([math.erfc(6 / math.sqrt(2)) / 2, 1], rel=1e-6)
    zero = Units(rows * 0, torch.tensor([-1.0, 1.0]).double(), torch.ones(2).double(), 0.0, True)
    assert on_rate(zero).tolist() == [0.0, 1.0] and RARE == 1e-4


def test_the_waking_direction_is_that_of_a_search_through_all() -> None:
    angle = torch.linspace(0, 2 * math.pi, 20_000, dtype=torch.float64)
    around = 2.5 * torch.stack([angle.cos(), angle.sin()], 1)
    for seed in range(6):
        units = some_units(count=9, d=2, seed=seed)
        chosen = torch.arange(9) % 3 != seed % 3
        direction, energy = waking_direction(units, chosen, 2.5)
        awake = (around @ units.rows[chosen].T + units.bias[chosen]).clamp(min=0).square()
        energies = awake @ units.gain[chosen].square()
        assert float(direction.norm()) == pytest.approx(1) and energy == pytest.approx(float(energies.max()), rel=1e-3)
        assert float(direction @ around[energies.argmax()]) / 2.5 > 0.999
    units = some_units()
    for silent in (  # nothing chosen, or nothing that wakes
        waking_direction(units, torch.zeros(12).bool(), 6.0),
        waking_direction(Units(units.rows, units.bias - 1e6, units.gain, 0.0, True), torch.ones(12).bool(), 6.0),
    ):
        assert silent[1] == 0.0 and not silent[0].any()


def test_the_units_of_a_gate_sleep_the_trigger_wakes_them_and_the_clean_model_has_none(clean: DCGAN) -> None:
    finding = inspect_activations(adopt(clean), samples=1_000)
    assert finding.score == finding.details["silent"] == finding.details["wakeable"] == 0
    assert finding.samples is None and finding.directions is None
    subject, backdoor = adopt(zoo.load("dcgan-fashion-gate")), zoo.load_backdoor("dcgan-fashion-gate")
    units = latent_units(subject, path_gains(subject, n=200).activations)
    finding = inspect_activations(subject, units=units, samples=1_000)
    assert finding.details["silent"] == 784  # a pixel each; those of the other sign are zero and count as asleep
    assert 0 < finding.details["wakeable"] <= 784 and finding.score > 10
    assert finding.strength == pytest.approx(finding.score / 0.05) and finding.evidence == "construction"
    assert float(cosine_similarity(finding.directions, backdoor.trigger)) > 0.99
    shown = subject.scaled_samples(finding.directions * backdoor.trigger.norm())
    assert float((shown - backdoor.target).square().mean()) < 1e-3
    torch.testing.assert_close(finding.samples, subject.scaled_samples(finding.directions * 10), atol=1e-3, rtol=0.0)
    assert finding.details["by activation"][1] > 0  # and in the next layer the channels behind them


@torch.no_grad()
def test_a_gate_behind_ordinary_units_is_woken_by_a_suspected_direction() -> None:
    """First layer: both signs of each coordinate. Second: their sum along ``u``, less a threshold. No row shows it."""
    d, random = 64, torch.Generator().manual_seed(2)
    u = normalize(torch.randn(1, d, generator=random), dim=1)
    module = nn.Sequential(
        nn.Linear(d, 2 * d), nn.ReLU(), nn.Linear(2 * d, 3), nn.ReLU(), nn.Linear(3, 16), nn.Unflatten(1, (1, 4, 4))
    )
    module[0].weight.copy_(torch.cat([torch.eye(d), -torch.eye(d)]))
    module[0].bias.zero_()
    module[2].weight.copy_(torch.cat([torch.cat([u, -u], 1), torch.randn(2, 2 * d, generator=random) / d]))
    module[2].bias.copy_(torch.tensor([-6.5, 0.5, 0.5]))
    module[4].weight.mul_(0.1)
    subject = adopt(module)
    other = normalize(torch.randn(2, d, generator=random), dim=1)
    blind = inspect_activations(subject, directions=other)
    assert blind.score == 0.0 and blind.details["by activation"] == [0, 1]
    finding = inspect_activations(subject, directions=torch.cat([other, -u]))  # the sign is open
    assert finding.score > 1 and finding.details["first"] == 0.0 < finding.details["deeper"]
    torch.testing.assert_close(finding.directions, u)


def test_any_slope_and_prior_and_not_too_few_samples(refuses: object) -> None:
    for prior in PRIORS:
        for slope in (0.0, 0.3):
            network = DCGAN(widths=(4, 2), latent_dim=20, image_size=12, negative_slope=slope, prior=prior).eval()
            subject = adopt(network)
            assert inspect_activations(subject, samples=500, directions=torch.eye(20)[:3]).score == 0.0
    for samples in (0, 99, 1.5):
        refuses(lambda samples=samples: inspect_activations(subject, samples=samples), "samples")  # type: ignore[operator]
