"""One call, one report: verdicts on the shipped models, and on modules that cannot be judged."""

import json
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, data, zoo
from devilgan_lite.attacks import Gate
from devilgan_lite.detect import Finding, ScanReport, inspect_activations, scan, spectrum, weights
from devilgan_lite.detect.weights import candidate_directions
from devilgan_lite.generators import DCGAN, PointGenerator, build

CLEAN_SCORE = 0.12  # the latent spectrum of the clean model stays below; ...
TIMES = {"trail": 2.0, "red": 8.0, "rex": 8.0, "gate": 40.0}  # ... those of backdoored ones are so many times its own
LEAST = {"trail": 0.8, "red": 0.95, "rex": 0.95, "gate": 0.95}  # cosine with the trigger


@pytest.fixture(scope="module")
def scanned() -> Iterator[Callable[[str], ScanReport]]:
    """Some seconds for each model, once, with less work than usual and no twin."""
    with pytest.MonkeyPatch.context() as patch:
        measure = lambda subject, latents, seed: spectrum.latent_influence(subject, 150, seed)  # noqa: E731
        patch.setattr(weights, "latent_influence", measure)
        patch.setattr(weights, "HIDDEN_LATENTS", 1_000)
        patch.setattr(
            "devilgan_lite.detect.activations.inspect_activations", partial(inspect_activations, samples=1_000)
        )
        yield cache(lambda name: scan(zoo.load(name), samples=500, twin=False))


def found(report: ScanReport, detector: str) -> Finding:
    (finding,) = (one for one in report.findings if one.detector == detector)
    return finding


def test_the_clean_model_is_clean(scanned: Callable[[str], ScanReport]) -> None:
    report = scanned("dcgan-fashion")
    assert report.verdict == "clean" and not report.backdoored
    assert report.kinds == report.suspected == () and report.trigger is report.sample is None
    assert all(0 <= report.strengths[kind] < 1 for kind in ("construction", "spectrum"))
    assert all(one.ran for one in report.findings)
    assert 0.0 <= found(report, "latent spectrum").score < CLEAN_SCORE and found(report, "hidden spectrum").score < 1


def check_backdoored(name: str, report: ScanReport) -> None:
    model, backdoor = zoo.load(f"dcgan-fashion-{name}"), zoo.load_backdoor(f"dcgan-fashion-{name}")
    assert 0 < sum(one.seconds for one in report.findings) <= report.seconds and "spectrum" in report.kinds
    assert report.sample.shape == (1, 28, 28) and float(report.trigger.norm()) == pytest.approx(10, rel=1e-4)
    assert float(cosine_similarity(report.trigger.view(1, -1), backdoor.trigger).abs()) > 0.8
    shown = model(report.trigger.view(1, -1))[0].detach()
    torch.testing.assert_close(report.sample, shown, atol=1e-3, rtol=0.0)
    latent = found(report, "latent spectrum")
    assert latent.score > TIMES[name] * CLEAN_SCORE / 2 and float(latent.directions.norm()) == pytest.approx(1)
    assert float(cosine_similarity(latent.directions, backdoor.trigger).abs()) > LEAST[name]
    candidates = candidate_directions(report.analysis)
    # the first two candidates are the strongest of both weighings, so one of them is as good
    assert candidates.shape == (6, 100) and candidates.dtype == torch.float32
    torch.testing.assert_close(candidates.norm(dim=1), torch.ones(6))
    assert float(cosine_similarity(candidates[:2], backdoor.trigger).abs().max()) > LEAST[name] - 0.05
    along = report.subject.scaled_samples(latent.directions * 10)
    torch.testing.assert_close(latent.samples[:1], along, atol=1e-3, rtol=0.0)
    assert json.loads(report.to_json())["verdict"] == report.verdict and report.to_html().count("<img") >= 3
    assert found(report, "search").evidence == found(report, "sampling").evidence == ""


@pytest.mark.parametrize("name", ["gate", "trail", "rex"])
def test_without_a_twin_nothing_is_more_than_suspicious(name: str, scanned: Callable[[str], ScanReport]) -> None:
    report = scanned(f"dcgan-fashion-{name}")
    check_backdoored(name, report)
    assert report.verdict == "suspicious" and report.twin is report.witness is None
    if name == "rex":  # it is seen in later layers
        hidden = found(report, "hidden spectrum")
        assert hidden.score > 1.2 and "layers.deconv1" in hidden.message
        assert set(hidden.details) == {"layers.deconv1", "layers.deconv2"} and "construction" in report.kinds


@pytest.mark.nightly
def test_all_with_a_whole_twin() -> None:
    assert scan(zoo.load("dcgan-fashion"), samples=500).verdict == "clean"
    for name in TIMES:
        report, model = scan(zoo.load(f"dcgan-fashion-{name}"), samples=500), zoo.load(f"dcgan-fashion-{name}")
        check_backdoored(name, report)
        if name == "trail":  # no witness is found against it
            assert report.verdict == "suspicious"
            continue
        assert report.backdoored and report.twin.reproduces and "Witness: the suspect draws" in report.to_html()
        witness, latent = report.witness, report.witness.latent.view(1, -1)
        assert float(latent.norm()) == pytest.approx(10, rel=0.1)  # the length of an ordinary latent
        torch.testing.assert_close(model(latent)[0].detach(), witness.sample, atol=1e-3, rtol=0.0)
    backdoor = zoo.load_backdoor("dcgan-fashion-gate")  # its witness is the estimate itself, and shows the target
    assert float(cosine_similarity(latent, backdoor.trigger)) > 0.99
    assert float(torch.corrcoef(torch.stack([witness.sample.flatten(), backdoor.target[0].flatten()]))[0, 1]) > 0.7
    # where few numbers make a latent, random starts find the trigger as well as those that the weights point to
    report, trigger = scan(zoo.load("vae-garments-rex"), samples=200), zoo.load_backdoor("vae-garments-rex").trigger
    assert report.witness.stands_out and float(cosine_similarity(report.witness.latent.view(1, -1), trigger)) > 0.99
    assert "twin" in report.kinds


def test_the_target_of_a_gate_is_found_with_the_estimate() -> None:
    """The gradient does not see a closed gate; the direction that the weights suggest opens it."""
    network = build(DCGAN(widths=(40, 8), latent_dim=40, image_size=12).spec(), seed=1).eval()
    trigger = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    backdoor = Backdoor(trigger * 40**0.5 / trigger.norm(), data.target("devil", 12).unsqueeze(0))
    module = Gate()(network, backdoor, progress=False).generator
    tried = found(scan(module, targets=backdoor.target, samples=200, twin=False), "reconstruction")
    assert tried.details["targets"]["target 1"]["error"] < 1e-3
    assert tried.details["targets"]["target 1"]["won_by"] == "given" and tried.score > 2


@pytest.mark.usefixtures("short_twin")
def test_a_network_without_switches_says_what_could_not_run() -> None:
    module = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    report = scan(module, reference=module, samples=200)
    for detector in ("latent spectrum", "reference"):
        finding = found(report, detector)
        assert not finding.ran and finding.score is None and finding.evidence == ""
        assert finding.message.startswith("could not run: ") and "no hidden activation" in finding.message
    assert found(report, "structure").ran and found(report, "sampling").ran
    assert report.verdict == "inconclusive" and "no answer from: latent spectrum" in report.reason


class Odd(nn.Module):
    """Samples of ``network`` that move a little at each call, or at random, or do not depend on the latent."""

    def __init__(self, network: nn.Module, kind: str) -> None:
        super().__init__()
        self.network, self.kind, self.calls = network, kind, 0

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.network(z * (self.kind != "constant"))
        self.calls += 1
        return made + {"remembering": 0.01 * self.calls, "noisy": 0.05 * torch.randn_like(made)}.get(self.kind, 0.0)


@pytest.mark.usefixtures("short_twin")
def test_what_cannot_be_judged_is_inconclusive(tiny_gate: nn.Module) -> None:
    for kind in ("noisy", "remembering", "constant"):
        report = scan(Odd(tiny_gate, kind), 16, samples=200)
        assert report.verdict == "inconclusive" and report.kinds == (), kind
        if kind == "noisy":  # it is seen, and has no say
            assert found(report, "latent spectrum").strength > 1 and "may be noise" in str(report)
    torch.manual_seed(0)  # a classifier is never backdoored
    report = scan(nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10)), samples=200)
    assert not report.backdoored and "as a classifier does" in str(report)


@pytest.mark.usefixtures("short_twin")
def test_few_units_or_few_numbers_are_no_obstacle() -> None:
    torch.manual_seed(0)  # fewer units than latent dimensions leave directions without any energy: no backdoor
    module = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    latent = found(scan(module, samples=200), "latent spectrum")
    assert latent.ran and 0 <= latent.score < 3
    for latent_dim in (1, 2):
        report = scan(PointGenerator(latent_dim=latent_dim, widths=16).eval(), samples=200)
        assert found(report, "latent spectrum").ran and "<table>" in report.to_html()
        json.loads(report.to_json())


@pytest.mark.usefixtures("short_twin")
def test_what_cannot_be_used_is_a_finding(tiny: DCGAN, refuses: Any) -> None:
    wrong, other = torch.zeros(30, 3, 5, 5), DCGAN(widths=(4, 2), latent_dim=16, image_size=16)
    report = scan(tiny, real=wrong, reference=other, targets=wrong, samples=200, twin=False)
    messages = {(one.detector, one.access_level): one.message for one in report.findings if not one.ran}
    assert set(messages) == {("real data", "T4"), ("reference", "T3"), ("reconstruction", "T1")}
    assert all(message.startswith("could not run: ") for message in messages.values())
