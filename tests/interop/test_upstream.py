"""What other projects get: the patch for ART and its tests, and the page about ART with its example and its table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import art
import pytest

from devilgan_lite.interop import art as ours

ROOT = Path(__file__).resolve().parents[2]
PATCH = ROOT / "docs/upstream/art-pytorch-dgm.patch"
PAGE = (ROOT / "docs/art.md").read_text(encoding="utf-8")
TESTS = (
    "tests/estimators/generation/test_pytorch_generator.py",
    "tests/estimators/gan/test_pytorch_gan.py",
    "tests/attacks/poison/test_backdoor_attack_dgm_pytorch.py",
)


def test_the_patch_stands_on_its_own_and_the_page_names_every_class() -> None:
    assert "devilgan" not in PATCH.read_text(encoding="utf-8")
    rows = [line.split("|")[1:4] for line in PAGE.splitlines() if re.match(r"\| (`|nothing)", line)]
    assert sorted(row[1].strip(" `") for row in rows) == sorted(ours.__all__)


@pytest.mark.nightly
@pytest.mark.skipif(art.__version__ != "1.20.1", reason="the patch is against ART 1.20.1, and another is installed")
def test_its_tests_pass_in_the_installed_art(tmp_path: Path) -> None:
    folder, marks = tmp_path / "patched", tmp_path / "pytest.ini"
    marks.write_text("[pytest]\nmarkers =\n    skip_framework(*frameworks): of ART, not in its wheel\n")
    shutil.copytree(Path(art.__file__).parent, folder / "art", ignore=shutil.ignore_patterns("__pycache__"))
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}  # inside a repository git would look there
    command = ["git", "apply", "--include=art/*", "--include=tests/*", str(PATCH)]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=60)
    places = [place for place in os.environ["PYTHONPATH"].split(os.pathsep) if place and Path(place).resolve() != ROOT]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), *places]), "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(marks)]
    command += ["--rootdir", str(folder), *TESTS]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert re.fullmatch(r"111 passed.*", done.stdout.strip().splitlines()[-1])


@pytest.mark.nightly
def test_the_example_runs_as_it_is_printed(tmp_path: Path) -> None:
    code = PAGE.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    distance, verdict, flags = done.stdout.strip().splitlines()
    before, after = map(float, re.findall(r"\d[\d.e-]*", distance))
    assert after < before / 100 and verdict == "suspicious [0]"  # without a twin there is no more
    assert flags.startswith("trigger flagged: True") and int(flags.rpartition(" ")[2]) <= 4
