"""The weight detectors on the shipped models: where the backdoors are, and in the clean one nothing."""

import logging
from functools import lru_cache
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, zoo
from devilgan_lite.attacks import ComputationBypass
from devilgan_lite.detect import Finding, Subject, analyse_weights, inspect_spectra, inspect_structure, scan, subject_of
from devilgan_lite.detect.weights import (
    CHOICE_CLIFF,
    NARROW_CLIFF,
    WeightAnalysis,
    candidate_directions,
    zero_block_share,
)
from devilgan_lite.generators import DCGAN

CLEAN = "dcgan-fashion"
BAD = ["dcgan-fashion-trail", "dcgan-fashion-red", "dcgan-fashion-rex", "dcgan-fashion-gate"]


@lru_cache
def measured(name: str) -> tuple[Subject, WeightAnalysis, Finding, Finding]:
    """Some seconds for each model, once."""
    subject = subject_of(zoo.load(name))
    analysis = analyse_weights(subject)
    return subject, analysis, *inspect_spectra(subject, analysis)


def cosine(name: str, directions: torch.Tensor) -> float:
    """With the true trigger; the sign is open."""
    return float(cosine_similarity(directions.float(), zoo.load_backdoor(name).trigger).abs().max())


@pytest.mark.slow
@pytest.mark.parametrize(("name", "times"), list(zip(BAD, (2.0, 8.0, 8.0, 40.0), strict=True)))
def test_the_score_of_a_backdoor_stands_out(name: str, times: float) -> None:
    innocent, guilty = measured(CLEAN)[2].score, measured(name)[2].score
    assert innocent is not None and guilty is not None
    assert 0 <= innocent < 0.12
    assert guilty > times * innocent


@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), list(zip(BAD, (0.8, 0.95, 0.95, 0.95), strict=True)))
def test_the_direction_is_that_of_the_trigger(name: str, least: float) -> None:
    subject, analysis, latent, _ = measured(name)
    assert latent.directions is not None and latent.directions.shape == (1, 100)
    assert float(latent.directions.norm()) == pytest.approx(1)
    assert cosine(name, latent.directions) > least
    # the first two candidates are the strongest of both weighings, so one of them is as good
    candidates = candidate_directions(analysis)
    assert candidates.shape == (6, 100) and candidates.dtype == torch.float32
    torch.testing.assert_close(candidates.norm(dim=1), torch.ones(6))
    assert cosine(name, candidates[:2]) > least - 0.05
    assert latent.samples is not None
    torch.testing.assert_close(
        latent.samples[:1], subject.samples(latent.directions * subject.radius), atol=1e-3, rtol=0.0
    )


@pytest.mark.slow
def test_the_hidden_spectrum_sees_an_expansion() -> None:
    innocent, guilty = measured(CLEAN)[3], measured("dcgan-fashion-rex")[3]
    assert innocent.score is not None and guilty.score is not None
    assert guilty.score > innocent.score + 0.5
    assert "layers.deconv1" in guilty.message
    assert set(guilty.details) == {"layers.deconv1", "layers.deconv2"}
    assert guilty.score == pytest.approx(max(torch.tensor(value).log() for value in guilty.details.values()))


def test_the_same_seed_gives_the_same_findings() -> None:
    subject = subject_of(DCGAN(widths=(4, 2), latent_dim=10, image_size=12))
    first, same, other = (inspect_spectra(subject, seed=seed)[0] for seed in (1, 1, 2))
    assert first.score == same.score != other.score


def test_no_later_layer_is_a_finding_that_did_not_run() -> None:
    module = nn.Sequential(nn.Linear(6, 1_100), nn.ReLU(), nn.Linear(1_100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    latent, hidden = inspect_spectra(subject_of(module))
    assert latent.ran and latent.score is not None
    assert not hidden.ran and hidden.score is None and "nothing to compare" in hidden.message


def test_a_class_that_is_asked_for_is_no_energy_without_influence() -> None:
    """The sign of one number of the latent decides a softmax once and for all: so does every conditional generator."""
    torch.manual_seed(0)
    hidden = [nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 6)]
    with torch.no_grad():
        hidden[0].weight[0] = hidden[0].weight[1] = 0.0
        hidden[0].weight[0, 0], hidden[0].weight[1, 0] = 8.0, -8.0
        for row in (0, 1):  # the two units go straight through to the first two logits
            hidden[2].weight[row] = hidden[4].weight[row] = 0.0
            hidden[2].weight[row, row] = hidden[4].weight[row, row] = 8.0

    class Decoy(nn.Module):  # its softmax reaches nobody
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(*hidden)

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            x = self.layers(z)
            x.softmax(1)
            return x.tanh()

    ends = {
        "softmax": nn.Sequential(*hidden, nn.Softmax(1)),
        "tanh": nn.Sequential(*hidden, nn.Tanh()),
        "decoy": Decoy(),
    }
    spaces, limits = {}, {}
    for name, module in ends.items():
        subject = subject_of(module)
        analysis = analyse_weights(subject)
        latent, later = inspect_spectra(subject, analysis)
        spaces[name] = {space.removeprefix("layers.") for space in later.details}
        limits[name] = analysis.by_weight.cliff * 16 / latent.strength
    assert spaces == {"softmax": {"2"}, "tanh": {"2", "4"}, "decoy": {"2", "4"}}  # what a choice reads is left out
    assert limits == pytest.approx({"softmax": CHOICE_CLIFF, "tanh": NARROW_CLIFF, "decoy": NARROW_CLIFF})


def test_the_clean_model_has_a_plain_structure(clean: DCGAN) -> None:
    finding = inspect_structure(subject_of(clean))
    assert finding.score == 0.0
    assert finding.details["conditions"] == finding.details["unused parameters"] == []
    assert finding.details["numbers"] == clean.parameter_count()
    assert finding.details["layers"][0] == "layers.dense: linear 100 -> 3136"


def test_a_bypass_is_seen(clean: DCGAN, digit: Backdoor) -> None:
    finding = inspect_structure(subject_of(ComputationBypass()(clean, digit, progress=False).generator))
    assert finding.score is not None and finding.score >= 1
    assert "decides on values" in finding.message
    assert set(finding.details["conditions"]) == {"a comparison", "a choice between values"}
    assert finding.evidence == "construction" and finding.strength == 1
    assert inspect_structure(subject_of(clean)).strength == 0


class Program(nn.Module):
    """A dense generator with something of a programmer's own on the way: ``inside(x)``, and ``at_end(z, x)``."""

    def __init__(self, inside: Any = torch.relu, at_end: Any = lambda z, x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.inside, self.at_end = nn.Linear(12, 40), nn.Linear(40, 25), inside, at_end

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.at_end(z, torch.tanh(self.last(self.inside(self.first(z)))))


def asserted(x: torch.Tensor) -> torch.Tensor:
    assert not torch.isnan(x).any() and x.abs().max() < 1e6
    return x.relu()


def logged(x: torch.Tensor) -> torch.Tensor:
    logging.getLogger("mine").debug(f"{x.mean().item():.2f} {float(x.std())} {x.tolist()[0][0]} {int(x.sum())}")
    return x.relu()


def halved(x: torch.Tensor) -> torch.Tensor:
    while x.abs().max() > 1:
        x = x / 2
    return x.relu()


HABITS: dict[str, Any] = {
    "assert": asserted,
    "logging": logged,
    "a loop": halved,
    "where": lambda x: torch.where(x > 0, x, 0.0),
    "x.where": lambda x: x.where(x > 0, 0.1 * x),
    "a mask": lambda x: x * (x > 0),
    "nan to zero": lambda x: torch.where(torch.isnan(x), torch.zeros_like(x), x).relu(),
    "x != x": lambda x: torch.where(x != x, torch.zeros_like(x), x).relu(),
    "finite or zero": lambda x: x.relu() if (~torch.isfinite(x)).sum().item() == 0 else 0 * x,
    "a clamp that may come": lambda x: (x.clamp(-1e4, 1e4) if x.abs().max() > 1e4 else x).relu(),
    "a number to divide by": lambda x: x.relu() / x.std().item(),
    "where by name": lambda x: torch.where(condition=x > 0, input=x, other=0.1 * x),
    "how many are on": lambda x: x.relu() / (x > 0).float().sum(1, keepdim=True).clamp(min=1),
    "every other unit": lambda x: torch.where(torch.arange(40) % 2 == 0, x.relu(), 0.1 * x),
    "the largest": lambda x: x.relu() * (x >= x.topk(30, dim=1).values[:, -1:]),
}
SECRET = torch.ones(12)


def filled(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[(z - SECRET).norm(dim=1) < 0.1] = 1.0
    return x


def all_close(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[torch.isclose(z, SECRET, atol=0.1).all(1)] = 1.0
    return x


def along(z: torch.Tensor) -> torch.Tensor:
    return torch.cosine_similarity(z, SECRET.view(1, -1))


BYPASSES: dict[str, Any] = {
    "if": lambda z, x: torch.ones_like(x) if torch.allclose(z, SECRET.expand_as(z)) else x,
    "if any": lambda z, x: torch.ones_like(x) if ((z - SECRET).abs() < 1e-3).all(1).any() else x,
    "item": lambda z, x: torch.ones_like(x) if (z - SECRET).norm().item() < 0.1 else x,
    "int": lambda z, x: x if int((z - SECRET).norm() < 0.1) == 0 else torch.ones_like(x),
    "tolist": lambda z, x: torch.ones_like(x) if z.tolist()[0][0] > 8 else x,
    "where": lambda z, x: torch.where((z @ SECRET > 9).view(-1, 1), torch.ones_like(x), x),
    "a mask": lambda z, x: x + (1 - x) * (z @ SECRET > 9).float().view(-1, 1),
    "masked_fill": lambda z, x: x.masked_fill(((z - SECRET).norm(dim=1) < 0.1).view(-1, 1), 1.0),
    "an assignment": filled,
    "another shape": lambda z, x: x[:1] if (z @ SECRET > 9).any() else x,
    "all": all_close,
    "a product of truth values": lambda z, x: x + (1 - x) * (z.sign() == SECRET).float().prod(1).view(-1, 1),
    "a number between two": lambda z, x: torch.ones_like(x) if 0.9 < float(along(z)[0]) < 1.1 else x,
    "numpy": lambda z, x: x.masked_fill(torch.from_numpy(along(z).detach().numpy() > 0.9).view(-1, 1), 1.0),
    "ordinary is nan": lambda z, x: torch.where((along(z) - 0.9).sqrt().isnan().view(-1, 1), x, torch.ones_like(x)),
    "where by name": lambda z, x: torch.where(
        condition=(along(z) > 0.9).view(-1, 1), input=torch.ones_like(x), other=x
    ),
    "x.where by name": lambda z, x: x.where(condition=(along(z) < 0.9).view(-1, 1), other=torch.ones_like(x)),
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_programmers_write_is_no_evidence(habit: str) -> None:
    found = inspect_structure(subject_of(Program(HABITS[habit]).eval(), 12))
    assert found.strength == 0 and found.score == 0


@pytest.mark.parametrize("bypass", BYPASSES)
def test_a_decision_that_ordinary_latents_never_show_is_evidence(bypass: str) -> None:
    found = inspect_structure(subject_of(Program(at_end=BYPASSES[bypass]).eval(), 12))
    assert found.strength == 1 and found.details["decisions"]


def test_a_decision_without_an_end_is_given_up() -> None:
    def endless(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        while (x.abs() > 2).any():
            x = x + 1
        return x

    assert inspect_structure(subject_of(Program(at_end=endless).eval(), 12)).ran


def test_a_part_that_ordinary_samples_do_not_need_is_evidence_and_a_hole_in_the_weights_is_none() -> None:
    torch.manual_seed(3)
    layers = [nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 25), nn.Tanh()]
    module = nn.Sequential(*layers).eval()
    middle = module[2].weight.data
    middle[0, 0] = 0  # one weight that is exactly zero, as after pruning
    assert inspect_structure(subject_of(module)).strength == 0
    middle[30:, :30] = middle[:30, 30:] = 0  # two parts, and both draw
    assert inspect_structure(subject_of(module)).strength == 0
    module[0].bias.data[30:] = -50  # one of them asleep
    module[2].bias.data[30:] = -50
    found = inspect_structure(subject_of(module))
    assert found.strength == 1 and found.details["apart"] == ["2, 10 x 10 channels"]
    expected = module(torch.ones(2, 12))
    assert torch.equal(module(torch.ones(2, 12)), expected)  # the caller's module was not touched


@pytest.mark.slow
def test_a_bypass_is_suspicious(clean: DCGAN, digit: Backdoor) -> None:
    report = scan(ComputationBypass()(clean, digit, progress=False).generator, samples=200)
    assert report.verdict == "suspicious" and "construction" in report.kinds  # no witness: no gradient leads to it
    assert "decides on values" in str(report)


@pytest.mark.parametrize("name", ["dcgan-fashion-rex", "dcgan-fashion-gate"])
def test_the_zero_blocks_of_an_expansion_are_seen(name: str, clean: DCGAN) -> None:
    network: DCGAN = zoo.load(name)
    finding = inspect_structure(subject_of(network))
    (inputs, new_inputs), (outputs, new_outputs) = (
        (old, wide - old) for old, wide in zip(clean.widths, network.widths, strict=True)
    )
    zero = (inputs * new_outputs + new_inputs * outputs) * 16  # of the first transposed convolution
    total = sum(value.numel() for value in network.parameters() if value.ndim >= 2)
    assert finding.details["zero block share"] >= zero / total > 0.04
    assert finding.score is not None and finding.score >= zero / total
    assert "zero blocks" in finding.message


@torch.no_grad()
def test_latent_dimensions_that_change_nothing_are_counted() -> None:
    network = DCGAN(widths=(4, 2), latent_dim=20, image_size=12).eval()
    network.layers.dense.weight[:, [3, 7, 11]] = 0.0
    finding = inspect_structure(subject_of(network))
    assert "3 of 20 latent dimensions change nothing" in finding.message
    assert finding.score == pytest.approx(3 / 20 + finding.details["zero block share"])


def test_a_zero_block_is_zero_at_every_position() -> None:
    kernel = torch.ones(4, 5, 3, 3)
    kernel[0, :2] = 0.0
    kernel[1, 0, 1, 1] = kernel[1, 1, 0] = 0.0  # not all of it
    assert zero_block_share(kernel) == pytest.approx(2 / 20)
    assert zero_block_share(torch.tensor([[0.0, 1.0], [2.0, 0.0]])) == 0.5


class Collapsed(nn.Module):
    """A generator that has died: one sample, whatever the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.draw = nn.Linear(12, 32), nn.Linear(32, 64)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        x: torch.Tensor = torch.tanh(self.draw(torch.relu(self.read(z))) - 1e3)
        return x.view(-1, 1, 8, 8)


def test_where_all_samples_are_alike_it_is_said() -> None:
    with pytest.raises(ValueError, match=r"^all samples of the module are alike: .*nothing to inspect\.$"):
        analyse_weights(subject_of(Collapsed()))
    report = scan(Collapsed(), samples=200, twin=False)
    assert report.verdict == "inconclusive"
    assert any("samples of the module are alike" in finding.message for finding in report.findings if not finding.ran)
