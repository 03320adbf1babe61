"""Watch a long loop while it runs, pause it, stop it.

The loop runs in a worker thread, so that a Stop button works in every notebook front end; the worker is also the only
one that draws. Nothing prints from it and pyplot is not used.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from IPython.display import display
from PIL import Image
from torch import nn

from devilgan_lite.checks import in_range
from devilgan_lite.classroom.plots import Picture, to_png
from devilgan_lite.classroom.profile import is_static
from devilgan_lite.steps import Loop, Outcome, Step

Draw = Callable[[nn.Module], "Image.Image | Picture"]


class LiveTraining:
    """Runs ``loop`` and shows ``draw(generator so far)`` at most twice a second, with Pause and Stop buttons.

    ``every`` is the time between two pictures in seconds, 0.5 to 60. ``run()`` starts it and returns at once;
    ``wait()`` blocks until the ``Outcome`` is there. Where nobody can press a button (papermill, tests), or with
    ``blocking=True``, ``run()`` goes to the end by itself with one printed line per 10 %.
    """

    def __init__(
        self, loop: Loop, draw: Draw | None = None, *, every: float = 0.5, blocking: bool | None = None
    ) -> None:
        in_range("every", every, 0.5, 60.0)
        self.loop, self.draw, self.every = loop, draw, every
        self.blocking = is_static() if blocking is None else blocking
        self.outcome: Outcome | None = None
        self.error: BaseException | None = None
        self.iteration = 0
        self._thread: threading.Thread | None = None
        self._stop, self._play, self._done = threading.Event(), threading.Event(), threading.Event()
        self._play.set()
        self.image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%", display="none"))
        self.progress = widgets.FloatProgress(min=0.0, max=1.0, layout=widgets.Layout(width="18em"))
        self.text = widgets.HTML("starting ...")
        self.pause_button = widgets.Button(description="Pause", tooltip="Hold the training; press again to go on")
        self.stop_button = widgets.Button(description="Stop", tooltip="End now and keep what was learnt so far")
        self.pause_button.on_click(lambda _: self.pause() if self._play.is_set() else self.play())
        self.stop_button.on_click(lambda _: self.stop())
        buttons = widgets.HBox([self.pause_button, self.stop_button, self.progress])
        self.widget = widgets.VBox([buttons, self.text, self.image])

    def run(self) -> None:
        """Start and display (or, blocking, run to the end). A second call is a ``RuntimeError``: a loop runs once."""
        if self._thread is not None or self._done.is_set():
            raise RuntimeError("this training was started already; make a new one to train again.")
        if self.blocking:
            self.outcome = self.loop.finish()
            self.iteration = len(next(iter(self.outcome.history.values()), []))
            self._done.set()
            return
        self._thread = threading.Thread(target=self._work, name="live training", daemon=True)
        self._thread.start()
        display(self.widget)

    def pause(self) -> None:
        """Hold the loop after the current step."""
        self._play.clear()
        self.pause_button.description = "Play"

    def play(self) -> None:
        """Go on after ``pause``."""
        self._play.set()
        self.pause_button.description = "Pause"

    def stop(self) -> None:
        """End after the current step; the outcome has what was learnt so far. Returns at once."""
        self._stop.set()
        self._play.set()

    def wait(self, timeout: float | None = None) -> Outcome:
        """Block until the end and return the outcome; an interrupt (the front end's square button) stops the loop.

        After ``timeout`` seconds, a ``TimeoutError``. An error inside the loop or the drawing is raised here.
        """
        if self._thread is None and not self._done.is_set():
            self.run()
        try:
            self._done.wait(timeout)
        except KeyboardInterrupt:
            self.stop()
            self._done.wait(30)
        if not self._done.is_set():
            raise TimeoutError(f"the training has not ended after {timeout} s; call stop() or wait longer.")
        if self.error is not None:
            raise self.error
        if self.outcome is None:
            raise RuntimeError("the training ended without an outcome.")
        return self.outcome

    @property
    def running(self) -> bool:
        """Whether the loop has started and not yet ended (a paused loop is running)."""
        return self._thread is not None and not self._done.is_set()

    def _work(self) -> None:
        step: Step | None = None
        shown = -1e9
        try:
            for step in self.loop:
                self.iteration = step.iteration
                now = time.perf_counter()
                if now - shown >= self.every:
                    self._refresh(step)
                    shown = time.perf_counter()
                while not self._play.is_set() and not self._stop.is_set():
                    self._play.wait(0.1)
                if self._stop.is_set():
                    break
            self.outcome = self.loop.stop()
            if step is not None:
                self._refresh(step, ended=True)
        except BaseException as error:
            self.error = error
            self.text.value = f"stopped by an error: {type(error).__name__}; wait() raises it."
        finally:
            self.pause_button.disabled = self.stop_button.disabled = True
            self._done.set()

    def _refresh(self, step: Step, ended: bool = False) -> None:
        losses = " &nbsp; ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in step.values().items())
        state = "" if not ended else "finished: " if step.iteration == step.total else "stopped: "
        self.text.value = f"{state}step {step.iteration} of {step.total}, {step.seconds:.0f} s &nbsp; {losses}"
        self.progress.value = step.iteration / step.total
        if self.draw is None:
            return
        generator: Any = self.outcome.generator if ended and self.outcome is not None else step.snapshot()
        drawn = self.draw(generator)
        self.image.value = drawn.png if isinstance(drawn, Picture) else to_png(drawn, compress_level=1)
        self.image.layout.display = None
