"""The floors of the package: an import only ever goes down. The contracts stand in pyproject.toml."""

import subprocess
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_imports_only_go_down() -> None:
    tool = Path(sysconfig.get_path("scripts")) / "lint-imports"
    linted = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert linted.returncode == 0, linted.stdout + linted.stderr
