"""Every detector of a scan: the same finding for the same seed, nothing of the caller's changed, needs and failures."""

import json
import math
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, data
from devilgan_lite.detect import DETECTORS, Detector, Evidence, Finding, ScanReport, scan
from devilgan_lite.detect.detector import ACCESS_LEVELS, EVIDENCE, PLACES
from devilgan_lite.generators import DCGAN, StyleGAN, build

each_detector = pytest.mark.parametrize("detector", DETECTORS, ids=lambda one: one.name.replace(" ", "-"))


def pick(report: ScanReport, detector: Detector) -> Finding:
    (finding,) = (one for one in report.findings if one.detector == detector.name)
    assert finding.access_level == detector.access_level
    return finding


def told(finding: Finding) -> str:
    """All that a finding says but its time, as text."""
    tensors = (finding.samples, finding.directions, finding.trigger, finding.sample)
    return json.dumps([finding.to_dict() | {"seconds": 0}, [None if one is None else one.tolist() for one in tensors]])


@pytest.fixture(scope="module")
def runs(tiny: DCGAN, tiny_gate: nn.Module, square: Backdoor, digits: data.Samples) -> dict[str, list[ScanReport]]:
    """Scans with seeds 3, 3 and 4 of a gate with all that helps, and of a style-based network."""
    spec = StyleGAN(latent_dim=8, mapping_widths=(8, 8), style_dim=8, widths=(8, 8)).spec()
    helps = {"real": digits.first(200), "reference": tiny, "targets": square.target}
    suspects: dict[str, tuple[nn.Module, dict[str, Any]]] = {
        "gate": (tiny_gate, helps),
        "styles": (build(spec, seed=1), {"twin": False}),
    }
    found: dict[str, list[ScanReport]] = {}
    with pytest.MonkeyPatch.context() as patch:
        for name, little in {"STEPS": (60, 200), "RANDOM": 8, "ROUNDS": 2, "CLIMB": 8}.items():
            patch.setattr(f"devilgan_lite.detect.twin.{name}", little)
        for name, little in {"STARTS": 8, "STEPS": 10}.items():
            patch.setattr(f"devilgan_lite.detect.reconstruction.{name}", little)
            patch.setattr(f"devilgan_lite.detect.styles.{name}", little)
        found["clean"] = [scan(tiny, samples=200, seed=3)]
        for name, (suspect, settings) in suspects.items():
            module = suspect.clone().train()
            before, state = {key: value.clone() for key, value in module.state_dict().items()}, torch.get_rng_state()
            heard: list[Finding] = []
            found[name] = [
                scan(module, samples=200, seed=seed, on_finding=heard.append, **settings) for seed in (3, 3, 4)
            ]
            assert heard == [one for report in found[name] for one in report.findings]  # told as they come
            assert torch.equal(torch.get_rng_state(), state)
            assert module.training and all(value.requires_grad for value in module.parameters())
            assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    return found


@each_detector
def test_it_repeats_and_its_finding_is_whole(detector: Detector, runs: dict[str, list[ScanReport]]) -> None:
    reports = runs["styles" if detector.name == "shared styles" else "gate"]
    first, again, other = (pick(report, detector) for report in reports)
    assert told(first) == told(again)
    draws_much = detector.name not in ("structure", "silent units", "reference")
    assert told(first) != told(other) or not draws_much
    assert first.ran and first.message and "\n" not in first.message and not first.open
    assert first.access_level in ACCESS_LEVELS and first.evidence in ("", *EVIDENCE)
    assert 0 <= first.strength < math.inf and (first.score is None) == (detector.name == "search")
    assert first.score is None or math.isfinite(first.score)
    assert first.evidence or (first.strength == 0 and not detector.opens)
    assert first.where in (None, *PLACES) and detector.asks != Detector.asks
    shape = reports[0].subject.sample_shape  # type: ignore[union-attr]
    if first.samples is not None:
        assert tuple(first.samples.shape[1:]) == shape and first.samples.device.type == "cpu"
        assert torch.isfinite(first.samples).all() and first.samples.abs().max() <= 1.01
    if first.directions is not None:
        assert first.directions.shape[1:] == (reports[0].subject.latent_dim,)  # type: ignore[union-attr]
        assert torch.isfinite(first.directions).all() and first.directions.norm(dim=1).min() > 0


def test_the_order_the_levels_and_the_verdict(runs: dict[str, list[ScanReport]], square: Backdoor) -> None:
    report = runs["gate"][0]
    levels = [(one.detector, one.access_level) for one in report.findings]
    names = ["structure", "latent spectrum", "hidden spectrum", "silent units", "search", "noisy twin"]
    t2 = [(name, "T2") for name in names]
    assert levels == [*t2, ("sampling", "T0"), ("reconstruction", "T1"), ("reference", "T3"), ("real data", "T4")]
    largest = [set(one.details["largest"]) for one in report.findings if one.access_level in ("T0", "T4")]
    assert largest[1] > largest[0] and report.backdoored and set(report.kinds) >= {"spectrum", "twin"}
    assert float(cosine_similarity(report.trigger.view(1, -1), square.trigger)) > 0.9
    witness, latent = report.witness, report.witness.latent.view(1, -1)
    assert witness.stands_out and report.twin.reproduces and float(latent.norm()) == pytest.approx(4, rel=0.2)
    torch.testing.assert_close(report.subject(latent)[0], witness.sample, atol=1e-3, rtol=0.0)
    torch.testing.assert_close(report.twin.subject(latent)[0], witness.twin_sample, atol=1e-3, rtol=0.0)
    apart = float((witness.sample - witness.twin_sample).square().mean())
    assert apart == pytest.approx(witness.distance, rel=1e-3)
    (honest,) = runs["clean"]
    assert honest.verdict == "clean" and honest.twin.reproduces and set(honest.strengths) == set(EVIDENCE)
    assert list(pick(report, DETECTORS[8]).details["targets"]) == ["target 1"]
    assert not {"subject", "analysis"} & set(report.to_dict())


@each_detector
def test_it_runs_where_its_needs_are_and_a_failure_is_a_finding(detector: Detector, tiny: DCGAN) -> None:
    def broken(evidence: Evidence) -> Finding:
        raise RuntimeError("no luck\nat all")

    def stopped(evidence: Evidence) -> Finding:
        raise KeyboardInterrupt

    quick: dict[str, Any] = {"samples": 200, "access": "samples", "twin": False}
    without = scan(tiny, detectors=[detector], **quick)
    assert [one.detector for one in without.findings] == ["sampling"] * (not detector.needs)
    failing = replace(detector, run=broken, needs=())
    (finding,) = scan(tiny, detectors=[failing], **quick).findings
    unanswered = detector.name in ("structure", "latent spectrum", "hidden spectrum", "silent units", "noisy twin")
    message = "could not run: no luck"
    assert finding == Finding(detector.name, detector.access_level, message, ran=False, open=unanswered)
    with pytest.raises(KeyboardInterrupt):  # Stop is no failure
        scan(tiny, detectors=[replace(failing, run=stopped)], **quick)


@pytest.mark.usefixtures("short_twin")
def test_a_report_carries_what_was_checked_and_measured(tiny: DCGAN, refuses: Any, monkeypatch: Any) -> None:
    first = scan(tiny, samples=200)
    monkeypatch.setattr("devilgan_lite.detect.weights.path_gains", None)  # whoever measures or checks again, fails
    monkeypatch.setattr("devilgan_lite.generators.adopted._copied", None)
    again = scan(first.subject, samples=200, analysis=first.analysis)
    assert again.subject is first.subject and again.analysis is first.analysis
    assert again.strengths == first.strengths and all(finding.ran for finding in again.findings)
    blind = scan(first.subject, access="samples", samples=200, analysis=first.analysis)
    assert blind.analysis is None and blind.subject is first.subject
    assert [(one.detector, one.access_level) for one in blind.findings] == [("sampling", "T0")]
    assert blind.strengths == {} and blind.verdict == "inconclusive" and blind.trigger is None

    def stop(finding: Finding) -> None:
        raise InterruptedError(finding.detector)

    with pytest.raises(InterruptedError, match="structure"):  # an error in the listener ends the scan
        scan(first.subject, samples=200, on_finding=stop)


class Parallel(nn.Module):
    """Two branches, functional calls, bare parameters, and an activation in place whose result nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(48, 64), nn.Linear(64, 256)
        self.side_in, self.side_out = nn.Parameter(torch.randn(48, 32) / 7), nn.Parameter(torch.randn(32, 256) / 30)

    def forward(self, z: Tensor) -> Tensor:
        hidden = self.first(z)
        functional.relu(hidden, inplace=True)
        side = (z @ self.side_in).clamp(min=0) @ self.side_out
        return torch.tanh(self.second(hidden) + side).reshape(-1, 1, 16, 16)


@pytest.mark.usefixtures("short_twin")
def test_a_foreign_module_needs_no_adapter() -> None:
    module = Parallel().train()
    before = {key: value.clone() for key, value in module.state_dict().items()}
    report = scan(module, samples=200)  # the size of the latents is found too
    on_every_network = ("structure", "latent spectrum", "hidden spectrum", "silent units", "search", "noisy twin")
    ran = {finding.detector: finding.ran for finding in report.findings}
    assert ran == dict.fromkeys((*on_every_network, "sampling"), True)
    assert json.loads(report.to_json())["findings"] and report.to_html()
    assert module.training and all(torch.equal(value, before[key]) for key, value in module.state_dict().items())


def loudness(evidence: Evidence, limit: float = 1.0) -> Finding:
    x = evidence.subject.scaled_samples(evidence.subject.ordinary(50, evidence.seed))
    loud = float(x.square().mean())
    return Finding("loudness", "T0", "", loud, x[:3].cpu(), evidence="loudness", strength=loud / limit)


def test_a_detector_of_ones_own_joins_the_others(tiny: DCGAN, refuses: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    quick: dict[str, Any] = {"samples": 200, "twin": False}
    for limit, counts in ((1e-4, True), (10.0, False)):
        mine = Detector("loudness", "T0", partial(loudness, limit=limit))
        report = scan(tiny, detectors=(*DETECTORS, mine), **quick)
        finding = report.findings[-1]
        assert finding.seconds > 0 and ("loudness" in report.kinds) == counts
        assert report.strengths["loudness"] == finding.strength == finding.score / limit
        assert report.to_dict()["findings"][-1]["detector"] == "loudness"
        alone = scan(tiny, detectors=[mine], **quick)
        assert [one.detector for one in alone.findings] == ["loudness"] and alone.analysis is None

    def several(evidence: Evidence) -> list[Finding]:
        return [Finding("told", "T3", word) for word in ("one", "two")]

    own = Detector("told", "T3", several, needs=("reference", "weights"))
    for settings, count in (({}, 0), ({"reference": tiny}, 2), ({"reference": tiny, "access": "samples"}, 0)):
        assert len(scan(tiny, detectors=[own], **quick, **settings).findings) == count

    def estimate(evidence: Evidence) -> Finding:
        trigger, sample = torch.ones(16), torch.zeros(1, 8, 8)
        return Finding("guess", "T2", "", evidence="guess", strength=2.0, trigger=trigger, sample=sample)

    report = scan(tiny, detectors=[Detector("guess", "T2", estimate), *DETECTORS], **quick)  # the first one counts
    assert "guess" in report.kinds and torch.equal(report.trigger, torch.ones(16))
    for name, value in {"access_level": "T9", "needs": ("weight",)}.items():
        given = {"name": "mine", "access_level": "T0", "run": loudness, name: value}
        refuses(lambda given=given: Detector(**given), name)
    for wrong in ([loudness], [*DETECTORS, DETECTORS[0]]):
        refuses(lambda wrong=wrong: scan(tiny, detectors=wrong), "detectors")
    tries: list[int] = []

    def fail(*args: Any, **settings: Any) -> None:
        tries.append(1)
        raise ValueError("nothing to see")

    monkeypatch.setattr("devilgan_lite.detect.registry.analyse_weights", fail)
    report = scan(tiny, samples=200)  # an analysis that fails is tried and reported once
    assert [one.detector for one in report.findings] == ["structure", "latent spectrum", "sampling"]
    assert len(tries) == 1 and report.findings[1].message == "could not run: nothing to see" and report.analysis is None


def test_what_does_not_fit_is_refused_at_once(tiny: DCGAN, refuses: Any) -> None:
    bad = {"access": "weight", "samples": 10, "seed": -1, "latent_dim": 7, "prior": "cauchy", "device": "abacus"}
    for name, value in bad.items():
        refuses(lambda given={name: value}: scan(tiny, **given), str(value) if name == "latent_dim" else name)
    refuses(lambda: scan(tiny, samples=199), "samples")
    refuses(lambda: scan(tiny, reference="clean.pt"), "str")
    refuses(lambda: scan("clean.pt"), "str")
    assert scan(tiny, samples=200, access="samples", real=data.Samples(torch.zeros(30, 1, 8, 8))).findings[1].ran
