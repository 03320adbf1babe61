"""A plugin for nbval: every executed notebook leaves its ``result.json`` in ``$SMOKE_RESULTS/<its name>``.

tests/test_notebooks.py judges these files in the next call of pytest, so that ``make test`` executes a notebook once.
"""

import os
from pathlib import Path

import pytest


@pytest.hookimpl(tryfirst=True)  # before nbval starts the kernel, which inherits the variable
def pytest_runtest_setup(item):
    folder = Path(os.environ["SMOKE_RESULTS"]) / item.path.stem
    if os.environ.get("DEVILGAN_OUT") != str(folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "result.json").unlink(missing_ok=True)
        os.environ["DEVILGAN_OUT"] = str(folder)
