"""``detect.scan``: every detector that the given access allows, one report.

Levels of access: T0 samples only, T1 suspected targets, T2 weights, T3 a clean reference, T4 training data. The verdict
rests on the findings with a p-value alone (see ``calibration``); the others show evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from torch import Tensor, nn

from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.deprecation import renamed
from devilgan_lite.detect.calibration import combined_p_value, with_p_value
from devilgan_lite.detect.registry import DETECTORS, NEEDS, Detector, Evidence
from devilgan_lite.detect.report import Finding, ScanReport
from devilgan_lite.detect.subject import Subject, subject_of
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.prior import Prior

ACCESS = ("samples", "weights")


@renamed(law="prior", measured="analysis")
def scan(
    module: nn.Module | Subject,
    latent_dim: int | None = None,
    real: Samples | Tensor | None = None,
    reference: nn.Module | Subject | None = None,
    targets: Tensor | None = None,
    *,
    access: str = "weights",
    suspect_bank: bool = False,
    prior: str | Prior | None = None,
    level: float = 0.05,
    samples: int = 5_000,
    seed: int = 0,
    device: str = "cpu",
    analysis: WeightAnalysis | None = None,
    detectors: Sequence[Detector] = DETECTORS,
    on_finding: Callable[[Finding], object] | None = None,
) -> ScanReport:
    """Scan any ``nn.Module`` from latents ``[n, latent_dim]`` to samples ``[n, *shape]`` in [-1, 1] or [0, 1].

    ``real`` samples, a clean ``reference`` and suspected ``targets`` ``[k, *shape]`` add the detectors that need
    them; ``suspect_bank`` tries the targets that the suspect's modality has names for; ``access="samples"`` leaves the
    weights alone. ``level`` in (0, 0.5] is the share of clean models that may be called backdoored. ``analysis`` is
    what ``analyse_weights`` measured of the same ``seed``, for callers who have it already. ``detectors`` run in this
    order; ``(*DETECTORS, mine)`` adds one. ``on_finding`` is called with each finding as it comes; what it raises ends
    the scan. A module that is no generator is a ``ValueError``; a detector that cannot run is a finding that says why.
    """
    start = time.perf_counter()
    one_of("access", access, ACCESS)
    in_range("level", level, 0.0, 0.5, open_low=True)
    whole_number("samples", samples, 200)
    whole_number("seed", seed, 0)
    names = [one.name for one in detectors if isinstance(one, Detector)]
    if len(set(names)) < len(detectors):
        raise ValueError(f"detectors={str(detectors)[:80]} must be detect.Detector objects, each with its own name.")
    subject = subject_of(module, latent_dim, prior=prior, device=device)
    other = None if reference is None else subject_of(reference, subject.latent_dim, prior=prior, device=device)
    evidence = Evidence(subject, other, real, targets, suspect_bank, access, samples, seed)
    evidence.measured = analysis if access == "weights" else None

    def note(finding: Finding) -> None:
        evidence.findings.append(finding)
        if on_finding is not None:
            on_finding(finding)

    for detector in detectors:
        for finding in _run(detector, evidence):
            note(finding)
    if all(finding.p_value is None for finding in evidence.findings):
        message = "no finding here has a p-value, so there is no verdict but the default, clean: read the findings"
        note(Finding("calibration", "T0", message, ran=False))
    p = combined_p_value(evidence.findings, detectors)
    best = evidence.best if p <= level else None
    return ScanReport(
        findings=tuple(evidence.findings),
        p_value=p,
        level=level,
        trigger=None if best is None else best.trigger,
        sample=None if best is None else best.sample,
        seconds=time.perf_counter() - start,
        subject=subject,
        analysis=evidence.measured,
    )


def _run(detector: Detector, evidence: Evidence) -> list[Finding]:
    """The findings of one detector with their p-values; one that says why, where it could not run."""
    start = time.perf_counter()
    try:
        if not all(NEEDS[need](evidence) for need in detector.needs):
            return []
        found = detector.run(evidence)
        several = [found] if isinstance(found, Finding) else list(found)
        judged = [with_p_value(finding, detector, evidence.measured) for finding in several]
        return [replace(finding, seconds=(time.perf_counter() - start) / len(judged)) for finding in judged]
    except Exception as error:  # a stranger's module may fail in any way; the other detectors still run
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        return [Finding(detector.name, detector.access_level, f"could not run: {reason}", ran=False)]
