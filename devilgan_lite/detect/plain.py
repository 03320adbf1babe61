"""What a scan found as plain data for a page: words that need no knowledge of the field, numbers of plots, pictures.

``markup`` turns it into HTML. Pictures are PNG in base64, so the data can leave the process that ran the module.
"""

from __future__ import annotations

import base64
import math
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut
from devilgan_lite.data import Modality, modality
from devilgan_lite.data.modality import png
from devilgan_lite.detect import activations, reconstruction, reference, sampling, search, styles, twin, weights
from devilgan_lite.detect.report import UNSEEN, Finding, ScanReport

if TYPE_CHECKING:
    from devilgan_lite.detect.spectrum import Spectrum

SHOWN = 48  # samples of a picture, at most
MOST_VALUES = 4_000_000  # of all samples of a picture together
MOST_PIXELS = 1_024  # of a picture, across and down
MOST_LETTERS = 400  # of a message: a module's own words may be part of it
BARS = 16  # values of a spectrum that are drawn, and some more where its cliff lies further on
REAL, SUBJECT = "real data", "subject"
# detector -> what it looks for, and what its picture shows
TOLD = {
    SUBJECT: ("Can the module be judged at all?", ""),
    weights.STRUCTURE: (
        "Is the network built oddly? It looks for a program that decides on values, for inputs that change nothing, "
        "and for parts that ordinary samples do not need.",
        "",
    ),
    weights.LATENT: (
        "Do the weights spend energy on something that ordinary samples never show? A clean network has a smooth "
        "spectrum; a backdoor leaves a cliff in it.",
        "Samples along the strongest direction, both ways.",
    ),
    weights.HIDDEN: ("The same question, asked of every later layer instead of the input.", ""),
    styles.NAME: (
        "Do many layers answer to one and the same signal? That is how a backdoor is added to a style-based network.",
        "From an ordinary sample, left, to what the shared signal leads to, right.",
    ),
    activations.NAME: (
        "Are there units that never switch on in ordinary use, and what happens when one input wakes them?",
        "The sample at the input that wakes most.",
    ),
    search.NAME: (
        "Where is the trigger? It follows the suspicious directions and shows what lies there.",
        "The estimate at eight lengths, its opposite, places around it, and two more directions.",
    ),
    twin.NAME: (
        "Does a copy that was taught only ordinary behaviour lack something? It hunts for the input at which "
        "the generator and its copy, the noisy twin, differ most.",
        "Left the generator, right its twin, at the input where they differ most.",
    ),
    sampling.NAME: (
        "Are some ordinary samples odd? This is what everybody tries first; a trigger is practically never drawn "
        "by chance, so it has no say.",
        "The oddest samples.",
    ),
    reconstruction.NAME: ("Can the generator make a sample that you suspect?", "The nearest samples that it can make."),
    reference.NAME: (
        "What has changed since the clean model that you trust?",
        "Samples along the direction in which most has changed, both ways.",
    ),
    REAL: ("Are some samples unlike the real data that you gave?", "The samples that are least like them."),
}
OWN = "Added by you; it has no description."
MISSING = {
    twin.NAME: "The noisy twin did not run, so there is no witness, and nothing is called more than suspicious.",
    weights.LATENT: "The weights were not read: only samples were looked at.",
    reconstruction.NAME: "No suspected targets were given, so nobody looked for an input that makes one of them.",
    reference.NAME: "No clean model was given to compare with.",
    REAL: "No real data were given to compare with.",
}
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
    return {
        "verdict": report.verdict,
        "sentence": sentence(report),
        "reason": report.reason,
        "seconds": round(report.seconds, 1),
        "detectors": [described(finding, report) for finding in report.findings],
        "pictures": pictures,
        "witness": None if witness is None else {"times": _times(witness.score), "about": str(witness)},
        "not_tried": [
            *(
                f"{one.detector}: {cut(one.message, MOST_LETTERS)}"
                for one in report.findings
                if one.open or not one.ran
            ),
            *(said for name, said in MISSING.items() if name not in {one.detector for one in report.findings}),
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
    says, caption = TOLD.get(finding.detector, (OWN, ""))
    kind = None if report.subject is None else report.subject.modality
    return {
        "name": cut(finding.detector),
        "access_level": finding.access_level,
        "says": says,
        "message": cut(finding.message, MOST_LETTERS),
        "evidence": finding.evidence,
        "strength": _finite(finding.strength),
        "score": None if finding.score is None else _finite(finding.score),
        "p_value": finding.p_value,
        "ran": finding.ran,
        "open": finding.open,
        "seconds": round(finding.seconds, 2),
        "plot": plot(finding, report),
        "picture": None if finding.samples is None else picture(finding.samples, kind, 2),
        "caption": caption,
    }


def plot(finding: Finding, report: ScanReport) -> dict[str, Any] | None:
    """The numbers behind a finding that say more than its strength; None without any."""
    found = report.analysis
    if finding.detector == twin.NAME and report.twin is not None and report.witness is not None:
        error = max(report.twin.error, 1e-12)
        ordinary = [float(f"{value / error:.4g}") for value in report.twin.quantiles]
        times, limit = _times(finding.score or 0.0), _times(finding.details["limit"])
        return {"kind": "twin", "ordinary": ordinary, "witness": times, "limit": limit}
    if found is None or not finding.ran:
        return None
    if finding.detector == weights.LATENT:
        return spectrum_plot(found.by_weight)
    if finding.detector == weights.HIDDEN and found.hidden:
        return spectrum_plot(max(found.hidden, key=lambda one: one.cliff))
    if finding.detector == styles.NAME and found.styles is not None:
        return spectrum_plot(found.styles.spectrum)
    if finding.detector == activations.NAME:
        count = {name: finding.details.get(name, 0) for name in ("silent", "wakeable")}
        return {"kind": "units", "all": len(found.units.rows), **count}
    return None


def spectrum_plot(spectrum: Spectrum) -> dict[str, Any] | None:
    """The leading values of a spectrum, how many come before its cliff, and the ratio there (``Spectrum.cliff``)."""
    leading = [float(value) for value in spectrum.values[: min(41, max(2, spectrum.rank // 2 + 1))]]
    leading = [value for value in leading if value > max(1e-10 * leading[0], 1e-300)]
    ratios = [high / low for high, low in zip(leading, leading[1:], strict=False)]
    if not ratios:
        return None
    before = ratios.index(max(ratios)) + 1
    values = [float(f"{value:.4g}") for value in leading[: max(BARS, before + BARS // 2)]]
    return {
        "kind": "spectrum",
        "of": cut(spectrum.space),
        "values": values,
        "before": before,
        "ratio": float(f"{ratios[before - 1]:.4g}"),
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


def _times(score: float) -> float:
    """A logarithm of a ratio as the ratio, to three digits."""
    return float(f"{math.exp(min(score, 40.0)):.3g}")


def _finite(value: float) -> float:
    return 0.0 if math.isnan(value) else float(f"{max(-1e12, min(value, 1e12)):.6g}")
