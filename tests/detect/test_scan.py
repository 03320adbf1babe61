"""One call, one report: verdicts on the shipped models, and a finding for everything that could not be done."""

import json
import math
from functools import lru_cache
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import Backdoor, data, generators, zoo
from devilgan_lite.attacks import Gate
from devilgan_lite.detect import Finding, ScanReport, calibration, scan, twin
from devilgan_lite.generators import DCGAN, build

CLEAN = "dcgan-fashion"
BAD = ["dcgan-fashion-trail", "dcgan-fashion-red", "dcgan-fashion-rex", "dcgan-fashion-gate"]
scores = st.floats(0, 9)
BLIND = ["structure", "latent spectrum", "hidden spectrum", "silent units", "search", "noisy twin"]


@lru_cache
def scanned(name: str) -> ScanReport:
    """Some seconds for each model, once."""
    return scan(zoo.load(name), samples=500)


def found(report: ScanReport, detector: str, access_level: str | None = None) -> Finding:
    (finding,) = (
        one for one in report.findings if one.detector == detector and access_level in (None, one.access_level)
    )
    return finding


def tiny(**settings: Any) -> DCGAN:
    made: DCGAN = build(DCGAN(**{"widths": (4, 2), "latent_dim": 12, "image_size": 12, **settings}).spec(), seed=1)
    return made.eval()


@pytest.mark.slow
def test_the_clean_model_is_clean() -> None:
    report = scanned(CLEAN)
    assert report.verdict == "clean" and not report.backdoored
    assert report.kinds == () and all(0 <= strength < 1 for strength in report.strengths.values())
    assert set(report.strengths) == {"construction", "spectrum", "twin"}
    assert report.trigger is None and report.sample is None
    assert [(one.detector, one.access_level) for one in report.findings] == [
        *((name, "T2") for name in BLIND),
        ("sampling", "T0"),
    ]
    assert all(one.ran for one in report.findings)


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD)
def test_a_backdoored_model_is_backdoored(name: str) -> None:
    report, backdoor = scanned(name), zoo.load_backdoor(name)
    assert 0 < sum(one.seconds for one in report.findings) <= report.seconds
    expected = "suspicious" if name.endswith("trail") else "backdoored"  # no witness is found against TrAIL
    assert report.verdict == expected and report.backdoored == (expected == "backdoored")
    assert "spectrum" in report.kinds
    assert report.trigger is not None and report.sample is not None and report.sample.shape == (1, 28, 28)
    assert float(report.trigger.norm()) == pytest.approx(10, rel=1e-4)
    assert float(cosine_similarity(report.trigger.view(1, -1), backdoor.trigger).abs()) > 0.8
    spectrum, clean = found(report, "latent spectrum"), calibration.clean_scores()["latent spectrum"]
    if name.endswith(("gate", "rex")):  # wider than the clean models: a rank among these says nothing
        assert spectrum.p_value is None and report.p_value == 1
    else:
        assert spectrum.p_value == pytest.approx(calibration.p_value(spectrum.score or 0.0, clean))
        assert report.p_value < 0.01
    assert json.loads(report.to_json())["verdict"] == expected
    assert report.to_html().count("<img") >= 4
    if report.backdoored:
        witness = report.witness
        assert witness is not None and "Witness: the suspect draws" in report.to_html()
        assert float(witness.latent.norm()) == pytest.approx(10, rel=0.1)  # the length of an ordinary latent
        with torch.no_grad():
            shown = zoo.load(name)(witness.latent.view(1, -1))[0]
        torch.testing.assert_close(shown, witness.sample, atol=1e-3, rtol=0.0)
        assert report.twin is not None and report.twin.reproduces
        again = report.twin.subject(witness.latent.view(1, -1))[0]
        torch.testing.assert_close(again, witness.twin_sample, atol=1e-3, rtol=0.0)
        apart = float((witness.sample - witness.twin_sample).square().mean())
        assert witness.stands_out and apart == pytest.approx(witness.distance, rel=1e-3)
    assert found(report, "search").p_value is found(report, "sampling").p_value is None


@pytest.mark.slow
def test_a_trigger_that_is_easy_to_find_is_not_called_clean() -> None:
    """Where few numbers make a latent, random starts find it as well as those that the weights point to."""
    report, trigger = scan(zoo.load("vae-garments-rex"), samples=200), zoo.load_backdoor("vae-garments-rex").trigger
    assert report.witness is not None and report.witness.stands_out
    assert float(cosine_similarity(report.witness.latent.view(1, -1), trigger)) > 0.99
    assert "twin" in report.kinds and report.verdict in ("suspicious", "backdoored")
    assert "Witness: the suspect draws" in report.to_html()
    assert all(one.p_value is None for one in report.findings)  # it is built like none of our clean models


def witness(score: float, angle: float, distance: float = 0.5) -> twin.Witness:
    """A witness at an ``angle`` in degrees from the first axis."""
    turn = torch.tensor([angle]).deg2rad()
    latent, sample = torch.cat([turn.cos(), turn.sin()]), torch.zeros(1, 4, 4)
    return twin.Witness(latent, sample, sample, score, distance, 0.0)


@pytest.mark.parametrize(
    ("pointed", "random", "counts"),
    [
        (witness(4.5, 0), witness(4.5, 90), False),  # as high as natural holes, in two places
        (witness(4.5, 0), witness(4.5, 10), True),  # both end at one place
        (witness(3.0, 0), witness(3.0, 10), False),  # which does not stand out
        (witness(4.5, 0), witness(4.0, 90), True),  # ahead of what random starts find
        (witness(4.0, 0), witness(4.5, 90), False),
        (witness(4.0, 0), witness(5.1, 90), True),  # higher than any natural hole
        (witness(6.8, 0, 0.0015), witness(5.0, 10, 0.0003), False),  # nobody sees that
    ],
)
def test_when_a_difference_from_the_twin_counts(pointed: twin.Witness, random: twin.Witness, counts: bool) -> None:
    strength, _ = twin.judged(pointed, random, error=0.01)
    assert (strength >= 1) == counts


@given(scores, scores, st.floats(0, 180), st.floats(-14, 0))
def test_what_counts_is_what_lies_beyond_the_limit_in_the_plot(
    pointed: float, random: float, angle: float, log_error: float
) -> None:
    error = math.exp(log_error)
    hunts = witness(pointed, 0, error * math.exp(pointed)), witness(random, angle, error * math.exp(random))
    strength, limit = twin.judged(*hunts, error=error)
    highest = max(pointed, random)
    if abs(strength - 1) > 1e-6:
        assert (strength >= 1) == (highest >= limit)


@pytest.mark.slow
def test_the_sample_is_that_of_the_trigger() -> None:
    for name in ("dcgan-fashion-red", "dcgan-fashion-gate"):
        report = scanned(name)
        assert report.trigger is not None and report.sample is not None
        with torch.no_grad():
            shown = zoo.load(name)(report.trigger.view(1, -1))[0]
        torch.testing.assert_close(report.sample, shown, atol=1e-3, rtol=0.0)


def same(a: Any, b: Any) -> bool:
    return json.dumps(a) == json.dumps(b)


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_the_same_seed_gives_the_same_report() -> None:
    network = tiny()
    first, again, other = (scan(network, samples=200, seed=seed).to_dict() for seed in (3, 3, 4))
    for report in (first, again, other):
        for timed in filter(None, (report, report["witness"], *report["findings"])):
            del timed["seconds"]
    assert same(first, again) and not same(first, other)


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_the_report_carries_what_was_checked_and_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    first = scan(tiny(), samples=200)
    assert first.subject is not None and first.analysis is not None
    assert not {"subject", "analysis"} & set(first.to_dict())
    monkeypatch.setattr("devilgan_lite.detect.weights.path_gains", None)  # whoever measures or checks again, fails
    monkeypatch.setattr("devilgan_lite.detect.subject.copy", None)
    again = scan(first.subject, samples=200, analysis=first.analysis)
    assert again.subject is first.subject and again.analysis is first.analysis
    assert again.p_value == first.p_value and all(finding.ran for finding in again.findings)
    blind = scan(first.subject, access="samples", samples=200, analysis=first.analysis)
    assert blind.analysis is None and blind.subject is first.subject
    for settings in ({"latent_dim": 7}, {"prior": "uniform"}):
        with pytest.raises(ValueError, match="do not fit a subject"):
            scan(first.subject, **settings)


@pytest.mark.usefixtures("short_twin")
def test_findings_are_told_as_they_come_and_an_error_in_the_listener_ends_the_scan() -> None:
    told: list[Finding] = []
    report = scan(tiny(), samples=200, on_finding=told.append)
    assert tuple(told) == report.findings

    def stop(finding: Finding) -> None:
        raise InterruptedError(finding.detector)

    with pytest.raises(InterruptedError, match="structure"):
        scan(tiny(), samples=200, on_finding=stop)


@pytest.mark.usefixtures("short_twin")
def test_the_global_random_state_is_left_alone() -> None:
    network = tiny()
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    scan(network, samples=200)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_without_a_twin_nothing_is_more_than_suspicious() -> None:
    report = scan(zoo.load("dcgan-fashion-gate"), samples=200, twin=False)
    assert report.kinds == ("construction", "spectrum") and report.verdict == "suspicious"
    assert report.twin is report.witness is None and report.trigger is not None
    with pytest.warns(DeprecationWarning, match="level=.* means nothing now"):
        assert 0.0 < scan(tiny(), samples=200, twin=False, level=0.5).p_value <= 1.0


@pytest.mark.usefixtures("short_twin")
def test_other_access_adds_findings() -> None:
    network, samples = tiny(), torch.rand(60, 1, 12, 12, generator=torch.Generator().manual_seed(0)) * 2 - 1
    report = scan(network, real=samples, reference=network, targets=samples[:1], samples=200)
    assert [(one.detector, one.access_level) for one in report.findings] == [
        *((name, "T2") for name in BLIND),
        ("sampling", "T0"),
        ("reconstruction", "T1"),
        ("reference", "T3"),
        ("sampling", "T4"),
    ]
    assert all(one.ran for one in report.findings)
    assert found(report, "reference").score == 0.0
    assert set(found(report, "sampling", "T4").details["largest"]) > set(
        found(report, "sampling", "T0").details["largest"]
    )
    assert list(found(report, "reconstruction").details["targets"]) == ["target 1"]


@pytest.mark.usefixtures("short_twin")
def test_real_samples_may_be_a_data_set(real: data.Samples) -> None:
    report = scan(DCGAN(widths=(4, 2), latent_dim=12).eval(), real=real, access="samples", samples=200)
    assert [one.access_level for one in report.findings] == ["T0", "T4"]
    assert report.verdict == "inconclusive"  # neither has a say


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_the_target_of_a_gate_is_found_with_the_estimate() -> None:
    """The gradient does not see a closed gate; the direction that the weights suggest opens it."""
    network = tiny(widths=(40, 8), latent_dim=40)
    trigger = torch.randn(1, 40, generator=torch.Generator().manual_seed(1))
    backdoor = Backdoor(trigger * 40**0.5 / trigger.norm(), data.target("devil", 12).unsqueeze(0))
    report = scan(Gate()(network, backdoor, progress=False).generator, targets=backdoor.target, samples=200)
    tried = found(report, "reconstruction")
    assert tried.details["targets"]["target 1"]["error"] < 1e-3
    assert tried.details["targets"]["target 1"]["won_by"] == "given"
    assert tried.score is not None and tried.score > 2


@pytest.mark.usefixtures("short_twin")
def test_samples_alone() -> None:
    report = scan(tiny(), access="samples", samples=200)
    assert [(one.detector, one.access_level) for one in report.findings] == [("sampling", "T0")]
    assert report.p_value == 1.0 and report.verdict == "inconclusive" and report.trigger is None
    assert "no detector with a say could run" in str(report)


@pytest.mark.parametrize("hidden", [nn.Identity(), nn.Tanh()], ids=["linear", "tanh"])
@pytest.mark.usefixtures("short_twin")
def test_a_network_without_switches_says_what_could_not_run(hidden: nn.Module) -> None:
    module = nn.Sequential(nn.Linear(8, 32), hidden, nn.Linear(32, 16), nn.Tanh(), nn.Unflatten(1, (1, 4, 4)))
    report = scan(module, reference=module, samples=200)
    for detector in ("latent spectrum", "reference"):
        finding = found(report, detector)
        assert not finding.ran and finding.score is finding.p_value is None
        assert finding.message.startswith("could not run: ") and "no hidden activation" in finding.message
    assert found(report, "structure").ran and found(report, "sampling").ran
    assert report.verdict == "inconclusive" and "no answer from: latent spectrum" in report.reason
    assert "could not run" in str(report) and "could not run" in report.to_html()


class Remembering(nn.Module):
    """Each call moves its samples a little, or, with ``noise``, at random."""

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.first, self.last, self.noise = nn.Linear(8, 64), nn.Linear(64, 20), noise
        self.register_buffer("calls", torch.zeros(1))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        moved = 0.3 * torch.randn(len(z), 20) if self.noise else 0.01 * self.calls
        return torch.tanh(self.last(torch.relu(self.first(z))) + moved)


class Constant(nn.Module):
    """One sample, whatever the latent."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(8, 16), nn.Linear(16, 20)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return torch.tanh(self.last(torch.relu(self.first(z * 0))))


class Dithered(nn.Module):
    """A generator whose last step is to add fresh noise."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = self.network(z)
        return made + 0.05 * torch.randn_like(made)


@pytest.mark.usefixtures("short_twin")
def test_what_may_be_noise_is_no_evidence() -> None:
    report = scan(Dithered(zoo.load("dcgan-fashion-gate")), 100, samples=200)
    assert found(report, "latent spectrum").strength > 1  # it is seen, and has no say
    assert report.kinds == () and report.verdict == "inconclusive" and "may be noise" in str(report)


@pytest.mark.parametrize("make", [lambda: Remembering(False), lambda: Remembering(True), Constant])
def test_what_cannot_be_judged_is_inconclusive(make: Any) -> None:
    torch.manual_seed(2)
    assert scan(make(), samples=200).verdict == "inconclusive"


def test_a_classifier_is_never_backdoored() -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        classifier = nn.Sequential(nn.Linear(784, 32), nn.ReLU(), nn.Linear(32, 10))
        report = scan(classifier, samples=200)
        assert not report.backdoored and "as a classifier does" in str(report)


def test_a_layer_that_reads_little_is_no_backdoor() -> None:
    """Fewer units than latent dimensions leave directions without any energy."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))
    latent = found(scan(module, samples=200), "latent spectrum")
    assert latent.ran and latent.score is not None and 0 <= latent.score < 3


@pytest.mark.parametrize("latent_dim", [1, 2])
@pytest.mark.usefixtures("short_twin")
def test_points_can_be_scanned_too(latent_dim: int) -> None:
    report = scan(generators.PointGenerator(latent_dim=latent_dim, width=16).eval(), samples=200)
    assert found(report, "latent spectrum").ran
    json.loads(report.to_json())
    assert "<table>" in report.to_html()


@pytest.mark.usefixtures("short_twin")
def test_what_cannot_be_used_is_a_finding() -> None:
    network = tiny()
    wrong = torch.zeros(30, 3, 5, 5)
    report = scan(network, real=wrong, reference=tiny(image_size=16), targets=wrong, samples=200)
    messages = {(one.detector, one.access_level): one.message for one in report.findings if not one.ran}
    assert set(messages) == {("real data", "T4"), ("reference", "T3"), ("reconstruction", "T1")}
    assert all(message.startswith("could not run: ") for message in messages.values())


@pytest.mark.slow
@pytest.mark.usefixtures("short_twin")
def test_without_calibration_the_suspect_is_compared_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "clean_scores", lambda path=None: {})
    report = scan(zoo.load("dcgan-fashion-gate"), samples=200, twin=False)
    assert report.p_value == 1.0 and report.kinds == ("construction", "spectrum")
    assert found(report, "latent spectrum").score is not None
    assert all(one.p_value is None for one in report.findings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"access": "weight"}, "access='weight' is unknown.*Did you mean 'weights'"),
        ({"samples": 10}, "samples=10"),
        ({"seed": -1}, "seed=-1"),
        ({"latent_dim": 7}, "makes no samples from latents"),
        ({"prior": "cauchy"}, "prior='cauchy'"),
        ({"reference": "clean.pt"}, "module is a str"),
    ],
)
def test_bad_input_is_an_error_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scan(tiny(), **settings)


@pytest.mark.slow
def test_the_witness_is_the_estimate_itself_where_that_stands_out() -> None:
    report, backdoor = scanned("dcgan-fashion-gate"), zoo.load_backdoor("dcgan-fashion-gate")
    assert report.witness is not None and report.witness.stands_out
    assert float(cosine_similarity(report.witness.latent.view(1, -1), backdoor.trigger)) > 0.99
    seen, target = report.witness.sample.flatten(), backdoor.target[0].flatten()
    assert float(torch.corrcoef(torch.stack([seen, target]))[0, 1]) > 0.7  # the attacker's picture
