"""A real browser: Debian's chromium (or any) driven by Playwright; without one, these tests are skipped.

Where ``BROWSER_NEEDED`` is set, as in .ci/run, they fail instead.
"""

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not
import serving  # noqa: E402

HERE = Path(__file__).parent
MISSING = [name for name in ("playwright", "jupyterlab", "anywidget") if importlib.util.find_spec(name) is None]
MISSING += [] if serving.CHROMIUM else ["chromium browser"]
REASON = f"no {', no '.join(MISSING)}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if MISSING and not os.environ.get("BROWSER_NEEDED"):
                item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if MISSING:
        pytest.fail(f"{REASON}, and BROWSER_NEEDED is set")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright, serving.chromium(playwright) as browser:
        yield browser
