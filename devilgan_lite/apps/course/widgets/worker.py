"""A long job in a thread of its own, which can be stopped."""

import threading
from typing import Any

from IPython.display import display

from devilgan_lite.apps.course.profile import is_static


class Job:
    """A long piece of work in a thread of its own, with Stop, and an end that can be waited for.

    Subclasses give ``widget``, ``_work`` (runs in the thread, looks at ``_stop``, returns the result) and, if they can
    do better than the same without display, ``_work_blocking``. Where nobody can press a button (papermill, tests), or
    with ``blocking=True``, ``run()`` goes to the end by itself.
    """

    what = "job"
    widget: Any

    def __init__(self, blocking: bool | None) -> None:
        self.blocking = is_static() if blocking is None else blocking
        self.result: Any = None
        self.error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._stop, self._done = threading.Event(), threading.Event()

    def run(self) -> None:
        """Start and display (or, blocking, run to the end). A second call is a ``RuntimeError``: a job runs once."""
        if self._thread is not None or self._done.is_set():
            raise RuntimeError(f"this {self.what} was started already; make a new one to run it again.")
        if self.blocking:
            self.result = self._work_blocking()
            self._done.set()
            return
        self._thread = threading.Thread(target=self._guarded, name=f"live {self.what}", daemon=True)
        self._thread.start()
        display(self.widget)

    def stop(self) -> None:
        """End as soon as possible. Returns at once."""
        self._stop.set()

    def wait(self, timeout: float | None = None) -> Any:
        """Block until the end and return the result; an interrupt (the front end's square button) stops the job.

        After ``timeout`` seconds, a ``TimeoutError``. An error inside the job or the drawing is raised here.
        """
        if self._thread is None and not self._done.is_set():
            self.run()
        try:
            self._done.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._done.wait(30)
        if not self._done.is_set():
            raise TimeoutError(f"the {self.what} has not ended after {timeout} s; call stop() or wait longer.")
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise RuntimeError(f"the {self.what} ended without a result.")
        return self.result

    @property
    def running(self) -> bool:
        """Whether it has started and not yet ended (a paused one is running)."""
        return self._thread is not None and not self._done.is_set()

    def _guarded(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:
            self.error = error
            self._failed(f"stopped by an error: {type(error).__name__}; wait() raises it.")
        finally:
            self._ended()
            self._done.set()

    def _work(self) -> Any:
        raise NotImplementedError

    def _work_blocking(self) -> Any:
        return self._work()

    def _failed(self, sentence: str) -> None:
        """Show what went wrong."""

    def _ended(self) -> None:
        """Switch off what has no effect any more."""
