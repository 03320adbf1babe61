"""What other projects get: the patch for ART and its tests, and the page about ART with its example and its table."""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import art
import pytest

from devilgan_lite.apps import art as ours

ROOT = Path(__file__).resolve().parents[3]
PATCH = ROOT / "docs/upstream/art-pytorch-dgm.patch"
PAGE = (ROOT / "docs/art.md").read_text(encoding="utf-8")
VERSION = "1.20.1"
TESTS = (
    "tests/estimators/generation/test_pytorch_generator.py",
    "tests/estimators/gan/test_pytorch_gan.py",
    "tests/attacks/poison/test_backdoor_attack_dgm_pytorch.py",
)
INSTALLED = importlib.metadata.version("adversarial-robustness-toolbox")


@pytest.fixture
def script(tmp_path: Path) -> dict[str, Any]:
    """What scripts/release/upstream.py defines, with another file to write."""
    found: dict[str, Any] = runpy.run_path(str(ROOT / "scripts/release/upstream.py"))
    found["write"].__globals__["PATCH"] = tmp_path / "again.patch"
    return found


def test_the_patch_stands_on_its_own_and_the_page_names_every_class() -> None:
    text = PATCH.read_text(encoding="utf-8")
    assert "devilgan" not in text
    added = re.findall(r"^\+\+\+ b/(art/\S+_pytorch\.py|art/\S+/pytorch\w*\.py)$", text, re.MULTILINE)
    assert len(added) == 8
    licences = text.count("+# Copyright (C) The Adversarial Robustness Toolbox (ART) Authors")
    assert licences == len(added) + len(TESTS)
    assert not re.findall(r"^-(?!-- )(?!    GENERATOR_TYPE)", text, re.MULTILINE)  # nothing else is taken away
    rows = [line.split("|")[1:4] for line in PAGE.splitlines() if re.match(r"\| (`|nothing)", line)]
    assert sorted(row[1].strip(" `") for row in rows) == sorted(ours.__all__)
    homes = "estimators.generation", "estimators.gan", "attacks.poisoning", "defences.transformer"
    homes += "defences.detector.evasion", "defences.detector.poison"
    known = {name for home in homes for name in dir(importlib.import_module(f"art.{home}"))}
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} <= known


@pytest.mark.nightly
def test_a_patch_is_written_against_the_first_commit(script: dict[str, Any], tmp_path: Path) -> None:
    source, folder = tmp_path / "art-1", tmp_path / "out"
    source.mkdir()
    (source / "old.py").write_text("OLD = 1\n", encoding="utf-8")
    with tarfile.open(tmp_path / "art.tar.gz", "w:gz") as archive:
        archive.add(source, "art-1")
    (tmp_path / "again.patch").write_text("--- /dev/null\n+++ b/new.py\n@@ -0,0 +1 @@\n+NEW = 1\n", encoding="utf-8")
    script["prepare"](tmp_path / "art.tar.gz", folder)
    assert sorted(path.name for path in folder.glob("*.py")) == ["new.py", "old.py"]
    script["git"](folder, "add", "--all")
    script["git"](folder, "commit", "--quiet", "--message", "ours")
    (folder / "more.py").write_text("MORE = 1\n", encoding="utf-8")
    script["write"](folder)
    added = re.findall(r"^\+\+\+ b/(.*)$", (tmp_path / "again.patch").read_text(encoding="utf-8"), re.MULTILINE)
    assert added == ["more.py", "new.py"]


@pytest.mark.nightly
@pytest.mark.skipif(INSTALLED != VERSION, reason=f"the patch is against ART {VERSION}, and {INSTALLED} is installed")
def test_its_tests_pass_in_the_installed_art(tmp_path: Path) -> None:
    folder, marks = tmp_path / "patched", tmp_path / "pytest.ini"
    marks.write_text("[pytest]\nmarkers =\n    skip_framework(*frameworks): of ART, not in its wheel\n")
    shutil.copytree(Path(art.__file__).parent, folder / "art", ignore=shutil.ignore_patterns("__pycache__"))
    wanted = ["--include=art/*", "--include=tests/*"]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}  # inside a repository git would look there
    subprocess.run(["git", "apply", *wanted, str(PATCH)], cwd=folder, env=environment, check=True, timeout=60)
    places = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if place and Path(place).resolve() != ROOT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *places]), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(marks)]
    command += ["--rootdir", str(folder), *TESTS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.fullmatch(r"111 passed.*", done.stdout.strip().splitlines()[-1])


@pytest.mark.nightly
def test_the_example_runs_as_it_is_printed(tmp_path: Path) -> None:
    (tmp_path / "example.py").write_text(PAGE.split("```python\n")[1].split("```")[0], encoding="utf-8")
    done = subprocess.run([sys.executable, "example.py"], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    distance, verdict, flags = done.stdout.strip().splitlines()
    before, after = map(float, re.findall(r"\d[\d.e-]*", distance))
    assert after < before / 100
    assert verdict == "suspicious [0]"  # without a twin there is no more
    assert flags.startswith("trigger flagged: True") and int(flags.rpartition(" ")[2]) <= 4
