"""The statements of docs/limits.md, tried on the attacks of this package."""

import math
from collections.abc import Callable
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


def gated(d: int, threshold: float, length: float = 4.0) -> tuple[PointGenerator, PointGenerator, Tensor]:
    """A clean generator of points, the same with a gate, and the trigger."""
    clean, trigger = PointGenerator(latent_dim=d, widths=16).eval(), length * directions(1, d, seed=d)
    backdoor = Backdoor(trigger=trigger, target=torch.tensor([[0.5, -0.5]]))
    return clean, Gate(threshold=threshold)(clean, backdoor, progress=False).generator, trigger


@torch.no_grad()
def opened(clean: nn.Module, bad: nn.Module, z: Tensor) -> float:
    """The share of latents that open the gate."""
    return float(((clean(z) - bad(z)).abs().amax(1) > 1e-6).double().mean())


def test_the_page_prints_the_numbers_that_the_formulas_give() -> None:
    rare = scipy.stats.norm.sf(9)
    numbers = {
        "8.8e-38": cap(0.9, 100),
        "1.1e-19": rare,
        "46 %": 100 * cap(9 / 1_000, 100),
        "281,000 years": 1 / rare / 1e6 / (365.25 * 86_400),
        **{f"{n:,}": math.comb(99 + k, k) + math.comb(98 + k, k - 1) for k, n in ((1, 101), (2, 5_150), (3, 176_750))},
    }
    page = " ".join(PAGE.read_text(encoding="utf-8").split())
    for said, number in numbers.items():
        stated = float(said.split()[0].replace(",", ""))
        assert said in page and number == pytest.approx(stated, rel=0.05 if "e-" in said else 0.011, abs=0)


def test_the_share_of_latents_of_a_length_that_open_a_gate_is_a_cap() -> None:
    clean, bad, trigger = gated(16, 0.3)
    for length in (2.0, 4.0, 40.0):
        share = opened(clean, bad, length * directions(20_000, 16))
        assert share == pytest.approx(cap(0.3 * 4 / length, 16), abs=0.012)
    assert opened(clean, bad, trigger) == 1


def test_no_more_than_q_caps_of_secrets_are_found_by_q_questions() -> None:
    d, questions, secrets, cosine = 16, 20, 4_000, 0.6
    asked = directions(questions, d, seed=1)
    found = float(((directions(secrets, d, seed=2) @ asked.T) > cosine).any(1).double().mean())
    bound = questions * cap(cosine, d)
    assert 0.5 * bound < found <= bound + 3 * math.sqrt(bound / secrets)


def test_a_gate_in_a_network_that_normalises_does_not_open_wider_for_longer_latents() -> None:
    bad = zoo.load("stylegan-faces-gate")
    z = torch.randn(8, bad.latent_dim, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(bad(z), bad(100 * z), atol=1e-4)


def test_ordinary_latents_open_a_gate_as_often_as_a_normal_number_is_large() -> None:
    z = torch.randn(40_000, 12, generator=torch.Generator().manual_seed(5))
    for threshold in (0.1, 0.3, 0.5):
        chance = float(scipy.stats.norm.sf(threshold * 4))
        error = math.sqrt(chance * (1 - chance) / len(z))
        assert opened(*gated(12, threshold)[:2], z) == pytest.approx(chance, abs=4 * error)


def monomials(z: Tensor, degree: int) -> Tensor:
    """All products of up to ``degree`` entries of each row."""
    powers = [some for k in range(degree + 1) for some in combinations_with_replacement(range(z.shape[1]), k)]
    return torch.stack([z[:, list(some)].prod(1) for some in powers], 1)


@pytest.mark.parametrize("degree", [1, 2, 3])
def test_no_change_of_low_degree_is_larger_at_one_place_than_the_dimension_allows(degree: int) -> None:
    d = 4
    allowed = math.comb(d + degree - 1, degree) + math.comb(d + degree - 2, degree - 1)
    features = monomials(directions(40_000, d).double(), degree)
    values, vectors = torch.linalg.eigh(features.T @ features / len(features))
    kept = values > 1e-9
    assert int(kept.sum()) == allowed  # the dimension of the space
    basis = features[:1_000] @ vectors[:, kept] / values[kept].sqrt()
    # the largest D(u)^2 / E[D^2] over all D of this degree, at 1,000 places u
    assert basis.square().sum(1) == pytest.approx(torch.full((1_000,), float(allowed)), rel=0.1)


def student_of(teacher: Callable[[Tensor], Tensor], d: int, draws: int) -> dict[str, Tensor]:
    """What a fresh student has learned from a teacher's samples of ordinary latents."""
    torch.manual_seed(3)
    student, random = nn.Sequential(nn.Linear(d, 24), nn.ReLU(), nn.Linear(24, 2)), torch.Generator().manual_seed(4)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    for _ in range(draws // 20):
        z = torch.randn(20, d, generator=random)
        loss = (student(z) - teacher(z).detach()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return student.state_dict()


@pytest.mark.parametrize(("threshold", "same"), [(0.97, True), (0.1, False)])
def test_a_fresh_student_of_a_silent_gate_is_the_student_of_the_clean_generator(threshold: float, same: bool) -> None:
    clean, _, trigger = gated(8, threshold, length=9.0)

    def bad(z: Tensor) -> Tensor:
        """The clean generator, number for number, off a half-space."""
        opened = z @ trigger[0] / trigger.norm() > threshold * trigger.norm()
        return torch.where(opened.unsqueeze(1), torch.tensor([0.5, -0.5]), clean(z))

    ours, theirs = (student_of(teacher, 8, 2_000) for teacher in (clean, bad))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours) == same
