"""What the weights and the program say: spectra as findings, decisions, zero blocks, parts that nobody needs."""

import logging
import math
from typing import Any

import pytest
import torch
from torch import nn

from devilgan_lite import Backdoor, zoo
from devilgan_lite.attacks import ComputationBypass
from devilgan_lite.detect import analyse_weights, inspect_spectra, inspect_structure, scan
from devilgan_lite.detect.structure import zero_block_share
from devilgan_lite.generators import DCGAN, adopt


def test_spectra_are_findings_with_a_strength_of_their_cliff() -> None:
    subject = adopt(DCGAN(widths=(4, 2), latent_dim=10, image_size=12))
    analysis = analyse_weights(subject)
    latent, hidden = inspect_spectra(subject, analysis)
    assert latent.score == pytest.approx(math.log(analysis.by_weight.jump))
    assert latent.strength == pytest.approx(analysis.by_weight.cliff * 10 / 13)  # as many as the latent is long
    assert latent.evidence == hidden.evidence == "spectrum"
    assert hidden.score == pytest.approx(math.log(max(hidden.details.values())))
    limits = [(one.cliff, max(0.42, 13 / one.rank)) for one in analysis.hidden]
    assert hidden.strength == pytest.approx(max(cliff / limit for cliff, limit in limits))
    module = nn.Sequential(nn.Linear(6, 1_100), nn.ReLU(), nn.Linear(1_100, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    latent, hidden = inspect_spectra(adopt(module))
    assert latent.ran and not hidden.ran and hidden.score is None and not hidden.open


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

    ends = {"softmax": nn.Sequential(*hidden, nn.Softmax(1)), "tanh": nn.Sequential(*hidden, nn.Tanh())}
    spaces, limits = {}, {}
    for name, module in {**ends, "decoy": Decoy()}.items():
        subject = adopt(module)
        analysis = analyse_weights(subject)
        latent, later = inspect_spectra(subject, analysis)
        spaces[name] = {space.removeprefix("layers.") for space in later.details}
        limits[name] = analysis.by_weight.cliff * 16 / latent.strength
    assert spaces == {"softmax": {"2"}, "tanh": {"2", "4"}, "decoy": {"2", "4"}}  # what a choice reads is left out
    assert limits == pytest.approx({"softmax": 7.2, "tanh": 13.0, "decoy": 13.0})


def test_a_clean_model_has_a_plain_structure_and_a_bypass_is_seen(
    clean: DCGAN, digit: Backdoor, tiny: DCGAN, square: Backdoor
) -> None:
    finding = inspect_structure(adopt(clean))
    assert finding.score == finding.strength == 0.0
    assert finding.details["conditions"] == finding.details["unused parameters"] == []
    assert finding.details["numbers"] == clean.parameter_count()
    assert finding.details["layers"][0] == "layers.dense: linear 100 -> 3136"
    finding = inspect_structure(adopt(ComputationBypass()(clean, digit, progress=False).generator))
    assert finding.score >= 1 and set(finding.details["conditions"]) == {"a comparison", "a choice between values"}
    assert finding.evidence == "construction" and finding.strength == 1
    report = scan(ComputationBypass()(tiny, square, progress=False).generator, samples=200, twin=False)
    assert report.verdict == "suspicious" and "construction" in report.kinds  # no witness: no gradient leads to it


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


def near(z: torch.Tensor) -> torch.Tensor:
    return (along(z) > 0.9).view(-1, 1)


def white(x: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(x)


BYPASSES: dict[str, Any] = {
    "if": lambda z, x: white(x) if torch.allclose(z, SECRET.expand_as(z)) else x,
    "if any": lambda z, x: white(x) if ((z - SECRET).abs() < 1e-3).all(1).any() else x,
    "item": lambda z, x: white(x) if (z - SECRET).norm().item() < 0.1 else x,
    "int": lambda z, x: x if int((z - SECRET).norm() < 0.1) == 0 else white(x),
    "tolist": lambda z, x: white(x) if z.tolist()[0][0] > 8 else x,
    "where": lambda z, x: torch.where((z @ SECRET > 9).view(-1, 1), white(x), x),
    "a mask": lambda z, x: x + (1 - x) * (z @ SECRET > 9).float().view(-1, 1),
    "masked_fill": lambda z, x: x.masked_fill(((z - SECRET).norm(dim=1) < 0.1).view(-1, 1), 1.0),
    "an assignment": filled,
    "another shape": lambda z, x: x[:1] if (z @ SECRET > 9).any() else x,
    "all": all_close,
    "a product of truth values": lambda z, x: x + (1 - x) * (z.sign() == SECRET).float().prod(1).view(-1, 1),
    "a number between two": lambda z, x: white(x) if 0.9 < float(along(z)[0]) < 1.1 else x,
    "numpy": lambda z, x: x.masked_fill(torch.from_numpy(along(z).detach().numpy() > 0.9).view(-1, 1), 1.0),
    "ordinary is nan": lambda z, x: torch.where((along(z) - 0.9).sqrt().isnan().view(-1, 1), x, white(x)),
    "where by name": lambda z, x: torch.where(condition=near(z), input=white(x), other=x),
    "x.where by name": lambda z, x: x.where(condition=~near(z), other=white(x)),
}


def test_what_programmers_write_is_no_evidence_and_decisions_that_ordinary_latents_never_show_are() -> None:
    for name, inside in HABITS.items():
        found = inspect_structure(adopt(Program(inside).eval(), 12))
        assert found.strength == 0 and found.score == 0, name
    for name, at_end in BYPASSES.items():
        found = inspect_structure(adopt(Program(at_end=at_end).eval(), 12))
        assert found.strength == 1 and found.details["decisions"], name

    def endless(z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        while (x.abs() > 2).any():
            x = x + 1
        return x

    assert inspect_structure(adopt(Program(at_end=endless).eval(), 12)).ran  # a decision without an end


def test_a_part_that_ordinary_samples_do_not_need_is_evidence_and_a_hole_in_the_weights_is_none() -> None:
    torch.manual_seed(3)
    layers = [nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 25), nn.Tanh()]
    module = nn.Sequential(*layers).eval()
    middle = module[2].weight.data
    middle[0, 0] = 0  # one weight that is exactly zero, as after pruning
    assert inspect_structure(adopt(module)).strength == 0
    middle[30:, :30] = middle[:30, 30:] = 0  # two parts, and both draw
    assert inspect_structure(adopt(module)).strength == 0
    module[0].bias.data[30:] = -50  # one of them asleep
    module[2].bias.data[30:] = -50
    subject = adopt(module)
    before = {name: value.clone() for name, value in subject.network.state_dict().items()}
    found = inspect_structure(subject)
    assert found.strength == 1 and found.details["apart"] == ["2, 10 x 10 channels"]
    assert all(torch.equal(value, before[name]) for name, value in subject.network.state_dict().items())


def test_zero_blocks_and_latent_dimensions_that_change_nothing_are_counted(clean: DCGAN) -> None:
    for name in ("dcgan-fashion-rex", "dcgan-fashion-gate"):
        network: DCGAN = zoo.load(name)
        finding = inspect_structure(adopt(network))
        (inputs, more), (outputs, others) = (
            (old, wide - old) for old, wide in zip(clean.widths, network.widths, strict=True)
        )
        zero = (inputs * others + more * outputs) * 16  # of the first transposed convolution
        total = sum(value.numel() for value in network.parameters() if value.ndim >= 2)
        assert finding.details["zero block share"] >= zero / total > 0.04 and finding.score >= zero / total
    network = DCGAN(widths=(4, 2), latent_dim=20, image_size=12).eval()
    with torch.no_grad():
        network.layers.dense.weight[:, [3, 7, 11]] = 0.0
    finding = inspect_structure(adopt(network))
    assert "3 of 20" in finding.message and finding.score == pytest.approx(3 / 20 + finding.details["zero block share"])
    kernel = torch.ones(4, 5, 3, 3)
    kernel[0, :2] = 0.0
    kernel[1, 0, 1, 1] = kernel[1, 1, 0] = 0.0  # not all of it: a zero block is zero at every position
    assert zero_block_share(kernel) == pytest.approx(2 / 20)
    assert zero_block_share(torch.tensor([[0.0, 1.0], [2.0, 0.0]])) == 0.5


class Collapsed(nn.Module):
    """A generator that has died: one sample, whatever the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.read, self.draw = nn.Linear(12, 32), nn.Linear(32, 64)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.draw(torch.relu(self.read(z))) - 1e3).view(-1, 1, 8, 8)


def test_where_all_samples_are_alike_it_is_said(refuses: Any) -> None:
    said = refuses(lambda: analyse_weights(adopt(Collapsed())), "alike")
    report = scan(Collapsed(), samples=200, twin=False)
    assert report.verdict == "inconclusive" and any(said in one.message for one in report.findings if not one.ran)
