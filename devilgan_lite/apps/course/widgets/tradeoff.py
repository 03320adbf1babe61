"""Choose a point on a trade-off curve: its gain, its cost, and what the chosen model draws."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ipywidgets as widgets
from PIL import Image
from torch import Tensor

from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.apps.pictures import LINES, PALETTE, Picture, axes, figure, tile
from devilgan_lite.data.modality import png


@dataclass(frozen=True)
class Choice:
    """One point: its ``name``, ``cost`` (to the right), ``gain`` (upwards) and ``pictures`` ``[n, C, H, W]``."""

    name: str
    cost: float
    gain: float
    pictures: Tensor = field(repr=False)


class TradeOff:
    """A list of curves and a slider along the chosen one: the point in the plane, and the pictures of its model.

    ``bar`` is ``(cost, gain)``: what a good choice costs at most and gains at least. ``captions`` stand over the
    pictures. ``curve.value = name`` and ``slider.value = 2`` in Python do what the mouse does.
    """

    def __init__(
        self,
        curves: Mapping[str, Sequence[Choice]],
        bar: tuple[float, float],
        *,
        xlabel: str = "cost",
        ylabel: str = "gain",
        captions: Sequence[str] = (),
        log_from: float = 1.0,
    ) -> None:
        if not curves or not all(curves.values()):
            raise ValueError("curves is empty, or one of them is; give at least one name and one point for each.")
        self.curves, self.bar = {name: list(points) for name, points in curves.items()}, bar
        self.xlabel, self.ylabel, self.captions, self.log_from = xlabel, ylabel, list(captions), log_from
        first = next(iter(self.curves))
        self.curve = widgets.Dropdown(options=list(self.curves), value=first, description="curve")
        self.slider = widgets.IntSlider(
            value=0, min=0, max=len(self.curves[first]) - 1, description="point", readout=False
        )
        self.image, self.text = widgets.Image(format="png"), widgets.HTML()
        self.curve.observe(lambda _: self._other_curve(), names="value")
        self.slider.observe(lambda _: self.refresh(), names="value")
        self.widget = widgets.VBox([widgets.HBox([self.curve, self.slider]), self.text, self.image])
        self.refresh()

    @property
    def choice(self) -> Choice:
        """The point that is chosen now."""
        points = self.curves[self.curve.value]
        return points[min(self.slider.value, len(points) - 1)]

    @property
    def meets_the_bar(self) -> bool:
        """Whether the chosen point costs little enough and gains enough."""
        cost, gain = self.bar
        return self.choice.cost <= cost and self.choice.gain >= gain

    def sentence(self) -> str:
        """The chosen point in words."""
        one, verdict = self.choice, "meets the bar" if self.meets_the_bar else "does not meet the bar"
        return (
            f"{self.curve.value}, {one.name}: {self.ylabel} {one.gain:.3g}, {self.xlabel} {one.cost:+.2f}: it {verdict}"
        )

    def draw(self) -> Image.Image:
        """The plane with the chosen point in it, above the pictures of its model."""
        fig, (ax,) = axes(7.0, 3.4)
        for index, (name, points) in enumerate(self.curves.items()):
            chosen = name == self.curve.value
            ax.plot(
                [point.cost for point in points],
                [point.gain for point in points],
                LINES[index % len(LINES)],
                marker="o",
                markersize=4,
                color=PALETTE[index % len(PALETTE)],
                alpha=1.0 if chosen else 0.4,
                label=name,
            )
        ax.plot([self.choice.cost], [self.choice.gain], "o", markersize=13, fillstyle="none", color="black")
        ax.axhline(self.bar[1], color="black", linewidth=0.8, linestyle="--")
        ax.axvline(self.bar[0], color="black", linewidth=0.8, linestyle="--")
        ax.set_xscale("symlog", linthresh=self.log_from)
        ax.set(xlabel=self.xlabel, ylabel=self.ylabel)
        ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
        plane = Image.open(io.BytesIO(figure(fig, "the plane", dpi=100).png)).convert("RGB")
        row = tile(self.choice.pictures, columns=len(self.choice.pictures), scale=4, captions=self.captions)
        sheet = Image.new("RGB", (max(plane.width, row.width), plane.height + row.height), "white")
        sheet.paste(plane, (0, 0))
        sheet.paste(row.convert("RGB"), (0, plane.height))
        return sheet

    def refresh(self) -> None:
        """Draw what is chosen now."""
        self.image.value, self.text.value = png(self.draw(), compress_level=1), self.sentence()

    def picture(self) -> Picture:
        """The same for print."""
        return Picture(
            png(self.draw().quantize(128, Image.Quantize.MAXCOVERAGE)),
            f"Curves of gain against cost. {self.sentence()}.",
        )

    def _other_curve(self) -> None:
        self.slider.max = len(self.curves[self.curve.value]) - 1  # traitlets moves a value that is beyond
        self.refresh()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return self.picture()._repr_mimebundle_() if is_static() else self.widget._repr_mimebundle_(**kwargs)
