"""Watch a long loop while it runs, pause it, take single steps, slow it down, stop it.

The loop runs in a worker thread, so that a Stop button works in every notebook front end; the worker is also the only
one that draws. Nothing prints from it and pyplot is not used.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets
from PIL import Image
from torch import nn

from devilgan_lite.apps.course.widgets.worker import Job
from devilgan_lite.apps.pictures import Picture
from devilgan_lite.checks import in_range
from devilgan_lite.data.modality import png
from devilgan_lite.steps import SIDES, Loop, Outcome, Step, TrainableSide

Draw = Callable[[nn.Module], "Image.Image | Picture"]
SHARE = 0.1  # of the time, at most, goes into pictures: slow drawings come less often
SLOWEST = 2.0  # seconds between two steps in slow motion


class LiveTraining(Job):
    """Runs ``loop`` and shows ``draw(generator so far)`` at most twice a second, with Pause, Step and Stop.

    ``every`` is the least time between two pictures in seconds, 0.5 to 60; a drawing that takes long comes less often,
    so that at most a tenth of the time goes into pictures. ``delay`` in [0, 2] is the wait after each step in seconds
    (slow motion), as its slider says. A ``side`` that the loop was given as well (``train_gan.steps(..., side=side)``)
    offers the choice who learns. ``run()`` starts it and returns at once; ``wait()`` blocks until the ``Outcome`` is
    there. Where nobody can press a button (papermill, tests), or with ``blocking=True``, ``run()`` goes to the end by
    itself with one printed line per 10 %.
    """

    what = "training"

    def __init__(
        self,
        loop: Loop,
        draw: Draw | None = None,
        *,
        every: float = 0.5,
        blocking: bool | None = None,
        side: TrainableSide | None = None,
        delay: float = 0.0,
    ) -> None:
        in_range("every", every, 0.5, 60.0)
        in_range("delay", delay, 0.0, SLOWEST)
        super().__init__(blocking)
        self.loop, self.draw, self.every, self.side = loop, draw, every, side
        self.iteration = 0
        self._steps_owed = 0  # presses of Step that were not yet served
        self._wake = threading.Condition()
        self._playing = True
        self._make_parts(delay)

    @property
    def outcome(self) -> Outcome | None:
        """What the loop has left; None before its end."""
        return self.result

    def pause(self) -> None:
        """Hold the loop after the current step."""
        self._set(playing=False)

    def play(self) -> None:
        """Go on after ``pause`` or ``step``."""
        self._set(playing=True)

    def step(self) -> None:
        """Take one step, then hold."""
        self._set(playing=False, steps=1)

    def stop(self) -> None:
        """End after the current step; the outcome has what was learnt so far. Returns at once."""
        super().stop()
        self._set(playing=True)

    def _set(self, playing: bool, steps: int = 0) -> None:
        with self._wake:
            self._playing = playing
            self._steps_owed = 0 if playing else self._steps_owed + steps
            self._wake.notify_all()
        self.pause_button.description = "Pause" if playing else "Play"

    def _make_parts(self, delay: float) -> None:
        small = widgets.Layout(max_width="100%", align_self="flex-start", display="none")  # until there is a picture
        self.image = widgets.Image(format="png", layout=small)
        self.progress = widgets.FloatProgress(min=0.0, max=1.0, layout=widgets.Layout(width="18em"))
        self.text = widgets.HTML("starting ...")
        self.pause_button = widgets.Button(description="Pause", tooltip="Hold the training; press again to go on")
        self.step_button = widgets.Button(description="Step", tooltip="Take one step, then hold")
        self.stop_button = widgets.Button(description="Stop", tooltip="End now and keep what was learnt so far")
        self.pause_button.on_click(lambda _: self.pause() if self._playing else self.play())
        self.step_button.on_click(lambda _: self.step())
        self.stop_button.on_click(lambda _: self.stop())
        wide = {"description_width": "initial"}
        self.delay_slider = widgets.FloatSlider(
            value=delay, min=0.0, max=SLOWEST, step=0.05, description="slow motion, s a step", style=wide
        )
        self.side_choice = widgets.Dropdown(options=SIDES, description="who learns", style=wide)
        if self.side is not None:
            self.side_choice.value = self.side.who
            self.side_choice.observe(self._side_chosen, names="value")
        buttons = widgets.HBox([self.pause_button, self.step_button, self.stop_button, self.progress])
        settings = widgets.HBox([self.delay_slider, *([self.side_choice] if self.side is not None else [])])
        self.widget = widgets.VBox([buttons, settings, self.text, self.image])

    def _side_chosen(self, change: Any) -> None:
        if self.side is not None:
            self.side.who = change.new

    def _work(self) -> Outcome:
        step: Step | None = None
        shown, cost = -math.inf, 0.0
        for step in self.loop:
            self.iteration = step.iteration
            now = time.perf_counter()
            if now - shown >= max(self.every, cost / SHARE) or not self._playing:
                self._refresh(step)
                first, shown = shown == -math.inf, time.perf_counter()
                cost = 0.0 if first else shown - now  # the first one pays for imports
            self._hold()
            if self._stop.is_set():
                break
        self.result = self.loop.stop()
        if step is not None:
            self._refresh(step, ended=True)
        return self.result

    def _work_blocking(self) -> Outcome:
        outcome = self.loop.finish()
        self.iteration = len(next(iter(outcome.history.values()), []))
        return outcome

    def _hold(self) -> None:
        """Wait as long as slow motion and Pause want it."""
        delay = self.delay_slider.value
        with self._wake:
            if self._playing and delay and not self._stop.is_set():
                self._wake.wait(delay)  # Pause, Step and Stop cut it short
            self._wake.wait_for(lambda: self._playing or self._steps_owed or self._stop.is_set())
            self._steps_owed = max(0, self._steps_owed - 1)

    def _refresh(self, step: Step, ended: bool = False) -> None:
        losses = " &nbsp; ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in step.values().items())
        state = "" if not ended else "finished: " if step.iteration == step.total else "stopped: "
        self.text.value = f"{state}step {step.iteration} of {step.total}, {step.seconds:.0f} s &nbsp; {losses}"
        self.progress.value = step.iteration / step.total
        if self.draw is None:
            return
        generator: Any = self.outcome.generator if ended and self.outcome is not None else step.snapshot()
        drawn = self.draw(generator)
        self.image.value = drawn.png if isinstance(drawn, Picture) else png(drawn, compress_level=1)
        self.image.layout.display = None

    def _failed(self, sentence: str) -> None:
        self.text.value = sentence

    def _ended(self) -> None:
        for part in (self.pause_button, self.step_button, self.stop_button, self.delay_slider, self.side_choice):
            part.disabled = True
