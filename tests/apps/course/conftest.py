"""What the course's tests share: a shell that runs cells, small pictures' sizes, and waiting without a clock."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[InteractiveShell]:
    """A shell of its own, as in a notebook that has run no cell."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])  # the shell's own takes its place
    InteractiveShell.clear_instance()
    made = InteractiveShell.instance(colors="nocolor")
    yield made
    made.history_manager.end_session()
    InteractiveShell.clear_instance()


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """``until(lambda: done)``: wait for it; a minute is for a hang."""

    def wait(condition: Callable[[], object], seconds: float = 60.0) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "waited too long"
            time.sleep(0.01)

    return wait
