"""A limit on the memory of a notebook's kernel, checked four times a second; a kernel that passes it is killed.

An operating system's own limit counts addresses, of which torch reserves many more than it uses; this counts pages that
are really held, of the kernel and of everything that it started.
"""

import contextlib
import threading
from typing import Any, Self

INTERVAL = 0.25  # seconds


class MemoryLimit:
    """While its ``with`` block runs, kill the kernel whose ``DEVILGAN_OUT`` is ``folder`` if it holds too much.

    ``exceeded_mb`` is what it held then, or None. Without a limit (``most_mb`` None) nothing is watched.
    """

    def __init__(self, folder: str, most_mb: float | None) -> None:
        self.folder, self.most_mb = folder, most_mb
        self.exceeded_mb: float | None = None
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        if self.most_mb is not None:
            self._thread = threading.Thread(target=self._watch, daemon=True, name="memory limit")
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        import psutil

        kernel: Any = None
        while not self._done.wait(INTERVAL):
            with contextlib.suppress(psutil.Error):
                kernel = kernel if kernel is not None and kernel.is_running() else self._kernel()
                if kernel is None:
                    continue
                held = 0.0
                for process in (kernel, *kernel.children(recursive=True)):
                    with contextlib.suppress(psutil.Error):  # it has ended in the meantime
                        held += process.memory_info().rss / 1e6
                if self.most_mb is not None and held > self.most_mb:
                    self.exceeded_mb = held
                    end_processes([kernel.pid])
                    return

    def _kernel(self) -> Any:
        import psutil

        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if process.environ().get("DEVILGAN_OUT") == self.folder:
                    return process
        return None


def end_processes(pids: list[int | None]) -> None:
    """End processes and all that they have started, at once."""
    import psutil

    for pid in filter(None, pids):
        with contextlib.suppress(psutil.Error):
            for process in (*psutil.Process(pid).children(recursive=True), psutil.Process(pid)):
                with contextlib.suppress(psutil.Error):
                    process.kill()
