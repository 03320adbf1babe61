"""Names of version 0.1 still work in this version, and say what they are called now."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from devilgan_lite import detect
from devilgan_lite.detect import Finding, ScanReport, guard
from devilgan_lite.generators import PointGenerator

POINTS = PointGenerator(width=16)
SUBJECT = detect.subject_of(POINTS)
X = torch.zeros(3, 2)
SCAN = {"access": "samples", "samples": 200}

OLD: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "anatomy": (lambda: detect.anatomy, detect.analyse_weights, "analyse_weights"),
    "pictures_in": (lambda: detect.pictures_in, detect.samples_in, "samples_in"),
    "Finding.tier": (lambda: Finding("a", "T2", "").tier, "T2", "access_level"),
    "Finding.pictures": (lambda: Finding("a", "T2", "", samples=X).pictures, X, "samples"),
    "Finding(tier=)": (lambda: Finding("a", tier="T2", message="").access_level, "T2", "access_level"),
    "Finding(pictures=)": (lambda: Finding("a", "T2", "", pictures=X).samples, X, "samples"),
    "ScanReport.picture": (lambda: ScanReport((), 1.0, sample=X[0]).picture, X[0], "sample"),
    "ScanReport(picture=)": (lambda: ScanReport((), 1.0, picture=X[0]).sample, X[0], "sample"),
    "Inspection.pictures": (lambda: guard.Inspection(X, X[:, 0] > 0, {}).pictures, X, "samples"),
    "Subject.law": (lambda: SUBJECT.law, "gaussian", "prior.name"),
    "Subject.pictures": (lambda: SUBJECT.pictures(X), SUBJECT.samples(X), "samples"),
    "subject_of(law=)": (lambda: detect.subject_of(POINTS, law="uniform").prior.name, "uniform", "prior"),
    "scan(law=)": (lambda: detect.scan(POINTS, law="uniform", **SCAN).subject.prior.name, "uniform", "prior"),
    "scan(measured=)": (lambda: detect.scan(POINTS, measured=None, **SCAN).verdict, "inconclusive", "analysis"),
}


@pytest.mark.parametrize("name", OLD)
def test_an_old_name_works_and_says_the_new_one(name: str) -> None:
    use, expected, new = OLD[name]
    with pytest.warns(DeprecationWarning, match=rf"is called (devilgan_lite\.detect\.)?{new} now"):
        found = use()
    assert torch.equal(found, expected) if isinstance(expected, torch.Tensor) else found == expected


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'anatomies'"):
        getattr(detect, "anatomies")  # noqa: B009
