"""Hostile and broken files of every kind through the jail: the bench runs ten thousand, this some of each."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"
pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="the walls are Linux's")]


def test_some_of_each_kind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    monkeypatch.syspath_prepend(str(BENCH))
    bench: Any = importlib.import_module("hostile")
    found = bench.trial(count=136, seed=7, every=60, folder=tmp_path)
    assert found["wrong"] == []
    seen = {row["name"] for row in found["outcomes"]}
    assert set(bench.hostile_files.HOSTILE) <= seen and sum(name.startswith("broken") for name in seen) >= 7
    verdicts = {row["verdict"] for row in found["outcomes"]}
    assert {"opened", "refused"} <= verdicts <= {"opened", "refused", "no subject", *bench.VERDICTS}
    assert 20 < found["longest"] <= 300
    assert "| canaries that sang | 0 |" in "\n".join(bench.page(found))


def test_the_canaries_sing_where_somebody_runs_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import pickle

    monkeypatch.syspath_prepend(str(BENCH))
    files: Any = importlib.import_module("hostile_files")
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(files.Canary())).close()
    assert (tmp_path / "canary").exists()
