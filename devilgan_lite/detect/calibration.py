"""p-values: how often clean models score as high. The scores of the clean models ship with the data.

There are two families: networks that read their latent directly (``data/calibration.json``, which
``scripts/bench/detect.py --calibrate`` makes) and style-based ones, which normalise it first and hand a style to many
layers (``data/calibration_style.json``, ``scripts/bench/style.py --calibrate``). Both files come from models for
tuning; those on which the detectors are judged have no part in them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from devilgan_lite.data import data_folder
from devilgan_lite.detect.registry import DETECTORS, FEWEST, Detector
from devilgan_lite.detect.report import Finding
from devilgan_lite.detect.weights import WeightAnalysis

FILE, STYLE_FILE = "calibration.json", "calibration_style.json"
FLOOR = 1e-12  # smaller probabilities say nothing with some dozens of clean models
LEAST_EXCESS = 0.01  # where the largest clean scores are all but equal


@lru_cache(maxsize=4)
def clean_scores(path: Path | None = None) -> dict[str, list[float]]:
    """Detector -> its scores on clean models; empty where the file is not there."""
    path = path or data_folder() / FILE
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text())
    return {name: [float(score) for score in scores] for name, scores in content["scores"].items()}


def p_value(score: float, clean: list[float]) -> float:
    """The probability that a clean model scores ``score`` or more, given the scores of some: conformal.

    Where ``k`` of ``n`` clean scores are as large, ``(k + 1) / (n + 1)``: for a new clean model this is below any level
    at most as often as the level says, whatever the distribution. Above all of them ``1 / (n + 1)`` times
    ``(largest / score)^a``, the tail of a power law, with Hill's estimate of ``a`` from the upper quarter of the clean
    scores: that part is extrapolation, and a cautious one.
    """
    n = len(clean)
    if n < FEWEST:
        raise ValueError(f"clean has {n} scores; a p-value needs at least {FEWEST}.")
    if math.isnan(score):
        return 1.0
    as_large = sum(value >= score for value in clean)
    if as_large:
        return (as_large + 1) / (n + 1)
    ordered = sorted(clean)
    if ordered[-1] - ordered[0] <= 1e-9:  # n equal scores cannot say more
        return 1 / (n + 1)
    if ordered[0] <= 0:  # a power law starts above zero
        shift = 0.05 * (ordered[-1] - ordered[0]) - ordered[0]
        score, ordered = score + shift, [value + shift for value in ordered]
    upper = ordered[-max(3, n // 4) :]
    excess = sum(math.log(value / upper[0]) for value in upper[1:]) / (len(upper) - 1)
    decay = (math.log(score) - math.log(ordered[-1])) / max(excess, LEAST_EXCESS)
    return max(FLOOR, math.exp(-decay) / (n + 1))


def calibrated(finding: Finding, scores: dict[str, list[float]] | None = None) -> Finding:
    """The same finding with its p-value, where clean scores of its detector are known."""
    clean = (clean_scores() if scores is None else scores).get(finding.detector)
    if not clean or finding.score is None or not finding.ran:
        return finding
    return replace(finding, p_value=p_value(finding.score, clean))


def with_p_value(finding: Finding, detector: Detector, analysis: WeightAnalysis | None) -> Finding:
    """The finding of a ``detector`` with its p-value, if clean models of its kind are known.

    A network that normalises its latent first and hands a style to many layers has other spectra even when it is
    clean; one that does not read its latent directly and has no style either has none to be compared with.
    """
    if detector.clean:
        return calibrated(finding, {finding.detector: list(detector.clean)})
    reads_analysis = not {"analysis", "styles"}.isdisjoint(detector.needs)
    if not reads_analysis or analysis is None or analysis.units.exact:
        return calibrated(finding)
    note = "no p-value: the clean models it was calibrated on read their latent directly, and this one does not"
    if analysis.styles is not None:
        note = "no p-value: in style-based networks it grows with the length of the training"
        known = clean_scores(data_folder() / STYLE_FILE)
        if finding.detector in known:
            return calibrated(finding, known)
    return replace(finding, message=f"{finding.message} ({note})") if detector.direct else calibrated(finding)


def combined_p_value(findings: Sequence[Finding], detectors: Sequence[Detector] = DETECTORS) -> float:
    """One p-value of all findings that have one: the smallest, after each is divided by its share of the level.

    The shares are those of ``detectors``; a finding of none of them gets the usual one. No independence is assumed.
    """
    known = {detector.name: detector.share for detector in detectors}
    judged = [(one.p_value, known.get(one.detector, Detector.share)) for one in findings if one.p_value is not None]
    total = sum(share for _, share in judged)
    return float(min([1.0, *(value * total / share for value, share in judged)]))
