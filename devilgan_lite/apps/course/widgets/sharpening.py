"""Watch a plane of latent space become sharp: few large pictures, then more and smaller ones, then the basin."""

from html import escape
from typing import Any

import ipywidgets as widgets

from devilgan_lite.apps.course.mosaic import LatentPlane, Mosaic
from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.apps.course.widgets.worker import Job


class MosaicView(Job):
    """Draws ``LatentPlane(...)`` in a thread, coarse to fine; ``wait()`` returns the last ``Mosaic``.

    Takes what ``latent_mosaic`` takes. Stop ends it at the next level, and what is shown then is the result, without an
    outline. Where nobody can press a button, only the last level is drawn, and the object shows it in print.
    """

    what = "mosaic"

    def __init__(self, *arguments: Any, alt: str = "", blocking: bool | None = None, **settings: Any) -> None:
        super().__init__(blocking)
        self.plane, self.alt = LatentPlane(*arguments, **settings), alt
        self.image = widgets.Image(format="png", layout=widgets.Layout(max_width="100%"))
        self.text = widgets.HTML("drawing ...")
        self.stop_button = widgets.Button(description="Stop", tooltip="End with the next mosaic")
        self.stop_button.on_click(lambda _: self.stop())
        self.widget = widgets.VBox([self.stop_button, self.image, self.text])

    def _work(self) -> Mosaic:
        for mosaic in self.plane.sharpening(self.alt):
            self.image.value = mosaic.png
            self.text.value = escape(mosaic.alt)  # also for those who do not see the picture
            if self._stop.is_set():
                break
        return mosaic

    def _work_blocking(self) -> Mosaic:
        return self.plane.finished(self.alt)

    def _failed(self, sentence: str) -> None:
        self.text.value = sentence

    def _ended(self) -> None:
        self.stop_button.disabled = True

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if not is_static():
            return self.widget._repr_mimebundle_(**kwargs)
        return self.result._repr_mimebundle_() if self.result else ({"text/plain": "nothing is drawn yet"}, {})
