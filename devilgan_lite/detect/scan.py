"""``detect.scan``: every detector that the given access allows, one report.

Levels of access: T0 samples only, T1 suspected targets, T2 weights, T3 a clean reference, T4 training data. The verdict
rests on the findings that have a say (see ``report``); each compares the suspect with its own ordinary behaviour.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect.detector import NEEDS, Detector, Finding
from devilgan_lite.detect.registry import DETECTORS, Evidence
from devilgan_lite.detect.report import ScanReport
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import Generator, adopt
from devilgan_lite.prior import Prior

ACCESS = ("samples", "weights")


def _doubts(evidence: Evidence) -> list[Finding]:
    doubts = evidence.subject.doubts
    return [Finding(SUBJECT.name, SUBJECT.access_level, doubts, ran=False, open=True)] if doubts else []


SUBJECT = Detector("subject", "T0", _doubts, asks="Can the module be judged at all?")  # every scan begins with it


def scan(
    module: nn.Module | Generator,
    latent_dim: int | None = None,
    real: Samples | Tensor | None = None,
    reference: nn.Module | Generator | None = None,
    targets: Tensor | None = None,
    *,
    access: str = "weights",
    suspect_bank: bool = False,
    prior: str | Prior | None = None,
    samples: int = 5_000,
    seed: int = 0,
    twin: bool = True,
    device: str = "cpu",
    analysis: WeightAnalysis | None = None,
    detectors: Sequence[Detector] = DETECTORS,
    on_finding: Callable[[Finding], object] | None = None,
) -> ScanReport:
    """Scan any ``nn.Module`` from latents ``[n, latent_dim]`` to samples ``[n, *shape]``.

    ``real`` samples, a clean ``reference`` and suspected ``targets`` ``[k, *shape]`` add the detectors that need
    them; ``suspect_bank`` tries the targets that the suspect's modality has names for; ``access="samples"`` leaves the
    weights alone. Without ``twin`` it takes seconds, and nothing is called more than suspicious: there is no witness.
    ``analysis`` is what ``analyse_weights`` measured of the same ``seed``, if you have it. ``detectors`` run in this
    order; ``(*DETECTORS, mine)`` adds one. ``on_finding`` is called with each finding as it comes; what it raises ends
    the scan. A module that is no generator is a ``ValueError``; a detector that cannot run is a finding that says why.
    """
    start = time.perf_counter()
    one_of("access", access, ACCESS)
    whole_number("samples", samples, 200)
    whole_number("seed", seed, 0)
    names = [one.name for one in detectors if isinstance(one, Detector)]
    if len(set(names)) < len(detectors):
        raise ValueError(f"detectors={str(detectors)[:80]} must be detect.Detector objects, each with its own name.")
    subject = adopt(module, latent_dim, prior=prior, device=device)
    other = None if reference is None else adopt(reference, subject.latent_dim, prior=prior, device=device)
    evidence = Evidence(subject, other, real, targets, suspect_bank, access, samples, seed, twin)
    evidence.measured = analysis if access == "weights" else None

    def note(finding: Finding) -> None:
        evidence.findings.append(finding)
        if on_finding is not None:
            on_finding(finding)

    for detector in (SUBJECT, *detectors):
        for finding in _run(detector, evidence):
            note(finding)
    ran = {finding.detector for finding in evidence.findings}
    report = ScanReport(
        findings=tuple(evidence.findings),
        seconds=time.perf_counter() - start,
        subject=subject,
        analysis=evidence.measured,
        twin=next((finding.twin for finding in evidence.findings if finding.twin is not None), None),
        witness=next((finding.witness for finding in evidence.findings if finding.witness is not None), None),
        missing=tuple(one.missing for one in detectors if one.missing and one.name not in ran),
    )
    best = evidence.best if report.kinds else None
    return report if best is None else replace(report, trigger=best.trigger, sample=best.sample)


def _run(detector: Detector, evidence: Evidence) -> list[Finding]:
    """The findings of one detector; one that says why, where it could not run."""
    start = time.perf_counter()
    try:
        if not all(NEEDS[need](evidence) for need in detector.needs):
            return []
        found = detector.run(evidence)
        several = [found] if isinstance(found, Finding) else list(found)
        if not evidence.subject.repeatable:  # what was measured may be noise, so it has no say
            several = [replace(finding, evidence="") for finding in several]
        seconds = (time.perf_counter() - start) / max(1, len(several))
        return [replace(one, seconds=seconds, asks=detector.asks, caption=detector.caption) for one in several]
    except Exception as error:  # a stranger's module may fail in any way; the other detectors still run
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        message = f"could not run: {reason}"
        failed = Finding(detector.name, detector.access_level, message, ran=False, open=detector.opens)
        return [replace(failed, asks=detector.asks)]
