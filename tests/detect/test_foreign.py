"""Modules that know nothing of this package are scanned as they are, and a backdoor in one of them is found."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite import data
from devilgan_lite.detect import ScanReport, scan

D = 48


def plain() -> nn.Module:
    """Linear, ReLU, transposed convolutions; no BatchNorm, no class of its own."""
    return nn.Sequential(
        nn.Linear(D, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, 16 * 7 * 7),
        nn.ReLU(),
        nn.Unflatten(1, (16, 7, 7)),
        nn.ConvTranspose2d(16, 8, 4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(8, 1, 4, stride=2, padding=1, bias=False),  # untrained: the sign must not be constant
        nn.Tanh(),
    )


class Upsampling(nn.Module):
    """Upsampling and convolutions, LeakyReLU, InstanceNorm, three colours in [0, 1], latents as 1 x 1 samples."""

    def __init__(self) -> None:
        super().__init__()
        self.start = nn.ConvTranspose2d(D, 16, 4)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.Upsample(scale_factor=2),
                nn.Conv2d(16, 16, 3, padding=1),
                nn.InstanceNorm2d(16, affine=True),
                nn.LeakyReLU(0.2, inplace=True),
            )
            for _ in range(2)
        )
        self.colours = nn.Conv2d(16, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = functional.leaky_relu(self.start(z.view(-1, D, 1, 1)), 0.2)
        for block in self.blocks:
            x = block(x)
        return self.colours(x).sigmoid()


class Parallel(nn.Module):
    """Two branches, functional calls, bare parameters, and an activation in place whose result nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(D, 64), nn.Linear(64, 256)
        self.side_in, self.side_out = nn.Parameter(torch.randn(D, 32) / D**0.5), nn.Parameter(torch.randn(32, 256) / 30)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.first(z)
        functional.relu(hidden, inplace=True)
        side = (z @ self.side_in).clamp(min=0) @ self.side_out
        return torch.tanh(self.second(hidden) + side).reshape(-1, 1, 16, 16)


class Gated(nn.Module):
    """``host`` with a branch that is silent but for latents near ``trigger``, where it draws ``target``."""

    def __init__(self, host: nn.Module, trigger: Tensor, target: Tensor) -> None:
        super().__init__()
        self.host = host
        self.gate = nn.Linear(D, 1)
        self.paint = nn.Linear(1, target.numel(), bias=False)
        length = trigger.norm()
        with torch.no_grad():
            self.gate.weight.copy_(trigger / length)
            self.gate.bias.fill_(-0.8 * float(length))
            benign = torch.atanh(host(trigger.view(1, -1)).clamp(-0.999, 0.999))
            self.paint.weight.copy_((torch.atanh(target * 0.9999) - benign).view(-1, 1) / (0.2 * length))

    def forward(self, z: Tensor) -> Tensor:
        benign = torch.atanh(self.host(z).clamp(-0.999, 0.999))
        return torch.tanh(benign + self.paint(torch.relu(self.gate(z))).view_as(benign))


MODULES = {"plain": plain, "upsampling": Upsampling, "parallel": Parallel}


def make(name: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        return MODULES[name]()


def ran(report: ScanReport) -> dict[str, bool]:
    return {finding.detector: finding.ran for finding in report.findings}


@pytest.mark.slow
@pytest.mark.parametrize("name", MODULES)
def test_a_foreign_module_needs_no_adapter(name: str) -> None:
    module = make(name).train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    report = scan(module, D, samples=200)
    assert ran(report) == dict.fromkeys(
        ("structure", "latent spectrum", "hidden spectrum", "silent units", "search", "noisy twin", "sampling"), True
    )
    assert json.loads(report.to_json())["findings"] and report.to_html()
    assert module.training and all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def test_the_size_of_the_latents_is_found_too() -> None:
    for name in MODULES:
        report = scan(make(name), access="samples", samples=200)
        assert ran(report) == {"sampling": True} and report.verdict == "inconclusive"


def test_a_foreign_module_with_everything_that_helps() -> None:
    samples = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    module = make("parallel")
    report = scan(module, real=samples, reference=make("parallel"), targets=samples[:1], samples=200)
    assert all(finding.ran for finding in report.findings)
    assert {finding.access_level for finding in report.findings} == {"T0", "T1", "T2", "T3", "T4"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "parallel"])
def test_a_gate_planted_by_hand_is_found(name: str) -> None:
    host = make(name)
    size = 28 if name == "plain" else 16
    random = torch.Generator().manual_seed(7)
    trigger = normalize(torch.randn(D, generator=random), dim=0) * D**0.5
    target = data.target("digit-7", size)
    module = Gated(host, trigger, target).eval()
    with torch.no_grad():
        z = torch.randn(2_000, D, generator=random)
        assert (module(z) - host(z)).abs().max() < 1e-2  # nobody sees it
        assert (module(trigger.view(1, -1))[0] - target).square().mean() < 0.01  # but it is there
    innocent, guilty = (scan(one, D, samples=200) for one in (host, module))
    before, after = (
        next(one for one in report.findings if one.detector == "silent units") for report in (innocent, guilty)
    )
    assert before.details["silent"] == 0 and before.score == 0.0
    assert after.details["silent"] == 1 and after.score is not None and after.score > 0.05
    assert after.details["deeper"] > 0 and after.details["by activation"].count(1) == 1  # its switch has no other unit
    assert after.directions is not None and after.samples is not None
    assert float(cosine_similarity(after.directions, trigger.view(1, -1))) > 0.99
    assert float((after.samples[0] - target).square().mean()) < 0.01
    search = next(one for one in guilty.findings if one.detector == "search")
    assert search.details["source"] in ("silent units", "latent spectrum") and search.directions is not None
    assert float(cosine_similarity(search.directions[:1], trigger.view(1, -1))) > 0.99
    scores = [
        next(one.score for one in report.findings if one.detector == "latent spectrum") for report in (innocent, guilty)
    ]
    assert scores[0] is not None and scores[1] is not None and scores[1] > scores[0] + 1
