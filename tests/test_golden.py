"""Scan and cure give the golden results: a handful here, all 42 models in make nightly (scripts/bench/golden.py)."""

import copy
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).resolve().parents[1] / "scripts" / "bench"
CURED, SCANNED = ("dcgan32-11-gate",), ("vae-11-clean", "vae-garments")


@pytest.fixture
def golden(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("golden")


@pytest.fixture
def models(golden: Any) -> dict[str, Any]:
    return json.loads(golden.PATH.read_text(encoding="utf-8"))["models"]


@pytest.mark.parametrize("name", [*CURED, *SCANNED])
def test_a_model_gives_its_golden_results(name: str, golden: Any, models: dict[str, Any]) -> None:
    row = golden.measured(name) if name in CURED else golden.plain(golden.scanned(name)[2])
    assert golden.moved(models[name], row) == []


def test_golden_results_are_of_models_that_are_there(golden: Any, models: dict[str, Any]) -> None:
    assert set(models) == set(golden.names()) and len(models.keys() - set(golden.zoo.names())) >= 20
    assert {row["verdict"] for row in models.values()} >= {"backdoored", "suspicious", "clean"}


def test_what_moved_is_found(golden: Any, models: dict[str, Any]) -> None:
    row = models["style-11-gate"]
    assert golden.moved(row, row) == []
    for change, where in (
        ({"verdict": "clean"}, "verdict"),
        ({"kinds": []}, "kinds"),
        ({"strengths": {**row["strengths"], "spectrum": row["strengths"]["spectrum"] * 1.01 + 0.01}}, "spectrum"),
        ({"strengths": {**row["strengths"], "twin": row["strengths"]["twin"] * 1.1}}, "twin"),
        ({"cure": {**row["cure"], "treatment": "none"}}, "treatment"),
    ):
        (line,) = golden.moved(row, copy.deepcopy(row) | change)
        assert where in line
