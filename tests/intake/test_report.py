"""What leaves the jail is plain data that says what the scan saw, and a page can be made of it."""

import base64
import io
import json
import math
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from devilgan_lite import report as markup
from devilgan_lite.detect import Finding, ScanReport, Witness, scan
from devilgan_lite.detect import report as reports
from devilgan_lite.detect.detector import Detector
from devilgan_lite.detect.report import UNSEEN
from devilgan_lite.detect.spectrum import Spectrum
from devilgan_lite.generators import Generator, adopt
from devilgan_lite.intake.check import Options, scanned
from devilgan_lite.report import page


def opened(source: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(source, validate=True)))


def test_a_backdoor_is_described_in_words_numbers_and_pictures(tiny_gate: Generator) -> None:
    gate = scan(tiny_gate, samples=200)
    data = gate.to_dict(pictures=True)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["verdict"] == "backdoored" and data["sentence"].startswith("Three")
    assert gate.witness is not None and gate.analysis is not None
    for name, sample in (("witness", gate.witness.sample), ("witness_twin", gate.witness.twin_sample)):
        shown = tiny_gate.modality.show(sample.unsqueeze(0), scale=4)
        assert opened(data["pictures"][name]).tobytes() == shown.tobytes()
    entries = {entry["detector"]: entry for entry in data["findings"]}
    raised = {name for name, entry in entries.items() if entry["evidence"] and entry["strength"] >= 1}
    assert raised == {"latent spectrum", "silent units", "noisy twin"}
    assert all(entry["asks"] and entry["asks"] != Detector.asks for entry in entries.values())
    spectrum, seen = entries["latent spectrum"]["plot"], entries["noisy twin"]["plot"]
    first, second = spectrum["values"][:2]
    assert spectrum["before"] == 1 and spectrum["ratio"] == pytest.approx(first / second, rel=1e-3)
    (awake,) = (one for one in gate.findings if one.detector == "silent units")
    units = {"kind": "units", "all": len(gate.analysis.units.rows)}
    units |= {name: awake.details[name] for name in ("silent", "wakeable")}
    assert entries["silent units"]["plot"] == awake.plot == units
    assert sorted(seen["ordinary"]) == seen["ordinary"] and len(seen["ordinary"]) == 21
    (judged,) = (one for one in gate.findings if one.detector == "noisy twin")
    most = math.exp(judged.score or 0.0)  # the witness is at the estimate, where they differ less
    assert seen["ordinary"][-1] < seen["limit"] < seen["witness"] == pytest.approx(most, rel=0.01)
    assert math.exp(gate.witness.score) <= most
    assert page(data).count("<img") == 3 + sum(entry["picture"] is not None for entry in data["findings"])
    without = gate.to_dict()
    assert not any([*without["pictures"].values(), *(entry["picture"] for entry in without["findings"])])
    assert data["not_tried"][-1] == UNSEEN and len(data["not_tried"]) == 4


def test_what_was_not_asked_for_is_said() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(12, 24), nn.ReLU(), nn.Linear(24, 64), nn.Tanh(), nn.Unflatten(1, (1, 8, 8)))

    def small(seed: int = 0) -> dict[str, Any]:
        stranger = adopt(module)
        return scanned(stranger, Options(twin=False, seed=seed), "cpu", lambda event: None)

    data = small()
    assert data["pictures"]["witness"] is None and opened(data["pictures"]["samples"]).size == (8 * 8 * 2, 6 * 8 * 2)
    said = " ".join(data["not_tried"])
    missing = ("no witness", "No suspected targets", "No clean model", "No real data", UNSEEN)
    assert [words for words in missing if words not in said] == []
    assert json.loads(json.dumps(data, allow_nan=False)) == data and data["sentence"] in page(data)
    sheets = [small(seed)["pictures"]["samples"] for seed in (0, 1)]
    assert data["pictures"]["samples"] == sheets[0] != sheets[1]


def report(*findings: Finding, **settings: Any) -> ScanReport:
    return ScanReport(findings, **settings)


def test_each_verdict_has_its_sentence_and_a_witness_that_stands_out_is_shown_whatever_it_is() -> None:
    one = Finding("latent spectrum", "T2", "", evidence="spectrum", strength=2.0)
    two = Finding("silent units", "T2", "", evidence="construction", strength=2.0)
    mute = Finding("noisy twin", "T2", "could not run: it fell over", ran=False, open=True)
    for found, words in (
        (report(one), "One kind of evidence points to a backdoor, but it is not proven"),
        (report(one, two), "Two kinds of evidence point to"),
        (report(mute), "do not take this for clean"),
        (report(Finding("structure", "T2", "", evidence="construction")), "this is no proof"),
    ):
        assert words in found.to_dict()["sentence"]
    assert "noisy twin: could not run: it fell over" in report(mute).to_dict()["not_tried"]
    sample = torch.zeros(1, 8, 8)
    quiet = Finding("noisy twin", "T2", "", evidence="twin", strength=0.5)
    for score, shown in ((3.0, False), (4.0, True)):
        witness = Witness(torch.ones(4), sample, sample + 0.5, score, 0.25, 1.0)
        data = report(quiet, witness=witness).to_dict(pictures=True)
        assert data["verdict"] == "clean" and (data["pictures"]["witness"] is not None) == shown
        part = markup.fragment(data)
        assert ("Witness: the suspect draws" in part) == shown and "dl-pair raised" not in part  # it is no alarm


def test_a_spectrum_has_a_next_value_and_what_a_stranger_says_is_cut() -> None:
    values = torch.tensor([3.0, 0.0, 0.0, 0.0])
    assert Spectrum("one", values, torch.eye(4), torch.eye(4)).plot() is None
    cliff = Spectrum("two", torch.tensor([8.0, 6.0, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5]), torch.eye(8), torch.eye(8))
    found = cliff.plot()
    assert found is not None and found["before"] == 2 and found["ratio"] == 6.0
    assert math.log(found["ratio"]) == pytest.approx(cliff.cliff, rel=1e-3)
    odd = Finding("x" * 999, "T0", "y" * 9_999, score=math.inf, samples=torch.zeros(3, 3, 8, 2_000))
    (entry,) = report(odd).to_dict(pictures=True)["findings"]
    assert len(entry["detector"]) < 100 and len(entry["message"]) < 500 and entry["score"] == 1e12
    assert max(opened(entry["picture"]).size) <= reports.MOST_PIXELS
    json.dumps(entry, allow_nan=False)
