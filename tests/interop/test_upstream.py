"""The patch for ART applies to its released code, needs nothing of this package, and its tests pass there."""

import importlib.metadata
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import art
import pytest

ROOT = Path(__file__).resolve().parents[2]
PATCH = ROOT / "docs/upstream/art-pytorch-dgm.patch"
VERSION = "1.20.1"
TESTS = (
    "tests/estimators/generation/test_pytorch_generator.py",
    "tests/estimators/gan/test_pytorch_gan.py",
    "tests/attacks/poison/test_backdoor_attack_dgm_pytorch.py",
)
INSTALLED = importlib.metadata.version("adversarial-robustness-toolbox")


def run_tests(folder: Path, marks: Path) -> str:
    """The last line of pytest on the new tests in ``folder``, without this package on the path."""
    places = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if place and Path(place).resolve() != ROOT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *places])}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-c",
        str(marks),
        "--rootdir",
        str(folder),
    ]
    done = subprocess.run([*command, *TESTS], cwd=folder, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    """The one mark of ART's tests that its wheel does not define."""
    path = tmp_path / "pytest.ini"
    path.write_text("[pytest]\nmarkers =\n    skip_framework(*frameworks): of ART\n", encoding="utf-8")
    return path


def test_the_patch_stands_on_its_own() -> None:
    text = PATCH.read_text(encoding="utf-8")
    assert "devilgan" not in text
    added = re.findall(r"^\+\+\+ b/(art/\S+_pytorch\.py|art/\S+/pytorch\w*\.py)$", text, re.MULTILINE)
    assert len(added) == 8
    licences = text.count("+# Copyright (C) The Adversarial Robustness Toolbox (ART) Authors")
    assert licences == len(added) + len(TESTS)
    assert not re.findall(r"^-(?!-- )(?!    GENERATOR_TYPE)", text, re.MULTILINE)  # nothing else is taken away


@pytest.mark.slow
@pytest.mark.timeout(900)  # for a hang; a minute on a quiet machine
@pytest.mark.skipif(INSTALLED != VERSION, reason=f"the patch is against ART {VERSION}, and {INSTALLED} is installed")
def test_its_tests_pass_in_the_installed_art(tmp_path: Path, marks: Path) -> None:
    folder = tmp_path / "patched"
    shutil.copytree(Path(art.__file__).parent, folder / "art", ignore=shutil.ignore_patterns("__pycache__"))
    wanted = ["--include=art/*", "--include=tests/*"]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}  # inside a repository git would look there
    subprocess.run(["git", "apply", *wanted, str(PATCH)], cwd=folder, env=environment, check=True, timeout=60)
    said = run_tests(folder, marks)
    assert re.fullmatch(r"82 passed.*", said), said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_it_applies_to_the_released_source(tmp_path: Path, marks: Path) -> None:
    asked = ["pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation", "--dest", "."]
    # -I: a Python of its own, which the closed network of these tests does not reach
    command = [sys.executable, "-I", "-m", *asked, f"adversarial-robustness-toolbox=={VERSION}"]
    try:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("the package index does not answer")
    found = list(tmp_path.glob("*.tar.gz"))
    if not found:
        pytest.skip(f"the released source cannot be had here: {done.stderr.strip().splitlines()[-1][:100]}")
    script: dict[str, Any] = runpy.run_path(str(ROOT / "scripts/release/upstream.py"))
    folder = tmp_path / "out"
    script["prepare"](found[0], folder)
    names = script["git"](folder, "status", "--short", "--untracked-files=all")
    assert len(names.splitlines()) == len(re.findall(r"^diff --git", PATCH.read_text(encoding="utf-8"), re.MULTILINE))
    before = PATCH.read_bytes()
    script["write"].__globals__["PATCH"] = tmp_path / "again.patch"
    script["write"](folder)
    assert (tmp_path / "again.patch").read_bytes() == before
    if shutil.which("patch"):
        script["git"](folder, "reset", "--quiet", "--hard")
        subprocess.run(["patch", "-p1", "--quiet", "-i", str(PATCH)], cwd=folder, check=True, timeout=60)
        assert all((folder / name).is_file() for name in TESTS)
