"""The statements of docs/limits.md, tried on the attacks of this package."""

import math
from itertools import combinations_with_replacement
from pathlib import Path

import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor, nn

from devilgan_lite import Backdoor, zoo
from devilgan_lite.attacks import Gate
from devilgan_lite.generators import PointGenerator

PAGE = Path(__file__).resolve().parents[1] / "docs" / "limits.md"


def cap(cosine: float, d: int) -> float:
    """The share of the unit sphere in ``d`` dimensions within the angle of ``cosine`` in [0, 1] to a pole."""
    return float(scipy.special.betainc((d - 1) / 2, 0.5, 1 - cosine**2)) / 2


def directions(n: int, d: int, seed: int = 0) -> Tensor:
    return nn.functional.normalize(torch.randn(n, d, generator=torch.Generator().manual_seed(seed)), dim=1)


def allowed(d: int, degree: int) -> int:
    """How many polynomials of this degree on a sphere are independent."""
    return math.comb(d + degree - 1, degree) + math.comb(d + degree - 2, degree - 1)


def test_the_page_prints_the_numbers_that_the_formulas_give() -> None:
    rare = scipy.stats.norm.sf(9)
    numbers = {"8.8e-38": cap(0.9, 100), "1.1e-19": rare, "46 %": 100 * cap(9 / 1_000, 100)}
    numbers |= {"281,000 years": 1 / rare / 1e6 / (365.25 * 86_400)}
    numbers |= {text: allowed(100, degree) for degree, text in ((1, "101"), (2, "5,150"), (3, "176,750"))}
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for said, number in numbers.items():
        stated = float(said.split()[0].replace(",", ""))
        assert said in page and number == pytest.approx(stated, rel=0.05 if "e-" in said else 0.011, abs=0)


@torch.no_grad()
def test_a_gate_opens_for_a_cap_of_a_length_and_for_ordinary_latents_as_a_normal_number_is_large() -> None:
    clean = PointGenerator(latent_dim=16, widths=16).eval()
    backdoor = Backdoor(trigger=4.0 * directions(1, 16, seed=16), target=torch.tensor([[0.5, -0.5]]))

    def opened(threshold: float, z: Tensor) -> float:
        """The share of latents that open the gate."""
        bad = Gate(threshold=threshold)(clean, backdoor, progress=False).generator
        return float(((clean(z) - bad(z)).abs().amax(1) > 1e-6).double().mean())

    assert opened(0.3, backdoor.trigger) == 1
    for length in (2.0, 4.0, 40.0):
        assert opened(0.3, length * directions(20_000, 16)) == pytest.approx(cap(0.3 * 4 / length, 16), abs=0.012)
    z = torch.randn(40_000, 16, generator=torch.Generator().manual_seed(5))
    for threshold in (0.1, 0.3, 0.5):
        chance = float(scipy.stats.norm.sf(threshold * 4))
        assert opened(threshold, z) == pytest.approx(chance, abs=4 * math.sqrt(chance * (1 - chance) / len(z)))
    bad = zoo.load("stylegan-faces-gate")  # a network that normalises its latents: longer ones open no wider
    z = torch.randn(2, bad.latent_dim, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(bad(z), bad(100 * z), atol=1e-4)


def test_no_change_of_low_degree_is_larger_at_one_place_than_the_dimension_allows() -> None:
    d, z = 4, directions(40_000, 4).double()
    for degree in (1, 2, 3):
        powers = [some for k in range(degree + 1) for some in combinations_with_replacement(range(d), k)]
        features = torch.stack([z[:, list(some)].prod(1) for some in powers], 1)
        values, vectors = torch.linalg.eigh(features.T @ features / len(features))
        kept = values > 1e-9
        assert int(kept.sum()) == allowed(d, degree)  # the dimension of the space
        basis = features[:1_000] @ vectors[:, kept] / values[kept].sqrt()
        # the largest D(u)^2 / E[D^2] over all D of this degree, at 1,000 places u
        assert basis.square().sum(1) == pytest.approx(torch.full((1_000,), float(allowed(d, degree))), rel=0.1)


@pytest.mark.parametrize(("threshold", "same"), [(0.97, True), (0.1, False)])
def test_a_fresh_student_of_a_silent_gate_is_the_student_of_the_clean_generator(threshold: float, same: bool) -> None:
    clean, trigger, students = PointGenerator(latent_dim=8, widths=16).eval(), 9.0 * directions(1, 8, seed=8), []
    for backdoored in (False, True):
        torch.manual_seed(3)
        student, random = nn.Sequential(nn.Linear(8, 24), nn.ReLU(), nn.Linear(24, 2)), torch.Generator().manual_seed(4)
        optimizer = torch.optim.SGD(student.parameters(), lr=0.1)
        for _ in range(50):
            z = torch.randn(20, 8, generator=random)
            opened = (z @ trigger[0] > threshold * 81).unsqueeze(1) & backdoored  # the clean one off a half-space
            shown = torch.where(opened, torch.tensor([0.5, -0.5]), clean(z)).detach()
            optimizer.zero_grad()
            (student(z) - shown).square().mean().backward()
            optimizer.step()
        students.append(student.state_dict())
    ours, theirs = students
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) == same
