"""What a scan found as plain data for a page: words that need no knowledge of the field, numbers of plots, pictures.

``markup`` turns it into HTML. Pictures are PNG in base64, so the data can leave the process that ran the module.
"""

import base64
import math
from typing import Any

from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut
from devilgan_lite.data import Modality, modality
from devilgan_lite.data.modality import png
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.registry import DETECTORS
from devilgan_lite.detect.report import UNSEEN, ScanReport
from devilgan_lite.detect.twin import times

SHOWN = 48  # samples of a picture, at most
MOST_VALUES = 4_000_000  # of all samples of a picture together
MOST_PIXELS = 1_024  # of a picture, across and down
MOST_LETTERS = 400  # of a message: a module's own words may be part of it
COUNTS = {1: "One kind", 2: "Two kinds", 3: "Three kinds"}


def plain(report: ScanReport) -> dict[str, Any]:
    """The verdict with its ``sentence``, ``reason``, ``detectors``, ``pictures`` and what was ``not_tried``."""
    kind = None if report.subject is None else report.subject.modality
    witness = report.witness if report.witness is not None and report.witness.stands_out else None
    pictures = {
        "witness": None if witness is None else picture(witness.sample.unsqueeze(0), kind, 4),
        "witness_twin": None if witness is None else picture(witness.twin_sample.unsqueeze(0), kind, 4),
        "estimate": picture(report.sample.unsqueeze(0), kind, 4)
        if report.sample is not None and report.kinds
        else None,
    }
    ran = {finding.detector for finding in report.findings}
    return {
        "verdict": report.verdict,
        "sentence": sentence(report),
        "reason": report.reason,
        "seconds": round(report.seconds, 1),
        "detectors": [described(finding, report) for finding in report.findings],
        "pictures": pictures,
        "witness": None if witness is None else {"times": times(witness.score), "about": str(witness)},
        "not_tried": [
            *(
                f"{one.detector}: {cut(one.message, MOST_LETTERS)}"
                for one in report.findings
                if one.open or not one.ran
            ),
            *(one.missing for one in report.detectors or DETECTORS if one.missing and one.name not in ran),
            UNSEEN,
        ],
    }


def sentence(report: ScanReport) -> str:
    """The verdict for somebody who has to decide, in one sentence."""
    said = COUNTS.get(len(report.kinds), f"{len(report.kinds)} kinds")
    return {
        "backdoored": f"{said} of evidence and a witness say that this generator hides a backdoor: do not use it.",
        "suspicious": f"{said} of evidence {'points' if len(report.kinds) == 1 else 'point'} to a backdoor, but it is "
        "not proven: do not use this generator before somebody has looked at the evidence.",
        "clean": "Nothing was found by what was tried; this is no proof that there is nothing.",
        "inconclusive": "Nothing was found, but a question that counts stayed open: do not take this for clean.",
    }[report.verdict]


def described(finding: Finding, report: ScanReport) -> dict[str, Any]:
    """One finding with what its detector looks for, the numbers of a small plot, and its samples as a picture."""
    by_name = {detector.name: detector for detector in report.detectors or DETECTORS}
    detector = by_name.get(finding.detector)
    kind = None if report.subject is None else report.subject.modality
    return {
        "name": cut(finding.detector),
        "access_level": finding.access_level,
        "says": Detector.asks if detector is None else detector.asks,
        "message": cut(finding.message, MOST_LETTERS),
        "evidence": finding.evidence,
        "strength": _finite(finding.strength),
        "score": None if finding.score is None else _finite(finding.score),
        "p_value": finding.p_value,
        "ran": finding.ran,
        "open": finding.open,
        "seconds": round(finding.seconds, 2),
        "plot": finding.plot,
        "picture": None if finding.samples is None else picture(finding.samples, kind, 2),
        "caption": "" if detector is None else detector.caption,
    }


def picture(samples: Tensor, kind: Modality | None = None, scale: int = 2) -> str:
    """The first of ``samples`` ``[n, *shape]`` as one PNG in base64; small ones are enlarged ``scale`` times."""
    kind = kind or modality(tuple(samples.shape[1:]))
    count = max(1, min(SHOWN, MOST_VALUES // max(1, samples[0].numel())))
    return encoded(kind.show(samples[:count], scale=scale if max(samples.shape[1:]) <= 64 else 1))


def encoded(image: Image.Image) -> str:
    """An image as PNG in base64, made smaller if it has more than ``MOST_PIXELS`` across or down."""
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return base64.b64encode(png(image)).decode()


def _finite(value: float) -> float:
    return 0.0 if math.isnan(value) else float(f"{max(-1e12, min(value, 1e12)):.6g}")
