"""The recipes of CONTRIBUTING.md, taken out of the page and run in an empty folder, without a network."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## Add an? (\w+)\n[^#]*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def test_there_are_three_recipes() -> None:
    assert list(RECIPES) == ["detector", "attack", "family"]


@pytest.mark.slow
@pytest.mark.timeout(900)  # for a hang; a recipe takes seconds on a quiet machine
@pytest.mark.parametrize("kind", RECIPES)
def test_the_recipe_works_as_it_is_printed(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"{kind}.py").write_text(RECIPES[kind], encoding="utf-8")
    command = [sys.executable, f"{kind}.py"]  # tests/conftest.py closes the network of child processes too
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "Warning" not in done.stderr, done.stderr
