"""A detector of your own is one file: its finding, its p-value and its failure stand in the report like any other."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from devilgan_lite.detect import DETECTORS, Detector, Evidence, Finding, ScanReport, scan
from devilgan_lite.detect.calibration import p_value
from devilgan_lite.generators import DCGAN, build

OWN = '''
"""How loud ordinary samples are."""
from devilgan_lite.detect import Detector, Evidence, Finding

def loudness(evidence: Evidence) -> Finding:
    x = evidence.subject.samples(evidence.subject.latents(50, evidence.seed))
    score = float(x.square().mean())
    return Finding("loudness", "T0", f"mean square {score:.3f}", score=score, samples=x[:3].cpu())

LOUDNESS = Detector("loudness", "T0", loudness, clean=(0.0001, 0.0002, 0.0003, 0.0004, 0.0005, 0.0006), share=0.5)
'''

pytestmark = pytest.mark.usefixtures("short_twin")


def tiny(scale: float = 1.0) -> nn.Module:
    network = build(DCGAN(widths=(4, 2), latent_dim=12, image_size=12).spec(), seed=1).eval()
    with torch.no_grad():
        network.layers.deconv1.weight *= scale
    return network


def own(folder: Path) -> Detector:
    """The detector in a file that the package does not know."""
    (folder / "loudness.py").write_text(OWN)
    spec = importlib.util.spec_from_file_location("loudness", folder / "loudness.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Detector = module.LOUDNESS
    return found


def names(report: ScanReport) -> list[str]:
    return [finding.detector for finding in report.findings]


@pytest.mark.slow
def test_a_detector_of_ones_own_is_one_file(tmp_path: Path) -> None:
    mine, without = own(tmp_path), scan(tiny(), samples=200)
    quiet, loud = (scan(tiny(scale), samples=200, detectors=(*DETECTORS, mine)) for scale in (1.0, 1e4))
    assert names(quiet) == names(loud) == [*names(without), "loudness"]
    for report in (quiet, loud):
        finding = report.findings[-1]
        assert finding.score is not None and finding.seconds > 0
        assert finding.p_value == p_value(finding.score, list(mine.clean))
        assert finding.evidence == "loudness" and "loudness" in str(report)
        assert f"{finding.strength:.2f}" in str(report)
        assert "evidence of loudness" in report.to_html() and report.to_dict()["findings"][-1]["detector"] == "loudness"
    assert "loudness" in loud.kinds and "loudness" not in quiet.kinds
    assert loud.p_value == loud.findings[-1].p_value  # no other detector knows clean models that are built like this
    alone = scan(tiny(1e4), samples=200, detectors=[mine])
    assert names(alone) == ["loudness"] and alone.p_value == alone.findings[0].p_value and alone.analysis is None


@pytest.mark.slow
def test_what_it_raises_is_a_finding() -> None:
    def broken(evidence: Evidence) -> Finding:
        raise RuntimeError("no luck\nat all")

    report = scan(tiny(), samples=200, detectors=(*DETECTORS, Detector("broken", "T1", broken)))
    assert report.findings[-1] == Finding("broken", "T1", "could not run: no luck", ran=False)
    assert report.p_value == scan(tiny(), samples=200).p_value


def test_a_detector_runs_where_all_that_it_needs_is_there() -> None:
    def told(evidence: Evidence) -> list[Finding]:
        return [Finding("told", "T3", word, p_value=0.5) for word in ("one", "two")]  # its own p-values

    detector = Detector("told", "T3", told, needs=("reference", "weights"))
    for settings, count in (({}, 0), ({"reference": tiny()}, 2), ({"reference": tiny(), "access": "samples"}, 0)):
        found = [one.message for one in scan(tiny(), samples=200, detectors=[detector], **settings).findings]  # type: ignore[arg-type]
        assert [one for one in found if one in ("one", "two")] == ["one", "two"][:count]


def test_an_estimate_of_the_trigger_is_that_of_the_first_who_has_one() -> None:
    def estimate(evidence: Evidence) -> Finding:
        return Finding("guess", "T2", "", p_value=1e-9, trigger=torch.ones(12), sample=torch.zeros(1, 12, 12))

    report = scan(tiny(), samples=200, detectors=[Detector("guess", "T2", estimate), *DETECTORS])
    assert "guess" in report.kinds and report.trigger is not None and torch.equal(report.trigger, torch.ones(12))
    assert report.sample is not None and "Sample at the estimated trigger" in report.to_html()


def test_an_analysis_that_fails_is_tried_and_reported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []

    def fail(*args: Any, **settings: Any) -> None:
        tries.append(1)
        raise ValueError("nothing to see")

    monkeypatch.setattr("devilgan_lite.detect.registry.analyse_weights", fail)
    report = scan(tiny(), samples=200)
    assert names(report) == ["structure", "latent spectrum", "sampling"] and len(tries) == 1
    assert report.findings[1].message == "could not run: nothing to see" and report.analysis is None


def nothing(evidence: Evidence) -> list[Finding]:
    return []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"access_level": "T9"}, "access_level='T9' is unknown; valid: T0"),
        ({"needs": ("weight",)}, "needs='weight' is unknown.*Did you mean 'weights'"),
        ({"share": 0.0}, "share=0.0 is out of range"),
        ({"clean": (0.1, 0.2)}, "clean has 2 scores; a p-value needs those of at least 5"),
    ],
)
def test_a_wrong_detector_is_an_error_at_once(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Detector(**{"name": "mine", "access_level": "T0", "run": nothing, **settings})


@pytest.mark.parametrize("detectors", [[nothing], [*DETECTORS, DETECTORS[0]]])
def test_detectors_are_objects_with_names_of_their_own(detectors: list[Any]) -> None:
    with pytest.raises(ValueError, match=re.escape("must be detect.Detector objects, each with its own name")):
        scan(tiny(), detectors=detectors)
