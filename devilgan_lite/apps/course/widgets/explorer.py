"""The explorer: a slider and a pad to walk through latent space, a clean generator beside a backdoored one."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.apps.course.widgets.screen import Pad, Screen
from devilgan_lite.apps.course.widgets.slider import position_slider
from devilgan_lite.apps.walk import Walk, picture_shape
from devilgan_lite.checks import images, whole_number
from devilgan_lite.generators import Generator

SNAPSHOTS = 6  # the most recent ones that are kept


class Explorer:
    """Every generator's picture of the latent that slider and pad point to, ``size`` pixels high on screen.

    ``generators`` maps the name over a picture to its generator (clean and backdoored); all share ``latent_dim`` and
    the shape of their samples. The slider and the pad's x lead from ``start`` (a random latent unless given) to
    ``trigger`` ``[1, d]``; the pad's y turns towards ``aside``, another random latent, or its opposite. With a
    ``target`` (a sample, in [-1, 1]), each one's TarDis (mean per pixel) is shown live. Of sound one sees waveforms and
    spectrograms. Animate walks there and back until it is pressed again. In Python, ``go(t, across)`` does what the
    mouse does, and returns when it is drawn; ``latent()`` is what is shown. Bad latents or samples are a
    ``ValueError``.
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        trigger: Tensor,
        target: Tensor | None = None,
        *,
        start: Tensor | None = None,
        aside: Tensor | None = None,
        size: int = 256,
        frames: int = 101,
        seed: int = 0,
        end_name: str = "the trigger",
    ) -> None:
        whole_number("size", size, 32, 2048)
        self._random = torch.Generator().manual_seed(seed)
        first = next(iter(generators.values()), None)
        if first is None:
            raise ValueError("generators is empty; give at least one name and generator.")
        drawn = [first.sample_latent(1, self._random).cpu() for _ in range(3)]
        drawn = [z for z in drawn if not torch.equal(z, trigger)]  # an attacker may have drawn it from the same seed
        start, aside = drawn[0] if start is None else start, drawn[1] if aside is None else aside
        self.walk = Walk(generators, start, trigger, aside)
        self._first_start, self.end_name = self.walk.start, end_name
        self.target = None if target is None else self._checked(target)
        self._check_shapes()
        self._shown: tuple[Tensor, Tensor] | None = None  # latent and pictures
        self._kept: list[tuple[Tensor, Tensor]] = []
        self._turn = threading.RLock()  # to draw
        self._stale = self._closed = False
        self._drawn: tuple[float, float] | None = None  # the position
        self._following = threading.local()  # ``now`` is True in a thread in which the slider follows the pad
        self._make_parts(size, frames)
        self.refresh()

    def go(self, t: float, across: float = 0.0) -> None:
        """Move slider and pad to ``t`` in [0, 1] of the way and ``across`` in [-1, 1]."""
        with self.pad.hold_trait_notifications(), self.pad.hold_sync():  # drawn once
            self.pad.x, self.pad.y = float(t), float(across)

    def latent(self) -> Tensor:
        """The latent ``[1, d]`` at the position of slider and pad."""
        return self.walk.at(self.pad.x, self.pad.y)

    def refresh(self) -> None:
        """Draw the position. Of several threads (each browser tab has one) that come meanwhile, the latest wins."""
        self._stale = True
        self.settle(-1)

    def settle(self, timeout: float = 10.0) -> bool:
        """Wait until the latest position is drawn; False if that takes longer than ``timeout`` seconds (-1: ever)."""
        if not self._turn.acquire(timeout=timeout):
            return False
        try:
            if self._stale and not self._closed:
                self._stale = False
                self._draw()
        finally:
            self._turn.release()
        return True

    def random(self) -> None:
        """Another random start, and back to it."""
        self.walk.another_start(self._random)
        self._halt()
        self.go(0.0)
        self.refresh()

    def snapshot(self) -> None:
        """Keep what is shown in a row below; the latents are in ``snapshots``."""
        if self._shown is not None:
            self._kept = [*self._kept, self._shown][-SNAPSHOTS:]
            self._show_snapshots()

    @property
    def snapshots(self) -> list[Tensor]:
        """The latents ``[1, d]`` that were kept last, at most six, the oldest first."""
        return [z for z, _ in self._kept]

    def reset(self) -> None:
        """Everything as in the beginning: the start, the position, no snapshots."""
        self._halt()
        self.walk.start, self._kept = self._first_start, []
        self.go(0.0)
        self._show_snapshots()
        self.refresh()

    def animate(self) -> None:
        """Walk to the trigger and back from here on; called again, stop. The browser keeps the time."""
        if self.pad.animating:
            self._halt()
            return
        with self.pad.hold_sync():
            self.pad.started = time.time() - self.pad.x / 2 * self.pad.period
            self.pad.animating = True

    def close(self) -> None:
        """Take the widgets away. May be called twice."""
        self._closed = True
        for part in (self.pad, self.screen, self.shelf, self.slider, *self.buttons.children, self.buttons, self.widget):
            part.unobserve_all()
            part.close()

    def _make_parts(self, size: int, frames: int) -> None:
        self.screen, self.shelf = Screen(size=size), Screen(size=max(32, size // 4))
        words = {"left": "start", "right": self.end_name, "top": "another latent", "bottom": "its opposite"}
        self.pad = Pad(
            size=size,
            label=f"Pad. Right: to {self.end_name}. Up: towards another latent, down: its opposite. Arrow keys move.",
            words=words,
        )
        self.slider = position_slider(frames, "100%", self.end_name)
        self.random_button = self._button("Random", "Begin at another random latent", self.random)
        self.snapshot_button = self._button("Snapshot", "Keep this picture in the row below", self.snapshot)
        self.reset_button = self._button("Reset", "Everything as in the beginning", self.reset)
        self.animate_button = self._button("Animate", f"To {self.end_name} and back; press again to stop", self.animate)
        self.buttons = widgets.HBox(
            [self.random_button, self.snapshot_button, self.reset_button, self.animate_button],
            layout=widgets.Layout(flex_flow="row wrap"),
        )
        self.pad.observe(self._pad_moved, names=["x", "y"])
        self.pad.observe(self._animation_changed, names="animating")
        self.slider.observe(self._slider_moved, names="value")
        top = widgets.HBox([self.screen, self.pad], layout=widgets.Layout(flex_flow="row wrap", grid_gap="8px"))
        self.widget = widgets.VBox([top, self.slider, self.buttons, self.shelf])
        self.widget.add_class("devilgan-explorer")
        self._show_snapshots()

    def _button(self, name: str, tooltip: str, press: Any) -> widgets.Button:
        button = widgets.Button(description=name, tooltip=tooltip)
        button.on_click(lambda _: press())
        return button

    def _pad_moved(self, change: Any) -> None:
        if (self.pad.x, self.pad.y) != self._drawn:  # else x and y came in one message
            self.refresh()  # before the slider follows: each message costs the browser a millisecond
        self._following.now = True
        try:
            self.slider.value = self._slider_position()
        finally:
            self._following.now = False

    def _slider_position(self) -> float:
        """The slider's nearest position; the browser would round any other value and send it back as if moved."""
        return round(round(self.pad.x / self.slider.step) * self.slider.step, 10)

    def _slider_moved(self, change: Any) -> None:
        # a person moved it, not the pad; each browser tab has a thread, so the pad may be elsewhere by now
        if not getattr(self._following, "now", False) and abs(change.new - self._slider_position()) > 1e-6:
            self._halt()
            with self.pad.hold_sync():  # the pictures first, then the pad
                self.pad.x = change.new

    def _animation_changed(self, change: Any) -> None:
        self.animate_button.description = "Stop" if change.new else "Animate"

    def _halt(self) -> None:
        self.pad.animating = False

    def _draw(self) -> None:
        t, across = self._drawn = (self.pad.x, self.pad.y)
        z, where = self.walk.at(t, across), f"t = {t:.2f}, aside {across:+.2f}"
        try:
            samples = self.walk.samples(z)
            x = self.walk.pictures_of(samples)
            self._shown = (z, x)
            alts = [f"What {name} draws at {where}" for name in self.walk.generators]
            self.screen.show(x, self._captions(samples), alts, f"{where}, {self.walk.where(z, self.end_name)}")
        except Exception as error:  # shown, since a message from the browser has nobody to raise it to
            self.screen.frame = {**self.screen.frame, "note": f"This latent could not be drawn: {error}"}

    def _captions(self, x: Tensor) -> list[str]:
        if self.target is None:
            return list(self.walk.generators)
        distances = (x - self.target).square().flatten(1).mean(1).tolist()
        return [f"{name}\nTarDis {d:.4f} per pixel" for name, d in zip(self.walk.generators, distances, strict=True)]

    def _show_snapshots(self) -> None:
        shots = [torch.cat(list(x), dim=2) for _, x in self._kept]  # side by side
        x = torch.stack(shots) if shots else torch.ones(0, 1, 1, 1)
        names = [f"snapshot {index}" for index in range(1, len(shots) + 1)]
        self.shelf.show(x, names, [f"{name}: {', '.join(self.walk.generators)}" for name in names])

    def _checked(self, target: Tensor) -> Tensor:
        first = next(iter(self.walk.generators.values()))
        samples = target.detach().cpu().reshape(-1, *target.shape[-len(first.sample_shape) :])
        images("target", samples)
        if len(samples) != 1:
            raise ValueError(f"target has {len(samples)} {first.modality.noun}s; expected one.")
        return samples

    def _check_shapes(self) -> None:
        made = self.walk.generators.values()
        shapes = {name: generator.sample_shape for name, generator in self.walk.generators.items()}
        if self.target is not None:
            shapes["target"] = tuple(self.target.shape[1:])
        if len(set(shapes.values())) > 1 or not all(map(picture_shape, made)):
            listed = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise ValueError(f"the pictures must have one shape [C, H, W] with C = 1 or 3; they have {listed}.")

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_static():  # nobody can move anything: show the way to the trigger
            return self.walk.printed()._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**kwargs)
