"""The patch for ART applies to its released code, needs nothing of this package, and its tests pass there."""

import importlib.metadata
import io
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
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *places]), "PYTEST_ADDOPTS": ""}
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


@pytest.fixture
def script(tmp_path: Path) -> dict[str, Any]:
    """What scripts/release/upstream.py defines, with another file to write."""
    found: dict[str, Any] = runpy.run_path(str(ROOT / "scripts/release/upstream.py"))
    found["write"].__globals__["PATCH"] = tmp_path / "again.patch"
    return found


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


def test_what_is_wrong_is_said(script: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="nowhere is not there, or not a tree made by this script"):
        script["write"](tmp_path / "nowhere")
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as archive:
        archive.add(PATCH, "art-1/a.patch")
    for name, content in (("words.tar.gz", b"words"), ("half.tar.gz", whole.getvalue()[:2000])):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(SystemExit, match=rf"{name} is not a whole \.tar\.gz \(.*\); download it again\."):
            script["prepare"](tmp_path / name, tmp_path / "out")
    with tarfile.open(tmp_path / "flat.tar.gz", "w:gz") as archive:
        archive.add(PATCH, "a.patch")
    with pytest.raises(SystemExit, match=r"flat\.tar\.gz has 0 folders at its top"):
        script["prepare"](tmp_path / "flat.tar.gz", tmp_path / "out")
    assert not list(tmp_path.glob("out*"))


@pytest.mark.slow
@pytest.mark.skipif(INSTALLED != VERSION, reason=f"the patch is against ART {VERSION}, and {INSTALLED} is installed")
def test_its_tests_pass_in_the_installed_art(tmp_path: Path, marks: Path) -> None:
    folder = tmp_path / "patched"
    shutil.copytree(Path(art.__file__).parent, folder / "art", ignore=shutil.ignore_patterns("__pycache__"))
    wanted = ["--include=art/*", "--include=tests/*"]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}  # inside a repository git would look there
    subprocess.run(["git", "apply", *wanted, str(PATCH)], cwd=folder, env=environment, check=True, timeout=60)
    said = run_tests(folder, marks)
    assert re.fullmatch(r"111 passed.*", said), said


@pytest.mark.slow
def test_it_applies_to_the_released_source(script: dict[str, Any], tmp_path: Path) -> None:
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
    script["prepare"].__globals__["PATCH"] = PATCH
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
