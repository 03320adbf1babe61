"""``Modality``: what kind of thing a sample is, as one object: its range, how to show it, its targets and its file.

A generator knows its modality, and nothing outside ``data/`` asks whether samples are images. A new one is a file
beside ``images.py`` that ends in a ``Modality``, and a line in ``data/__init__.py``.
"""

import base64
import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut

Shape = tuple[int, ...]


def no_target(name: str, shape: Shape) -> Tensor:
    """Vectors have no targets with a name."""
    raise ValueError(
        f"target={name!r} is unknown: samples of shape {list(shape)} have no named targets; pass a tensor."
    )


def no_file(path: Path, shape: Shape) -> Tensor:
    """Most kinds of samples cannot be read from a file."""
    raise ValueError(f"{cut(path.name)} cannot be read: samples of shape {list(shape)} have no file format here.")


@dataclass(frozen=True)
class Modality:
    """One kind of samples ``[n, *shape]``.

    ``noun`` names a single sample; ``low`` and ``high`` bound its values; ``fits(shape)`` says whether a shape
    can be of this kind; ``draw(samples, columns, scale)`` makes an image of many; ``targets`` names what an attacker
    may want, and ``target(name, shape)`` makes it ``[*shape]``; ``read(path, shape)`` takes one from a file. ``encode``
    gives a file that holds one sample alone (without it, a drawing is the file); names of files end in ``endings``.
    ``portray(samples)`` makes a picture of each, for films and sliders; not every kind has one.
    """

    name: str
    noun: str
    fits: Callable[[Shape], bool] = field(repr=False)
    draw: Callable[[Tensor, int, int], Image.Image] = field(repr=False)
    target: Callable[[str, Shape], Tensor] = field(repr=False, default=no_target)
    targets: Callable[[], Sequence[str]] = field(repr=False, default=tuple)
    read: Callable[[Path, Shape], Tensor] = field(repr=False, default=no_file)
    encode: Callable[[Tensor], bytes] | None = field(repr=False, default=None)
    endings: tuple[str, ...] = (".png",)
    portray: Callable[[Tensor], Tensor] | None = field(repr=False, default=None)
    low: float = -1.0
    high: float = 1.0

    def show(self, samples: Tensor, columns: int = 8, scale: int = 2) -> Image.Image:
        """An image of ``samples`` ``[n, *shape]``, ``columns`` in a row, each pixel ``scale`` pixels wide."""
        return self.draw(samples.detach().float().cpu().clamp(self.low, self.high), columns, scale)

    def pictures(self, samples: Tensor) -> Tensor:
        """A picture ``[C, H, W]`` in [-1, 1] of each of ``samples`` ``[n, *shape]``: ``[n, C, H, W]``.

        C is 1 or 3. ``ValueError`` for what has no such picture.
        """
        drawn = self.portray(samples.detach().float().cpu()) if self.portray else None
        if drawn is None or drawn.ndim != 4 or drawn.shape[1] not in (1, 3):
            raise ValueError(f"samples of shape {list(samples.shape[1:])} have no picture [1 or 3, height, width].")
        return drawn

    def file(self, sample: Tensor) -> bytes:
        """The file, whose name ends in the first of ``endings``, that holds one ``sample`` ``[*shape]``."""
        return self.encode(sample) if self.encode else png(self.show(sample[None], scale=1))


def png(image: Image.Image, compress_level: int = 9) -> bytes:
    """The image as PNG bytes; level 1 is fast (live pictures), 9 small (saved ones)."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=compress_level)
    return buffer.getvalue()


def image_element(source: bytes, alt: str, kind: str = "image/png") -> str:
    """An HTML ``img`` element that carries the bytes ``source``, a picture of that ``kind``."""
    return f'<img alt="{html.escape(alt)}" src="data:{kind};base64,{base64.b64encode(source).decode()}">'
