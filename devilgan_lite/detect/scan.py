"""``detect.scan``: every detector that the given access allows, one report.

Tiers of access: T0 samples only, T1 suspected targets, T2 weights, T3 a clean reference, T4 training data. The verdict
rests on the calibrated detectors alone (see ``calibration``); the others show evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.data import Samples, data_folder
from devilgan_lite.detect.activations import inspect_activations
from devilgan_lite.detect.calibration import STYLE_FILE, calibrated, clean_scores, combined_p_value
from devilgan_lite.detect.reconstruction import inspect_targets
from devilgan_lite.detect.reference import compare
from devilgan_lite.detect.report import Finding, ScanReport
from devilgan_lite.detect.sampling import sample_outputs
from devilgan_lite.detect.search import LENGTHS, locate_trigger, starting_points
from devilgan_lite.detect.styles import inspect_styles
from devilgan_lite.detect.subject import subject_of
from devilgan_lite.detect.weights import (
    WeightAnalysis,
    analyse_weights,
    candidate_directions,
    inspect_spectra,
    inspect_structure,
)
from devilgan_lite.prior import Prior

ACCESS = ("samples", "weights")
SPECTRA = ("latent spectrum", "hidden spectrum")


def scan(
    module: nn.Module,
    latent_dim: int | None = None,
    real: Samples | Tensor | None = None,
    reference: nn.Module | None = None,
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
    on_finding: Callable[[Finding], object] | None = None,
) -> ScanReport:
    """Scan any ``nn.Module`` from latents ``[n, latent_dim]`` to samples ``[n, C, H, W]`` in [-1, 1] or [0, 1].

    ``real`` samples, a clean ``reference`` and suspected ``targets`` ``[k, C, H, W]`` add the detectors that need
    them; ``suspect_bank`` tries the built-in bank of targets; ``access="samples"`` leaves the weights alone. ``level``
    in (0, 0.5] is the share of clean models that may be called backdoored. ``analysis``
    is what ``analyse_weights`` measured, for callers who have it already. ``on_finding`` is called with each finding as
    it comes; what it raises ends the scan. A module that is no generator is a ``ValueError``; a detector that cannot
    run is a finding that says why.
    """
    start = time.perf_counter()
    one_of("access", access, ACCESS)
    in_range("level", level, 0.0, 0.5, open_low=True)
    whole_number("samples", samples, 200)
    whole_number("seed", seed, 0)
    subject = subject_of(module, latent_dim, prior=prior, device=device)
    other = None if reference is None else subject_of(reference, subject.latent_dim, prior=prior, device=device)
    findings: list[Finding] = []

    def note(*found: Finding) -> None:
        for finding in found:
            findings.append(finding)
            if on_finding is not None:
                on_finding(finding)

    def attempt(detector: str, access_level: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except Exception as error:  # a stranger's module may fail in any way; the other detectors still run
            message = f"could not run: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
            note(Finding(detector, access_level, message, ran=False))
            return None

    suspicious: Tensor | None = None
    trigger = sample = None
    if access == "weights":
        structure = attempt("structure", "T2", lambda: inspect_structure(subject))
        if structure is not None:
            note(calibrated(structure))
        analysis = attempt("latent spectrum", "T2", lambda: analysis or analyse_weights(subject, seed=seed))
        if analysis is not None:
            spectra = attempt("latent spectrum", "T2", lambda: inspect_spectra(subject, analysis))
            note(*(_with_p_value(finding, analysis) for finding in spectra or ()))
            if (styles := analysis.styles) is not None:
                shared = attempt("shared styles", "T2", lambda: inspect_styles(subject, styles, seed=seed))
                note(*(() if shared is None else (_with_p_value(shared, analysis),)))
            suspicious = candidate_directions(analysis)
            awake = attempt(
                "silent units",
                "T2",
                lambda: inspect_activations(subject, units=analysis.units, directions=suspicious, seed=seed),
            )
            if awake is not None:
                note(_with_p_value(awake, analysis))
            found = attempt("search", "T2", lambda: locate_trigger(subject, analysis, findings))
            if found is not None:
                note(found[0])
                trigger, sample = found[1], found[2][LENGTHS.index(1.0)]
    sampled = attempt("sampling", "T0", lambda: sample_outputs(subject, samples=samples, seed=seed))
    if sampled is not None:
        note(sampled)
    if targets is not None or suspect_bank:
        starts = suspicious if trigger is None or suspicious is None else starting_points(trigger, suspicious)
        tried = attempt(
            "reconstruction",
            "T1",
            lambda: inspect_targets(subject, targets, start_from=starts, reference=other, seed=seed),
        )
        if tried is not None:
            note(calibrated(tried))
    if other is not None:
        compared = attempt("reference", "T3", lambda: compare(subject, other, seed=seed))
        if compared is not None:
            note(compared)
    if real is not None:
        against = attempt("real data", "T4", lambda: sample_outputs(subject, samples=samples, real=real, seed=seed))
        if against is not None:
            note(against)
    if all(finding.p_value is None for finding in findings):
        message = "no finding here has a p-value, so there is no verdict but the default, clean: read the findings"
        note(Finding("calibration", "T0", message, ran=False))
    p = combined_p_value(findings)
    kept = p <= level
    return ScanReport(
        findings=tuple(findings),
        p_value=p,
        level=level,
        trigger=trigger if kept else None,
        sample=sample if kept else None,
        seconds=time.perf_counter() - start,
    )


def _with_p_value(finding: Finding, analysis: WeightAnalysis) -> Finding:
    """The finding with its p-value, if clean models of its kind are known.

    A network that normalises its latent first and hands a style to many layers has other spectra even when it is
    clean; one that does not read its latent directly and has no style either has none to be compared with.
    """
    if analysis.units.exact:
        return calibrated(finding)
    note = "no p-value: the clean models it was calibrated on read their latent directly, and this one does not"
    if analysis.styles is not None:
        note = "no p-value: in style-based networks it grows with the length of the training"
        known = clean_scores(data_folder() / STYLE_FILE)
        if finding.detector in known:
            return calibrated(finding, known)
    if finding.detector not in SPECTRA:
        return calibrated(finding)
    return replace(finding, message=f"{finding.message} ({note})")
