"""docs/art.md keeps its word: its example runs as it is printed, and its table names what there is."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from devilgan_lite.interop import art

PAGE = (Path(__file__).resolve().parents[2] / "docs/art.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:4] for line in PAGE.splitlines() if re.match(r"\| (`|nothing)", line)]


@pytest.mark.slow
def test_the_example_runs_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(PAGE.split("```python\n")[1].split("```")[0], encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    distance, verdict, flags = done.stdout.strip().splitlines()
    before, after = map(float, re.findall(r"\d[\d.e-]*", distance))
    assert after < before / 100
    assert verdict == "suspicious [0]"  # without a twin there is no more
    assert flags.startswith("trigger flagged: True") and int(flags.rpartition(" ")[2]) <= 4


def test_the_table_names_every_class_here_and_those_of_art() -> None:
    assert [row[1].strip(" `") for row in ROWS if row[1].strip(" `") not in art.__all__] == []
    assert len(ROWS) == len(art.__all__)
    homes = (
        "art.estimators.generation", "art.estimators.gan", "art.attacks.poisoning", "art.defences.transformer",
        "art.defences.detector.evasion", "art.defences.detector.poison",
    )  # fmt: skip
    known = {name for home in homes for name in dir(importlib.import_module(home))}
    theirs = [re.findall(r"`(\w+)`", row[0]) for row in ROWS]
    assert [name for names in theirs for name in names if name not in known] == []
