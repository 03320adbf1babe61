"""A report is complete as text, JSON and HTML, and runs nothing where it is shown."""

import json
import math
from base64 import b64decode
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from devilgan_lite import data
from devilgan_lite.detect import Finding, ScanReport, Witness
from devilgan_lite.detect.report import UNSEEN
from devilgan_lite.generators import adopt
from devilgan_lite.report import VERDICTS

EVIL = "<script src='http://x'>alert(1)</script>"
LATENT = torch.arange(4.0) / 3
WITNESS = Witness(LATENT, torch.zeros(1, 8, 8), torch.ones(1, 8, 8), score=4.0, distance=1.5, seconds=1.0)
SHOWN = {"samples": torch.zeros(3, 1, 8, 8), "directions": torch.eye(4)[:1]}
SAID = {"score": 1.5, "details": {"jump": 4.5, "values": [1.0, 2.0]}, "evidence": "spectrum"}
SPECTRAL = Finding("latent spectrum", "T2", f"jump & {EVIL}", seconds=1.2345, **SHOWN, **SAID)


def report(spectrum: float = 3.0, twin: float = 1.2, **settings: Any) -> ScanReport:
    colours = torch.rand(12, 3, 8, 8) * 2 - 1
    findings = (
        replace(SPECTRAL, strength=spectrum),
        Finding("noisy twin", "T2", "they differ", samples=colours, evidence="twin", strength=twin),
        Finding("real data", "T4", "could not run: no reason", ran=False),
    )
    given = {"trigger": LATENT, "sample": torch.zeros(1, 8, 8), "seconds": 2.0, "witness": WITNESS}
    return ScanReport(findings, **{**given, **settings})


def samples_in(page: str) -> list[Image.Image]:
    parts = page.split("data:image/png;base64,")[1:]
    return [Image.open(BytesIO(b64decode(part.split('"')[0]))) for part in parts]


def test_the_verdict_rests_on_kinds_of_evidence() -> None:
    for spectrum, twin, score, verdict in (
        (1.0, 1.0, 4.0, "backdoored"),  # two kinds, and a witness
        (1.0, 1.0, 1.0, "suspicious"),  # two kinds without one
        (9.0, 0.99, 4.0, "suspicious"),
        (0.99, 1.0, 4.0, "suspicious"),
        (0.99, 0.99, 9.0, "clean"),  # a natural hole is no evidence
    ):
        found = report(spectrum, twin, witness=replace(WITNESS, score=score))
        assert found.verdict == verdict and found.backdoored == (verdict == "backdoored")
        assert str(found).startswith(verdict) and f">{verdict}</strong>" in found.to_html()
        assert verdict in VERDICTS and found.strengths == {"spectrum": spectrum, "twin": twin}
        suspected = [] if verdict == "clean" else [LATENT, LATENT] if score == 4 else [LATENT]
        assert [one.tolist() for one in found.suspected] == [one.tolist() for one in suspected]
    twice = tuple(Finding(name, "T2", "", evidence="spectrum", strength=2.0) for name in ("one", "two"))
    assert ScanReport(twice, witness=WITNESS).verdict == "suspicious"  # two findings of one kind count once
    below = [report(0.5, 0.5), report(0.6, 0.5), report(3.0, 0.5), report(30.0, 0.5)]
    assert [one.score for one in below] == pytest.approx([1.0, 1.1, 3.5, 3.5])


def test_what_could_not_be_answered_is_no_clean_verdict() -> None:
    quiet = Finding("a", "T2", "", evidence="spectrum", strength=0.1)
    silent = Finding("b", "T2", "could not run: no reason", ran=False, open=True)
    for findings, verdict, words in (
        ((quiet,), "clean", "nothing found"),
        ((quiet, silent), "inconclusive", "no answer from: b"),
        ((silent,), "inconclusive", "no detector with a say could run"),
        ((replace(quiet, strength=1.5), silent), "suspicious", "evidence: spectrum"),
    ):
        found = ScanReport(findings)
        assert found.verdict == verdict and words in str(found) and words in found.to_html()
        assert UNSEEN in str(found) and UNSEEN in found.to_html() and found.to_dict()["not_tried"][-1] == UNSEEN


def test_json_and_text_are_complete() -> None:
    found = report()
    data = json.loads(found.to_json())
    assert data == found.to_dict()
    assert (data["verdict"], data["seconds"]) == ("backdoored", 2.0)
    assert data["evidence"] == {"spectrum": 3.0, "twin": 1.2}
    assert data["score"] == pytest.approx(4.2) and data["witness"]["score"] == 4.0
    assert data["trigger"] == pytest.approx([0, 1 / 3, 2 / 3, 1], abs=1e-5) == data["witness"]["latent"]
    assert data["findings"][0] == {
        **{"detector": "latent spectrum", "access_level": "T2", "ran": True, "evidence": "spectrum", "strength": 3.0},
        **{"score": 1.5, "message": f"jump & {EVIL}", "seconds": 1.23, "open": False},
        **{"asks": "", "where": None, "caption": "", "plot": None, "picture": None},
        "details": {"jump": 4.5, "values": [1.0, 2.0]},
    }
    assert [entry["ran"] for entry in data["findings"]] == [True, True, False]
    assert json.loads(report(trigger=None).to_json())["trigger"] is None

    lines = str(found).splitlines()
    assert lines[0].startswith("backdoored") and "spectrum, twin" in lines[0] and "3.00  jump" in lines[1]


def test_html_is_one_page_without_script_or_address() -> None:
    found = report()
    page = found.to_html()
    assert found._repr_html_() == page
    assert "<script" not in page.lower() and 'src="http' not in page and "src='" not in page
    assert "&lt;script" in page and "jump &amp;" in page
    addresses = [part.split('"')[0] for part in page.split('src="')[1:]]
    assert len(addresses) == 5 and all(address.startswith("data:image/png;base64,") for address in addresses)
    estimate, witness = "Sample at the estimated trigger", "Witness: the suspect draws"
    assert estimate in page and witness in page
    assert found.to_dict()["witness"]["times"] == pytest.approx(math.exp(4), rel=0.01)
    for other in (report(0.5, 0.5), report(sample=None)):  # the estimate is shown for a backdoor only
        assert estimate not in other.to_html()
    assert witness not in report(witness=replace(WITNESS, score=1.0)).to_html()


def test_the_samples_on_the_page() -> None:
    x = torch.linspace(-1, 1, 16).view(1, 1, 4, 4).repeat(10, 1, 1, 1)
    x[9] = -x[0]
    (sheet,) = samples_in(ScanReport((Finding("a", "T2", "", samples=x),)).to_html())
    assert sheet.size == (8 * 4 * 2, 2 * 4 * 2)  # eight in a row, doubled
    shown = np.asarray(sheet)[::2, ::2]
    expected = ((x[:, 0] + 1) * 127.5).round().byte().numpy()
    assert (shown[:4, :4] == expected[0]).all() and (shown[:4, 28:] == expected[7]).all()
    assert (shown[4:, 4:8] == expected[9]).all() and (shown[4:, 8:] == 255).all()
    coloured = samples_in(report().to_html())
    assert [one.mode for one in coloured] == ["L", "L", "L", "L", "RGB"]
    assert [int(np.asarray(one).mean()) for one in coloured[:2]] in ([127, 255], [128, 255])  # suspect, then its twin


def test_each_modality_is_shown_as_it_shows_itself() -> None:
    x = torch.tensor([[0.0, 0.0], [0.9, -0.9]])
    finding = Finding("a", "T2", "b", samples=x)
    (plane,) = samples_in(ScanReport((finding,)).to_html())
    assert plane.tobytes() == data.modality((2,)).show(x).tobytes()
    own = replace(
        data.modality((2,)), name="own", draw=lambda samples, columns, scale: Image.new("L", (7, len(samples)))
    )
    module = nn.Sequential(nn.Linear(3, 2), nn.Tanh())
    module.modality = own  # somebody else's generator may know better
    subject = adopt(module)
    (seen,) = samples_in(ScanReport((finding,), subject=subject).to_html())
    assert subject.modality == own and seen.size == (7, 2)
