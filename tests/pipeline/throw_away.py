"""Packages in a folder that is thrown away: their licence (BUSL-1.1) keeps them out of what we install."""

import os
import subprocess
import sys
from pathlib import Path

OURS = Path(__file__).parents[1] / "offline"


def installed(folder: Path, *requirements: str) -> Path:
    """``requirements`` without what they depend on, in ``folder``; pip alone may leave this machine to fetch them."""
    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and Path(path) != OURS]
    options = ("--no-deps", "--no-compile", "--quiet", "--disable-pip-version-check", "--no-input", "--target", folder)
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, *requirements],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        timeout=800,  # for a hang
    )
    assert done.returncode == 0, done.stderr
    return folder


def python(folder: Path, *words: str | Path) -> str:
    """What Python prints that sees ``folder`` and, like any other test, no network."""
    paths = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], env=environment, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    return done.stdout
