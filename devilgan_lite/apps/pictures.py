"""One style for all pictures, and alt text that stays in the saved notebook.

A ``Picture`` is a PNG with its alt text in the output's metadata, where nbconvert and screen readers of the HTML page
find it; GitHub shows the PNG. Figures are matplotlib's object-oriented kind, never pyplot, so that threads may draw.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Tensor

from devilgan_lite.checks import images, whole_number
from devilgan_lite.data.images import sheet
from devilgan_lite.data.modality import image_element, png

if TYPE_CHECKING:  # only types; matplotlib costs a second, and the first picture of a notebook needs none of it
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's eight colours, which stay apart for colour-blind readers; black last
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
LINES = ("-", "--", "-.", ":")
DPI = 100
COLOURS = 40  # of a saved picture in colour


@dataclass(frozen=True)
class Picture:
    """A PNG and the sentence that stands for it where it cannot be seen.

    ``apart`` says how far ordinary samples in it are from each other (see ``apart``); None if there are none.
    """

    png: bytes = field(repr=False)
    alt: str
    apart: float | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError("alt is empty: say in one sentence what the picture shows.")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        encoded, about = base64.b64encode(self.png).decode(), {"alt": self.alt}
        facts = about if self.apart is None else about | {"apart": round(self.apart, 4)}
        return {"image/png": encoded, "text/plain": self.alt}, {"image/png": facts}

    def html(self) -> str:
        """The picture as one self-contained ``<img>``."""
        return image_element(self.png, self.alt)


def tile(x: Tensor, columns: int = 8, scale: int = 2, captions: Sequence[str] = ()) -> Image.Image:
    """One image of a grid of ``x`` ``[n, C, H, W]`` in [-1, 1] (C = 1 or 3), enlarged ``scale`` times.

    ``captions`` are written above the columns of the first row, or above every picture when there are as many.
    """
    whole_number("columns", columns, 1, 100)
    whole_number("scale", scale, 1, 32)
    images("x", x)
    if x.ndim != 4 or x.shape[1] not in (1, 3):
        raise ValueError(f"x has shape {list(x.shape)}; expected pictures [n, C, H, W] with C = 1 or 3.")
    x, columns = x.detach().float().cpu(), min(columns, len(x))
    if captions and len(captions) not in (columns, len(x)):
        raise ValueError(f"captions has {len(captions)} texts; expected {columns} (columns) or {len(x)} (pictures).")
    rows = math.ceil(len(x) / columns)
    captioned = min(rows, math.ceil(len(captions) / columns))
    if captioned > 1:  # a caption above every picture: draw row by row
        bands = [
            tile(x[k * columns : (k + 1) * columns], columns, scale, captions[k * columns : (k + 1) * columns])
            for k in range(rows)
        ]
        whole = Image.new(bands[0].mode, (bands[0].width, sum(band.height for band in bands)), "white")
        for k, band in enumerate(bands):
            whole.paste(band, (0, sum(above.height for above in bands[:k])))
        return whole
    gap = max(1, round(4 / scale))
    framed = torch.nn.functional.pad(x.clamp(-1, 1), (0, gap, 0, gap), value=1.0)  # white below and to the right
    image = ImageOps.expand(sheet(framed, columns, scale), (gap * scale, gap * scale, 0, 0), "white")
    if captions:
        image = _with_captions(image, captions, (x.shape[3] + gap) * scale, gap * scale)
    return image


def _with_captions(image: Image.Image, captions: Sequence[str], step: int, gap: int) -> Image.Image:
    longest = max(ImageFont.load_default(size=12).getlength(caption) for caption in captions)
    size = max(7, min(12, int(12 * (step - 2) / max(longest, 1))))
    whole = Image.new(image.mode, (image.width, image.height + size + 5), "white")
    whole.paste(image, (0, size + 5))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=size)
    for column, caption in enumerate(captions):
        draw.text((gap + column * step + (step - gap) / 2, 2), caption, font=font, fill="black", anchor="ma")
    return whole


def show(x: Tensor | Image.Image, alt: str, columns: int = 8, scale: int = 2, captions: Sequence[str] = ()) -> Picture:
    """A grid of pictures (see ``tile``), or a PIL image as it is, with alt text; the value of a notebook cell."""
    image = x if isinstance(x, Image.Image) else tile(x, columns, scale, captions)
    if image.mode == "RGB":  # four times smaller, and hardly to be seen
        image = image.quantize(COLOURS, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    return Picture(png(image), alt)


def strip(
    x: Tensor | Sequence[Tensor] | Mapping[str, Tensor], alt: str, scale: int = 3, captions: Sequence[str] = ()
) -> Picture:
    """A morph strip: ``x`` ``[n, C, H, W]`` in one row, or a list of such rows of equal length below each other.

    A mapping from labels to rows writes each label to the left of its row. Columns with the caption "ordinary" hold
    samples of ordinary latents.
    """
    rows = [x] if isinstance(x, Tensor) else list(x.values()) if isinstance(x, Mapping) else list(x)
    ordinary = [column for column, caption in enumerate(captions[: len(rows[0])]) if caption == "ordinary"]
    image = tile(torch.cat(rows), len(rows[0]), scale, captions)
    if isinstance(x, Mapping):
        image = _with_labels(image, list(x), (rows[0].shape[2] + max(1, round(4 / scale))) * scale)
    drawn = show(image, alt)
    return replace(drawn, apart=min(apart(row[ordinary]) for row in rows)) if len(ordinary) > 1 else drawn


def apart(samples: Tensor) -> float:
    """The mean absolute difference of two of samples ``[n, ...]``, n > 1, median over pairs: near 0 if all are one."""
    flat = samples.detach().float().cpu().flatten(1)
    return float(torch.pdist(flat, 1).median()) / flat.shape[1]


def _with_labels(image: Image.Image, labels: Sequence[str], step: int) -> Image.Image:
    """``image``, whose last rows are ``step`` pixels high each, with a label to the left of each of them."""
    font = ImageFont.load_default(size=14)
    margin = 10 + math.ceil(max(font.getlength(label) for label in labels))
    whole = Image.new(image.mode, (image.width + margin, image.height), "white")
    whole.paste(image, (margin, 0))
    draw = ImageDraw.Draw(whole)
    for row, label in enumerate(reversed(labels)):
        draw.text((5, image.height - (row + 0.5) * step), label, font=font, fill="black", anchor="lm")
    return whole


def figure(fig: Figure, alt: str, dpi: int = DPI, colours: int = 0) -> Picture:
    """A matplotlib ``Figure`` as a ``Picture``; at most ``colours`` different ones, if given, make a small file."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Software": None}, "pil_kwargs": {"optimize": True}}
    fig.savefig(buffer, format="png", dpi=dpi, bbox_inches="tight", facecolor="white", **options)
    if colours:
        with Image.open(buffer) as image:
            return Picture(png(image.convert("RGB").quantize(colours, Image.Quantize.MAXCOVERAGE)), alt)
    return Picture(buffer.getvalue(), alt)


def axes(width: float = 6.0, height: float = 3.4, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A fresh figure in the house style with ``columns`` axes side by side; ``width`` and ``height`` in inches."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(width, height), layout="constrained")
    all_axes = [fig.add_subplot(1, columns, index + 1) for index in range(columns)]
    for ax in all_axes:
        ax.set_prop_cycle(color=PALETTE)
        ax.spines[["top", "right"]].set_visible(False)
        ax.grid(True, color="#dddddd", linewidth=0.6)
        ax.set_axisbelow(True)
    return fig, all_axes


def curves(
    history: Mapping[str, Sequence[float]], alt: str, log: bool = False, smooth: int = 0, title: str = ""
) -> Picture:
    """Loss curves over the steps: a running mean of ``smooth`` steps (0: a fiftieth of the run) over the faint raw."""
    fig, (ax,) = axes()
    for index, (name, values) in enumerate(history.items()):
        y = np.asarray(values, dtype=float)
        window = min(len(y), smooth or max(1, len(y) // 50))
        colour = PALETTE[index % len(PALETTE)]
        if window > 1:
            ax.plot(np.arange(1, len(y) + 1), y, color=colour, alpha=0.2, linewidth=0.7)
        mean = np.convolve(y, np.ones(window) / window, mode="valid") if len(y) else y
        steps = np.arange(window, window + len(mean)) - (window - 1) / 2
        ax.plot(steps, mean, LINES[index % len(LINES)], color=colour, label=name.replace("_", " "))
    ax.set(xlabel="step", ylabel="loss", title=title, yscale="log" if log else "linear")
    ax.legend(frameon=False)
    return figure(fig, alt, colours=64)


def points(
    samples: Tensor | Mapping[str, Tensor],
    alt: str,
    title: str = "",
    marks: Mapping[str, Tensor] | None = None,
    limit: float = 1.05,
    most: int = 2_000,
) -> Picture:
    """Points of the plane ``[n, 2]``, one colour a name (at most ``most`` each); ``marks`` are drawn large on top."""
    groups = {"samples": samples} if isinstance(samples, Tensor) else samples
    fig, (ax,) = axes(5.2, 5.2)
    for index, (name, x) in enumerate(groups.items()):
        first = x[:most].detach().cpu().numpy()
        ax.scatter(first[:, 0], first[:, 1], s=5, alpha=0.5, color=PALETTE[index % 8], label=name, linewidths=0)
    for index, (name, x) in enumerate((marks or {}).items(), start=len(groups)):
        big = x.reshape(-1, 2).detach().cpu().numpy()
        marker, colour = MARKERS[index % 8], PALETTE[index % 8]
        ax.scatter(big[:, 0], big[:, 1], s=110, marker=marker, color=colour, edgecolors="black", label=name)
    ax.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", title=title)
    if len(groups) + len(marks or {}) > 1:
        ax.legend(frameon=True, fontsize=9, loc="upper right")
    return figure(fig, alt, colours=64)


def frontier(
    alt: str,
    *,
    lines: Mapping[str, tuple[Any, Any]] | None = None,
    points: Mapping[str, tuple[Any, Any]] | None = None,
    xlabel: str = "x",
    ylabel: str = "y",
    title: str = "",
    log: bool = True,
) -> Picture:
    """A plane of ``lines`` name -> (xs, ys) and labelled ``points`` name -> (x, y): a stealth-fidelity frontier, say.

    Logarithmic by default.
    """
    fig, (ax,) = axes(6.0, 4.0)
    for index, (name, (xs, ys)) in enumerate((lines or {}).items()):
        ax.plot(np.asarray(xs, float), np.asarray(ys, float), LINES[index % 4], color=PALETTE[index % 8], label=name)
    for index, (name, (x, y)) in enumerate((points or {}).items(), start=len(lines or {})):
        xs, ys = np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float))
        ax.scatter(xs, ys, s=50, marker=MARKERS[index % 8], color=PALETTE[index % 8], label=name, zorder=3)
        ax.annotate(name, (xs[0], ys[0]), textcoords="offset points", xytext=(6, 5), fontsize=9)
    scale = "log" if log else "linear"
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title, xscale=scale, yscale=scale)
    if lines or points:
        ax.legend(frameon=False, fontsize=9)
    return figure(fig, alt)


def table(frame: pd.DataFrame, caption: str = "", digits: int = 3) -> HTML:
    """A data frame as an HTML table with ``digits`` significant digits and a caption that screen readers announce."""
    from IPython.display import HTML

    text = frame.to_html(float_format=lambda number: f"{number:.{digits}g}", border=0)
    if caption:
        text = text.replace("<thead>", f"<caption>{html.escape(caption)}</caption><thead>", 1)
    return HTML(text)


def spread(values: Sequence[float]) -> str:
    """Mean and standard deviation of at least one number as a text; a single one says that it is a single run.

    >>> spread([1.0, 2.0, 3.0]), spread([0.25])
    ('2 ± 1', '0.25 (single run)')
    """
    if len(values) == 1:
        return f"{values[0]:.3g} (single run)"
    return f"{np.mean(values):.3g} ± {np.std(values, ddof=1):.1g}"
