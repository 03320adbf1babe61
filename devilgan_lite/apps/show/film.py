"""The morph as a film: from a picture to the trigger, on to another and back, in one call, for any generators."""

import io
import math
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from devilgan_lite.apps.pictures import Picture, tile
from devilgan_lite.apps.show.film_canvas import Canvas, enlargement
from devilgan_lite.apps.walk import (
    NEAR_THE_END,
    TILE,
    Walk,
    labels,
    picture_shape,
    pictured,
    slerp,
    static_strip,
)
from devilgan_lite.checks import latents, one_of, whole_number
from devilgan_lite.data.modality import image_element
from devilgan_lite.generators import Generator

ENDINGS = (".webp", ".gif", ".mp4")
PACE = {  # frames and milliseconds from one to the next, so that a film takes ten seconds and its file stays small
    None: (60, 50),
    ".webp": (96, 60),
    ".gif": (48, 100),
    ".mp4": (144, 40),
}
REST = 1_000  # milliseconds at the trigger and at both ends
MOST_FRAMES = 400  # half of them are in memory at once
BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"  # else browsers guess, and the red of the sign changes
H264 = ["-preset", "veryfast", "-crf", "20", "-movflags", "+faststart"]
H264 += ["-vf", f"scale=out_color_matrix=bt709,setparams={BT709}"]


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
    other: Tensor | None = None,
    frames: int | None = None,
    scale: int | None = None,
    milliseconds: int | None = None,
    captions: Sequence[str] | None = None,
) -> Film:
    """The walk from ``start`` to the trigger ``end``, on to ``other`` and back as an endless film; all are ``[1, d]``.

    Without ``other`` it turns round at the trigger. Motion eases in and out, and rests at the trigger and both ends.
    With a ``path`` (.webp, .gif or .mp4): for a room. All ``generators`` side by side under their names (or
    ``captions``), each picture 480 to 960 pixels high unless ``scale`` says otherwise; a heat map of how far the first
    and the last of them differ, and a track with the distance to the trigger. Without one: a WebP of some 100 kB inside
    the notebook that shows it, with the pictures alone. Each pixel is enlarged ``scale`` times (None: four times in a
    notebook). Sound is shown as waveforms and spectrograms.
    ``frames`` in all, 4 to 400; None: what suits the kind of file.
    """
    began, path = time.perf_counter(), None if path is None else Path(path)
    ending = None if path is None else path.suffix
    if ending is not None:
        one_of("ending of path", ending, ENDINGS)
    frames = PACE[ending][0] if frames is None else frames
    milliseconds = PACE[ending][1] if milliseconds is None else milliseconds
    whole_number("frames", frames, 4, MOST_FRAMES)
    whole_number("scale", 1 if scale is None else scale, 1, 32)
    whole_number("milliseconds", milliseconds, 10, 1000)
    _check(generators, start, end, other)
    names = list(generators) if captions is None else list(captions)
    if len(names) != len(generators):
        raise ValueError(f"captions has {len(names)} texts; expected {len(generators)}, one for each generator.")
    if not features.check_module("freetype2"):
        raise ValueError("this Pillow cannot write letters: pip install --force-reinstall pillow brings FreeType.")
    if ending == ".mp4":
        _ffmpeg()
    z, turn = _way(start, end, other, frames // 2)
    pictures = torch.stack([pictured(generator, z) for generator in generators.values()], dim=1)
    order = [*range(len(z)), *range(len(z) - 2, 0, -1)]  # the way back is a mirror of the way there
    times = [max(REST, milliseconds) if index in (0, turn, len(z) - 1) else milliseconds for index in order]
    if path is None:
        images = [tile(row, columns=len(row), scale=scale or 4, captions=names) for row in pictures]
        content = _small([images[index] for index in order], times)
    else:
        smooth = ending != ".gif"  # shades between the pixels would need more colours than a GIF has
        canvas = Canvas(pictures, names, z, end.detach().cpu(), scale or enlargement(pictures.shape[-2]), smooth)
        content = _encoded(canvas, order, times, milliseconds, path.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    about = f"a film from an ordinary latent to the trigger; one row for each of: {', '.join(names)}."
    few = max(1, TILE // pictures.shape[-1])
    heads = labels(names, NEAR_THE_END)
    sheet = static_strip(generators, start, end, f"Eight frames of {about}", t=NEAR_THE_END, scale=few, captions=heads)
    moving = "" if path else image_element(content, about[:1].upper() + about[1:], "image/webp")
    return Film(path, len(content), len(order), time.perf_counter() - began, sheet, moving)


def _check(generators: Mapping[str, Generator], start: Tensor, end: Tensor, other: Tensor | None) -> None:
    kinds = [(list(generator.sample_shape), generator.latent_dim) for generator in generators.values()]
    if any(kind != kinds[0] for kind in kinds) or not all(map(picture_shape, generators.values())):
        made = " and ".join(f"{shape} from {latent_dim} numbers" for shape, latent_dim in kinds)
        raise ValueError(
            f"generators make {made}; a film shows pictures [1 or 3, height, width] or sound, all of one kind."
        )
    Walk(generators, start, end)  # says what is wrong with them
    if other is not None:
        latents("other", other, start.shape[1])
        if len(other) != 1:
            raise ValueError(f"other has {len(other)} rows; expected one latent [1, {start.shape[1]}].")


def _way(start: Tensor, end: Tensor, other: Tensor | None, steps: int) -> tuple[Tensor, int]:
    """The latents from one end of the film to the other, ``[steps + 1, d]``, and which of them is ``end``."""

    def leg(a: Tensor, b: Tensor, count: int) -> Tensor:
        eased = (1 - (math.pi * torch.linspace(0, 1, count + 1)).cos()) / 2
        return slerp(a.detach().cpu(), b.detach().cpu(), eased)

    first = steps if other is None else (steps + 1) // 2
    there = leg(start, end, first)
    return there if other is None else torch.cat([there, leg(end, other, steps - first)[1:]]), first


def _encoded(canvas: Canvas, order: Sequence[int], times: Sequence[int], milliseconds: int, ending: str) -> bytes:
    """An endless film of the frames ``order`` of ``canvas``, each shown for its one of ``times``."""
    distinct = range(max(order) + 1)
    if ending == ".mp4":
        repeated = [
            at for at, time in zip(order, times, strict=True) for _ in range(max(1, round(time / milliseconds)))
        ]
        frames = (canvas.frame(index).tobytes() for index in repeated)
        return _mp4(frames, canvas.whole, 1000 / milliseconds)
    buffer = io.BytesIO()
    if ending == ".gif":  # one palette for all frames, or the colours would flicker
        some = [np.asarray(canvas.frame(index))[::3, ::3] for index in distinct[:: max(1, len(distinct) // 8)]]
        palette = Image.fromarray(np.concatenate(some)).quantize(255)
        images = [canvas.frame(index).quantize(palette=palette, dither=Image.Dither.NONE) for index in distinct]
        options: dict[str, Any] = {"format": "GIF", "optimize": False}
    else:
        images = [canvas.frame(index) for index in distinct]
        options = {"format": "WEBP", "quality": 60, "method": 2}
    first, *others = (images[index] for index in order)
    first.save(buffer, save_all=True, append_images=others, duration=list(times), loop=0, **options)
    return buffer.getvalue()


def _ffmpeg() -> Any:
    """The package that brings ffmpeg; ``ValueError`` without it."""
    way_on = "a film that ends in .webp or .gif needs nothing."
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except ModuleNotFoundError:
        raise ValueError(f".mp4 needs imageio-ffmpeg: pip install 'devilgan_lite[film]'; {way_on}") from None
    except (OSError, RuntimeError):  # a platform whose wheel brings no program
        raise ValueError(f".mp4 needs ffmpeg, and imageio-ffmpeg found none; {way_on}") from None
    return imageio_ffmpeg


def _mp4(frames: Iterable[bytes], size: tuple[int, int], rate: float) -> bytes:
    """RGB ``frames`` as H.264 that every browser plays."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "film.mp4"
        writer = _ffmpeg().write_frames(
            str(place), size, fps=rate, codec="libx264", quality=None, macro_block_size=2, output_params=H264
        )
        try:
            writer.send(None)
            for frame in frames:
                writer.send(frame)
            writer.close()
            return place.read_bytes()
        except OSError:
            raise ValueError("ffmpeg could not write the film as .mp4; .webp and .gif do without it.") from None


def _small(images: Sequence[Image.Image], times: Sequence[int]) -> bytes:
    """A film for a notebook: grey ones without loss, since enlarged pixels repeat themselves; colour loses a little."""
    grey = all(image.mode == "L" for image in images)
    how: dict[str, Any] = {"lossless": True, "quality": 50} if grey else {"quality": 40}
    buffer = io.BytesIO()
    first, *others = (image.convert("RGB") for image in images)
    first.save(buffer, "WEBP", save_all=True, append_images=others, method=4, duration=list(times), loop=0, **how)
    return buffer.getvalue()
