"""The parts of a report that need the module itself; runs in the jailed child, beside the scan.

What leaves is plain data: words, numbers, and pictures as PNG in base64. ``intake.page`` makes a page of it.
"""

from typing import Any

from devilgan_lite.detect import ScanReport
from devilgan_lite.detect.plain import picture, plain

SAMPLES = 48  # on the contact sheet


def describe(report: ScanReport, *, samples: int = SAMPLES, seed: int = 0) -> dict[str, Any]:
    """The keys ``scan``, ``verdict``, ``sentence``, ``detectors``, ``pictures``, ``not_tried`` and some more.

    ``pictures["samples"]`` shows at most ``samples`` (40 or fewer of large ones) ordinary ones, drawn with ``seed``.
    """
    parts = plain(report)
    subject = report.subject
    if subject is not None:
        drawn = subject.samples(subject.latents(samples, seed)).cpu()
        parts["pictures"]["samples"] = picture(drawn, subject.modality)
    return {"scan": report.to_dict(), **parts}
