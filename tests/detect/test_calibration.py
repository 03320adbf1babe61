"""p-values mean what they say, and the file of clean scores is read once and may be missing."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from devilgan_lite.detect import DETECTORS, Detector, Finding, calibration
from devilgan_lite.detect.calibration import FLOOR, calibrated, clean_scores, combined_p_value, p_value

BLIND = ("structure", "latent spectrum", "hidden spectrum", "silent units")  # they run on every network
SHARES = {one.name: one.share for one in DETECTORS if one.name in BLIND}


def finding(detector: str, p: float | None = None, *, score: float | None = 1.0, ran: bool = True) -> Finding:
    return Finding(detector, "T2", "", score=score, p_value=p, ran=ran)


def test_more_suspicious_is_less_probable(refuses: object) -> None:
    clean = [0.02, 0.03, 0.05, 0.11, 0.04, 0.06]
    values = [p_value(score, clean) for score in (-1.0, 0.0, 0.01, 0.03, 0.05, 0.1, 0.2, 1.0, 10.0, 1e300, math.inf)]
    assert values == sorted(values, reverse=True) and values[0] == pytest.approx(1) and values[-1] == FLOOR == 1e-12
    assert p_value(0.05, clean) == 4 / 7 and p_value(0.051, clean) == 3 / 7
    # above all of them a power prior: twice the largest score, from the mean of log(0.06 / 0.05) and log(0.11 / 0.05)
    excess = (math.log(0.06 / 0.05) + math.log(0.11 / 0.05)) / 2
    assert p_value(0.22, clean) == pytest.approx(2 ** (-1 / excess) / 7) and p_value(math.nan, clean) == 1.0
    for n in (5, 24):  # constant scores say no more than their number
        assert p_value(0.0, [0.0] * n) == p_value(0.5, [1.0] * n) == 1.0
        assert p_value(1e-9, [0.0] * n) == p_value(1e9, [0.0] * n) == 1 / (n + 1)
    clean = [-0.2, 0.1, 0.3, 0.0, 0.2, -0.1]  # scores below zero are shifted
    values = [p_value(score, clean) for score in (-5.0, -0.1, 0.1, 0.3, 200.0)]
    assert values == sorted(values, reverse=True) and values[0] == 1.0 and 0.3 < values[2] < 0.7 and values[-1] < 1e-3
    with pytest.raises(ValueError, match="clean"):
        p_value(0.1, [0.1, 0.2, 0.3, 0.4])


def test_the_p_values_of_clean_models_are_uniform_and_no_distribution_is_assumed() -> None:
    for shape in (2.0, 9.0, 40.0):
        random = np.random.default_rng(0)
        values = np.array([p_value(row[0], list(row[1:])) for row in random.gamma(shape, 0.1, (4_000, 25))])
        assert scipy.stats.kstest(values, "uniform").statistic < 0.06
        for level, within in [(0.01, 0.012), (0.05, 0.02), (0.2, 0.04), (0.5, 0.04)]:
            assert (values <= level).mean() == pytest.approx(level, abs=within)
    draws = np.exp(1.5 * np.random.default_rng(2).standard_t(2, (4_000, 25)).clip(-20, 20))  # heavy tails
    values = np.array([p_value(row[0], list(row[1:])) for row in draws])
    for level in (0.04, 0.08, 0.2, 0.4):
        assert (values <= level).mean() <= level + 0.012


def test_the_smallest_p_value_pays_for_the_others() -> None:
    assert sum(SHARES.values()) == pytest.approx(1) and list(SHARES.values()) == [0.1, 0.4, 0.4, 0.1]
    assert combined_p_value([finding(name, 1.0) for name in SHARES], DETECTORS) == 1.0
    for name, share in SHARES.items():
        one = [finding(other, 1e-3 if name == other else 1.0) for other in SHARES]
        assert combined_p_value(one, DETECTORS) == pytest.approx(1e-3 / share), name
    pair = [finding("latent spectrum", 0.01), finding("structure", 0.5)]
    assert combined_p_value(pair, DETECTORS) == pytest.approx(0.01 * 0.5 / 0.4)
    assert combined_p_value([finding("structure", 0.02)], DETECTORS) == pytest.approx(0.02)
    assert combined_p_value([finding("unheard of", 0.02), finding("another", 0.9)], DETECTORS) == pytest.approx(0.04)
    assert combined_p_value([finding("structure", None)], DETECTORS) == combined_p_value([], DETECTORS) == 1.0
    random = np.random.default_rng(1)  # whatever depends on what: all say the same, or each its own
    for rows in ([[value] * len(SHARES) for value in random.random(2_000)], random.random((2_000, len(SHARES)))):
        found = [
            combined_p_value([finding(*pair) for pair in zip(SHARES, row, strict=True)], DETECTORS) for row in rows
        ]
        assert np.mean(np.array(found) <= 0.05) <= 0.065


def test_findings_get_their_p_value_and_the_strength_of_it() -> None:
    scores = {"structure": [0.1, 0.2, 0.3, 0.4, 0.5]}
    known = calibrated(finding("structure", score=2.0), scores)
    assert known.p_value == p_value(2.0, scores["structure"]) and known.score == 2.0
    for other in (finding("unheard of"), finding("structure", score=None), finding("structure", ran=False)):
        assert calibrated(other, scores) is other
    assert calibration.judged(finding("a", 1e-4)).strength == pytest.approx(math.log(1e-4) / math.log(0.02))
    strong = replace(finding("a", 0.5), strength=0.7)
    assert calibration.judged(strong) == strong and calibration.judged(finding("a")) == finding("a")
    mine = Detector("mine", "T0", lambda evidence: [], clean=(1.0, 2.0, 3.0, 4.0, 5.0))
    own = calibration.with_p_value(finding("mine", score=3.5), mine, None)
    assert own.p_value == pytest.approx(3 / 6) and own.evidence == "mine"


def test_the_file_is_read_once_and_may_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert clean_scores(tmp_path / "none.json") == {}
    path = tmp_path / "some.json"
    path.write_text(json.dumps({"scores": {"structure": [1, 2, 3]}}))
    first = clean_scores(path)
    assert first == {"structure": [1.0, 2.0, 3.0]}
    path.write_text("changed")
    assert clean_scores(path) is first
    monkeypatch.setattr(calibration, "clean_scores", lambda: {})
    assert calibrated(finding("latent spectrum")).p_value is None


def test_the_shipped_file() -> None:
    scores = clean_scores()
    assert set(scores) >= set(SHARES) and all(len(values) >= 40 for values in scores.values())
    content = json.loads((calibration.data_folder() / calibration.FILE).read_text())
    assert all(name.startswith("clean-") for name in content["models"])
    assert all(len(scores[name]) == len(content["models"]) for name in SHARES)
    for name, values in scores.items():  # none of the clean models is an outlier among the others
        others = [[*values[:index], *values[index + 1 :]] for index in range(len(values))]
        assert min(p_value(value, rest) for value, rest in zip(values, others, strict=True)) > 5e-4, name
