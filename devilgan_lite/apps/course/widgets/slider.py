"""A slider from a random latent to the trigger: the smallest of the widgets to play with."""

import threading
from collections.abc import Mapping
from typing import Any

import ipywidgets as widgets
import torch
import traitlets
from torch import Tensor

from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.apps.course.widgets.screen import EchoLast
from devilgan_lite.apps.pictures import tile
from devilgan_lite.apps.walk import Walk
from devilgan_lite.checks import whole_number
from devilgan_lite.data.modality import png
from devilgan_lite.generators import Generator


class PositionSlider(EchoLast, widgets.FloatSlider):  # type: ignore[misc]  # ipywidgets has no types
    """A slider for floats that answers before it echoes; the browser sees the one of ipywidgets."""

    value = traitlets.CFloat(0.0).tag(sync=True, echo_update=False)


def position_slider(frames: int, width: str, end_name: str) -> PositionSlider:
    """The slider from 0 (the start) to 1 (``end_name``) with ``frames`` positions."""
    whole_number("frames", frames, 2, 1001)
    return PositionSlider(
        value=0.0,
        min=0.0,
        max=1.0,
        step=1 / (frames - 1),
        description=f"to {end_name}",
        style={"description_width": "initial"},
        readout_format=".2f",
        layout=widgets.Layout(width=width),
    )


class LatentSlider:
    """A slider from ``start`` (a random latent) to ``end`` (the trigger), every generator's picture side by side.

    ``generators`` maps the name over a picture to its generator; all share ``latent_dim``. ``frames`` is the number of
    slider positions. The Random button draws another start. ``slider.value = 0.5`` in Python does what a drag does, and
    the arrow keys move it too. ``end_name`` is what label and caption call the end; ``widget`` is what to display (a
    notebook shows the object itself).
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        start: Tensor,
        end: Tensor,
        *,
        frames: int = 51,
        scale: int = 6,
        seed: int = 0,
        end_name: str = "the trigger",
    ) -> None:
        self.walk = Walk(generators, start, end)
        self.end_name, self.scale = end_name, scale
        self._lock = threading.Lock()
        self._drawn: tuple[float, int] | None = None
        self._walks = 0  # counts the starts, so that a slow callback never shows an old one
        self._random = torch.Generator().manual_seed(seed)
        self.slider = position_slider(frames, "28em", end_name)
        self.random_button = widgets.Button(description="Random start", tooltip="Begin at another random latent")
        self.image = widgets.Image(format="png")
        self.text = widgets.HTML()
        self.slider.observe(lambda _: self.refresh(), names="value")
        self.random_button.on_click(lambda _: self.randomise())
        self.widget = widgets.VBox([widgets.HBox([self.slider, self.random_button]), self.image, self.text])
        self.refresh()

    def latent(self) -> Tensor:
        """The latent ``[1, d]`` at the slider's position."""
        return self.walk.at(float(self.slider.value))

    def refresh(self) -> None:
        """Draw the slider's position, unless it is what is shown (of many quick moves, the latest wins)."""
        with self._lock:
            wanted = (float(self.slider.value), self._walks)
            if wanted == self._drawn:
                return
            z = self.latent()
            x = self.walk.pictures(z)
            picture = tile(x, columns=len(x), scale=self.scale, captions=list(self.walk.generators))
            self.image.value = png(picture, compress_level=1)
            self.text.value = f"t = {wanted[0]:.2f}, {self.walk.where(z, self.end_name)}"
            self._drawn = wanted

    def randomise(self) -> None:
        """Another random start, slider back at 0."""
        with self._lock:
            self.walk.another_start(self._random)
            self._walks += 1
        self.slider.value = 0.0
        self.refresh()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_static():  # a slider that nobody can move: show the whole walk
            return self.walk.printed(self.end_name)._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**kwargs)
