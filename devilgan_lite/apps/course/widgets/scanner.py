"""Watch a scan: the spectrum as bars, and the recovered picture, as soon as the detectors have found them."""

from collections.abc import Callable
from html import escape
from typing import Any

import ipywidgets as widgets
from torch import Tensor

from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.apps.course.widgets.worker import Job
from devilgan_lite.apps.pictures import PALETTE, Picture, axes, figure, tile
from devilgan_lite.data import modality
from devilgan_lite.data.modality import png

SHOWN = 8  # pictures of a search


class Stopped(Exception):
    """Stop was pressed; ends the scan from inside."""


class ScanView(Job):
    """Runs ``scan`` in a thread and shows its findings as they come; ``wait()`` returns its report.

    ``scan`` takes a callable that it calls with each finding: ``ScanView(lambda progress: detect.scan(suspect,
    on_finding=progress))``. Findings are read by attribute (``detector``, ``message``, ``samples``, ``details``). Stop
    ends it at the next finding, and ``wait()`` then raises ``Stopped``. Where nobody can press a button, it runs to the
    end, and the object shows bars and pictures in print.
    """

    what = "scan"

    def __init__(self, scan: Callable[[Callable[[Any], None]], Any], *, blocking: bool | None = None) -> None:
        super().__init__(blocking)
        self.scan = scan
        self.findings: list[Any] = []
        self.bars: Picture | None = None
        self.recovered: Picture | None = None
        self.text = widgets.HTML("scanning ...")
        self.bars_image, self.picture_image = (
            widgets.Image(format="png", layout=widgets.Layout(max_width="100%", display="none")) for _ in range(2)
        )
        self.stop_button = widgets.Button(description="Stop", tooltip="End at the next finding")
        self.stop_button.on_click(lambda _: self.stop())
        pictures = widgets.HBox([self.bars_image, self.picture_image], layout=widgets.Layout(flex_flow="row wrap"))
        self.widget = widgets.VBox([self.stop_button, pictures, self.text])

    def _work(self) -> Any:
        report = self.scan(self._found)
        self.text.value = f"<strong>{escape(report.verdict)}</strong>, {escape(report.reason)}<br>{self._lines()}"
        return report

    def _found(self, finding: Any) -> None:
        if self._stop.is_set():
            raise Stopped("the scan was stopped before its end, so there is no report.")
        self.findings.append(finding)
        self.text.value = f"scanning ...<br>{self._lines()}"
        values = finding.details.get("values")
        if values and self.bars is None:
            self.bars = spectrum_bars(values)
            self._show(self.bars_image, self.bars)
        found = finding.samples
        # what mere sampling (T0) sees is ordinary
        if found is not None and found.ndim > 2 and finding.access_level != "T0":
            self.recovered = recovered_pictures(finding)
            self._show(self.picture_image, self.recovered)

    def _lines(self) -> str:
        rows = [
            f"{escape(one.detector)}: {escape(one.message)}"
            + (f" (strength {one.strength:.2g})" if one.evidence else "")
            for one in self.findings
        ]
        return "<br>".join(rows)

    def _show(self, image: widgets.Image, picture: Picture) -> None:
        image.value = picture.png
        image.layout.display = None

    def _failed(self, sentence: str) -> None:
        self.text.value = "stopped" if isinstance(self.error, Stopped) else sentence

    def _ended(self) -> None:
        self.stop_button.disabled = True

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """The widget; where nobody can press anything, the evidence of the finished scan."""
        if not is_static():
            return self.widget._repr_mimebundle_(**kwargs)
        shown = [picture for picture in (self.bars, self.recovered) if picture is not None]
        content = "".join(picture.html() for picture in shown) + f"<p>{self._lines()}</p>"
        plain = "\n".join([*(picture.alt for picture in shown), *(one.message for one in self.findings)])
        return {"text/html": content, "text/plain": plain or "the scan has not run"}, {}


def spectrum_bars(values: list[float]) -> Picture:
    """The leading values of a spectrum as bars; the first one, which points to a trigger if any does, stands out."""
    fig, (ax,) = axes(5.6, 3.0)
    ax.bar(range(1, len(values) + 1), values, color=[PALETTE[1], *[PALETTE[0]] * (len(values) - 1)])
    ax.set(xlabel="direction of the latent space", ylabel="energy per influence")
    jump = values[0] / values[1] if len(values) > 1 and values[1] else 1.0
    return figure(fig, f"Bars of the latent spectrum; the first is {jump:.1f} times as high as the second.", dpi=100)


def recovered_pictures(finding: Any) -> Picture:
    """What a detector found, enlarged to a good 112 pixels each."""
    found: Tensor = finding.samples[:SHOWN]
    plain = found if found.shape[1] in (1, 3) else found[:, :1]
    shown = modality(tuple(plain.shape[1:])).pictures(plain)
    sheet = tile(shown.clamp(-1, 1), columns=min(4, len(shown)), scale=max(1, round(112 / shown.shape[-1])))
    return Picture(png(sheet, compress_level=1), f"{len(shown)} pictures found by: {finding.detector}.")
