"""The scanner view: findings as they come, Stop, and the same in print."""

import threading
import time

import pytest
import torch

from devilgan_lite import detect, generators
from devilgan_lite.classroom import ScanView
from devilgan_lite.classroom.widgets import scanner
from devilgan_lite.classroom.widgets.scanner import Stopped
from devilgan_lite.detect import Finding, ScanReport

SPECTRUM = Finding(
    "latent <spectrum>", "T2", "a jump", evidence="spectrum", strength=3.0, details={"values": [9.0, 2.0, 1.0]}
)
SEARCH = Finding("search", "T2", "an estimate", samples=torch.zeros(3, 1, 8, 8))
SAMPLING = Finding("sampling", "T0", "nothing odd", samples=torch.ones(3, 3, 8, 8))


def test_bars_and_picture_appear_with_their_findings():
    gates = [threading.Event() for _ in range(3)]

    def scan(progress):
        for gate, finding in zip(gates, (SPECTRUM, SEARCH, SAMPLING), strict=True):
            gate.wait(60)
            progress(finding)
        return ScanReport((SPECTRUM, SEARCH, SAMPLING), p_value=0.001)

    view = ScanView(scan, blocking=False)
    view.run()
    assert view.running and view.bars is None
    gates[0].set()
    wait_for(lambda: view.bars_image.layout.display is None)
    assert view.recovered is None and "4.5 times" in view.bars.alt
    gates[1].set()
    wait_for(lambda: view.picture_image.layout.display is None)
    gates[2].set()
    assert view.wait(60).verdict == "suspicious"
    assert "suspicious" in view.text.value and "latent &lt;spectrum&gt;" in view.text.value
    assert view.recovered.alt == "3 pictures found by: search."


def test_stop_ends_it_at_the_next_finding():
    started = threading.Event()

    def scan(progress):
        while True:
            progress(SEARCH)
            started.set()
            time.sleep(0.01)

    view = ScanView(scan, blocking=False)
    view.run()
    started.wait(60)
    view.stop_button.click()
    with pytest.raises(Stopped):
        view.wait(60)
    assert view.text.value == "stopped" and not view.running and view.stop_button.disabled


@pytest.mark.slow
def test_it_shows_a_real_scan_in_print():
    suspect = generators.DCGAN(latent_dim=8, widths=(4, 4)).eval()
    view = ScanView(lambda progress: detect.scan(suspect, samples=200, on_finding=progress))
    report = view.wait()
    assert tuple(view.findings) == report.findings
    content, _ = view._repr_mimebundle_()
    assert content["text/html"].count("<img alt=") == 2 and "latent spectrum" in content["text/html"]


def test_in_a_notebook_it_is_a_widget(monkeypatch):
    monkeypatch.setattr(scanner, "is_static", lambda: False)
    content = ScanView(lambda progress: None)._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in content


def wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)
