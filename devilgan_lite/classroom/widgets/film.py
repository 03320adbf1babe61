"""The morph as a film: from a chosen picture to the trigger and back, in one call, for any generators."""

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.classroom.plots import COLOURS, Picture, show, tile
from devilgan_lite.classroom.widgets.walk import NEAR_THE_END, at_device, labels, slerp
from devilgan_lite.data.modality import image_element
from devilgan_lite.generators import Generator

ENDINGS = {".webp": "image/webp", ".gif": "image/gif"}


@dataclass(frozen=True)
class Film:
    """What ``film`` made: its size in ``bytes``, the ``frames`` and ``seconds`` it took; ``path`` is None if not saved.

    ``moving`` is the film itself, to be shown in a page.
    """

    path: Path | None
    bytes: int
    frames: int
    seconds: float
    sheet: Picture  # eight frames, for paper
    moving: str = field(default="", repr=False)  # an <img>; empty for a film that was written to a file

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """In a notebook: the film if it is inline, and the sheet for paper; a film in a file shows its sheet alone."""
        data, about = self.sheet._repr_mimebundle_(**kwargs)
        return ({**data, "text/html": self.moving} if self.moving else data), about


def film(
    generators: Mapping[str, Generator],
    start: Tensor,
    end: Tensor,
    path: str | Path | None = None,
    *,
    frames: int = 60,
    scale: int = 4,
    milliseconds: int = 50,
    captions: Sequence[str] | None = None,
) -> Film:
    """The walk from ``start`` ``[1, d]`` to ``end`` and back as an endless film, written to ``path`` (.webp or .gif).

    Without a ``path`` it is a WebP inside the notebook that shows it, of some 100 kB. All ``generators`` side by side,
    under their names (or ``captions``), each pixel ``scale`` times enlarged. The walk eases in and out at both ends.
    ``frames`` in all, 4 to 1000.
    """
    began, path = time.perf_counter(), None if path is None else Path(path)
    ending = ".webp" if path is None else path.suffix
    one_of("ending of path", ending, ENDINGS)
    whole_number("frames", frames, 4, 1000)
    whole_number("scale", scale, 1, 32)
    whole_number("milliseconds", milliseconds, 10, 1000)
    names = list(generators) if captions is None else list(captions)
    half = frames // 2 + 1
    t = (1 - (math.pi * torch.linspace(0, 1, half)).cos()) / 2
    z = slerp(start.detach().cpu(), end.detach().cpu(), t)
    pictures = torch.stack([at_device(generator, z) for generator in generators.values()], dim=1)
    images = [tile(row, columns=len(row), scale=scale, captions=names) for row in pictures]
    turn = [*images, *images[-2:0:-1]][:frames]  # a mirrored frame is drawn once
    content = small(turn, milliseconds) if path is None else encoded(turn, ending, milliseconds)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    kept = (t[:, None] - torch.tensor(NEAR_THE_END)).abs().argmin(0)
    few = pictures[kept].transpose(0, 1).flatten(0, 1)
    about = f"a film from an ordinary latent to the trigger; one row for each of: {', '.join(names)}."
    sheet = show(few, f"Eight frames of {about}", columns=len(kept), scale=4, captions=labels(names, t[kept].tolist()))
    moving = image_element(content, about[:1].upper() + about[1:], ENDINGS[ending]) if path is None else ""
    return Film(path, len(content), len(turn), time.perf_counter() - began, sheet, moving)


def encoded(images: Sequence[Image.Image], ending: str, milliseconds: int) -> bytes:
    """An endless film of ``images``; WebP is about ten times smaller than GIF."""
    buffer = io.BytesIO()
    colour = [image.convert("RGB") for image in images]
    options: dict[str, Any] = {"save_all": True, "append_images": colour[1:], "duration": milliseconds, "loop": 0}
    if ending == ".webp":
        colour[0].save(buffer, "WEBP", quality=80, method=0, **options)
    else:
        palette = Image.fromarray(np.concatenate([np.asarray(image) for image in colour[:: max(1, len(colour) // 4)]]))
        common = palette.quantize(255)
        reduced = [image.quantize(palette=common, dither=Image.Dither.NONE) for image in colour]
        reduced[0].save(buffer, "GIF", **{**options, "append_images": reduced[1:], "optimize": False})
    return buffer.getvalue()


def small(images: Sequence[Image.Image], milliseconds: int) -> bytes:
    """The same for a notebook: without loss and in few colours, since enlarged pixels repeat themselves."""
    few = [
        image if image.mode == "L" else image.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        for image in images
    ]
    buffer = io.BytesIO()
    options: dict[str, Any] = {"lossless": True, "quality": 50, "method": 4, "duration": milliseconds, "loop": 0}
    first, *others = (image.convert("RGB") for image in few)
    first.save(buffer, "WEBP", save_all=True, append_images=others, **options)
    return buffer.getvalue()
