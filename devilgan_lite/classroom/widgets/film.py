"""The morph as a film: from a chosen picture to the trigger and back, in one call, for any generators."""

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.classroom.plots import Picture, show, tile
from devilgan_lite.classroom.widgets.walk import at_device, slerp
from devilgan_lite.generators import Generator

ENDINGS = {".webp": "image/webp", ".gif": "image/gif"}


@dataclass(frozen=True)
class Film:
    """What ``film`` wrote: ``path``, its size in ``bytes``, the ``frames`` and ``seconds`` it took to make."""

    path: Path
    bytes: int
    frames: int
    seconds: float
    sheet: Picture  # eight frames, for paper

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        """In a notebook: the sheet, which every front end can show and which stays small in a saved file."""
        return self.sheet._repr_mimebundle_(**kwargs)


def film(
    generators: Mapping[str, Generator],
    start: Tensor,
    end: Tensor,
    path: str | Path,
    *,
    frames: int = 60,
    scale: int = 4,
    milliseconds: int = 50,
    captions: Sequence[str] | None = None,
) -> Film:
    """Write the walk from ``start`` ``[1, d]`` to ``end`` and back as an endless film; ``path`` ends in .webp or .gif.

    All ``generators`` side by side, under their names (or ``captions``), each pixel ``scale`` times enlarged.
    The walk eases in and out at both ends. ``frames`` in all, 4 to 1000.
    """
    began, path = time.perf_counter(), Path(path)
    one_of("ending of path", path.suffix, ENDINGS)
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
    content = encoded(turn, path.suffix, milliseconds)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    few = pictures[torch.linspace(0, half - 1, 8).round().long()].transpose(0, 1).flatten(0, 1)
    alt = f"Eight frames of a film from an ordinary latent to the trigger; one row for each of: {', '.join(names)}."
    return Film(path, len(content), len(turn), time.perf_counter() - began, show(few, alt, columns=8))


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
