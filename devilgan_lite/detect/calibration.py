"""p-values: where a suspect ranks among clean models of ours. Their scores ship with the data.

Only a suspect that is built like those models (``built_alike``) has one; other networks have other spectra by nature.
The clean models are 8 seeds in 6 variants, so a p-value below one over their number plus one is an extrapolation: read
it as a score. ``scripts/bench/detect.py --calibrate`` makes ``data/calibration.json`` from models for tuning; those on
which the detectors are judged have no part in it.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from devilgan_lite.data import data_folder
from devilgan_lite.detect.detector import FEWEST, Detector, Finding
from devilgan_lite.detect.weights import WeightAnalysis

FILE = "calibration.json"
FLOOR = 1e-12  # smaller probabilities say nothing with some dozens of clean models
RARE = 0.02  # p-value from which a rank among models that are built alike is evidence
ALIKE = (("linear", "transposed convolution", "transposed convolution"), ((100, 64, 32), (100, 32, 16)))
ROOM = 1.25  # ratio of widths up to which two networks count as built alike
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
    """The finding of a ``detector``, with its p-value where that has a say: no number stands without one."""
    if detector.clean:
        finding = calibrated(finding, {finding.detector: list(detector.clean)})
    if finding.p_value is not None:  # a detector of your own, which says itself what is rare
        return judged(replace(finding, evidence=finding.evidence or detector.name))
    if finding.evidence == "spectrum" and analysis is not None and built_alike(analysis):
        return judged(calibrated(finding))
    return finding


def built_alike(analysis: WeightAnalysis) -> bool:
    """Whether a network has the layers of the clean models, in their order and about as wide."""
    kinds, sizes = ALIKE
    layers = analysis.paths.layers
    if tuple(layer.kind for layer in layers) != kinds or analysis.units.slope or not analysis.units.exact:
        return False
    widths = [layer.inputs for layer in layers]
    return any(all(1 / ROOM <= a / b <= ROOM for a, b in zip(widths, own, strict=True)) for own in sizes)


def judged(finding: Finding) -> Finding:
    """The finding with the strength of its p-value, if that is more than it has by itself."""
    if finding.p_value is None:
        return finding
    return replace(finding, strength=max(finding.strength, math.log(finding.p_value) / math.log(RARE)))


def combined_p_value(findings: Sequence[Finding], detectors: Sequence[Detector]) -> float:
    """One p-value of all findings that have one: the smallest, after each is divided by its share of the level.

    The shares are those of ``detectors``; a finding of none of them gets the usual one. No independence is assumed.
    """
    known = {detector.name: detector.share for detector in detectors}
    judged = [(one.p_value, known.get(one.detector, Detector.share)) for one in findings if one.p_value is not None]
    total = sum(share for _, share in judged)
    return float(min([1.0, *(value * total / share for value, share in judged)]))
