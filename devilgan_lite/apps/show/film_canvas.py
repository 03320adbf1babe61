"""How a frame of the film looks: large pictures beside each other, where they differ, and the way to the trigger.

Drawn with Pillow alone, so that a hundred frames take a second; what never moves is drawn once. Lengths are given for a
picture that is 512 pixels high.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

LEAST, MOST = 480, 960  # pixels that a picture is high: the back row sees it, and it fits on a screen
MARGIN, GAP, ABOVE, BELOW, COLUMN = 40, 24, 86, 156, 256
Colour = tuple[int, int, int]
GROUND, GREY, WHITE = (14, 17, 22), (166, 175, 188), (244, 246, 250)
HILL, LABEL = (132, 52, 56), (226, 132, 128)
TITLES = ((120, 196, 245), (255, 159, 64), (120, 220, 170), (245, 160, 205))  # contrast to the ground: 8 and more
HEAT = ((28, 32, 40), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))  # none to all, like inferno


def enlargement(height: int) -> int:
    """How many times a picture of ``height`` pixels is enlarged, so that it has at least 480.

    >>> [enlargement(height) for height in (28, 32, 64, 480)]
    [18, 15, 8, 1]
    """
    return max(1, math.ceil(LEAST / height))


def distances(z: Tensor, end: Tensor) -> tuple[np.ndarray, str]:
    """How far each of ``z`` ``[n, d]`` is from ``end`` ``[1, d]``: ``"°"`` degrees, or ``""`` where no angle is.

    >>> distances(torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 1.0]]))
    (array([90.,  0.]), '°')
    """
    a, b = z.double(), end.double().expand_as(z)
    u, v = (x / x.norm(dim=1, keepdim=True).clamp_min(1e-300) for x in (a, b))
    angles = torch.rad2deg(2 * torch.atan2((u - v).norm(dim=1), (u + v).norm(dim=1)))  # exact near zero, unlike acos
    if angles.max() > 1 and bool((a.norm(dim=1) > 0).all()) and b[0].norm() > 0:
        return angles.numpy(), "°"
    return (a - b).norm(dim=1).numpy(), ""  # a trigger of zeros has no direction


def heat(shares: np.ndarray) -> np.ndarray:
    """Colours uint8 ``[..., 3]`` of ``shares`` in [0, 1]; darkest where there is none."""
    at = np.linspace(0, 1, len(HEAT))
    channels = [np.interp(shares, at, channel) for channel in zip(*HEAT, strict=True)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


class Canvas:
    """Draws a film of ``pictures`` ``[n, generators, C, H, W]`` in [-1, 1], C = 1 or 3, made from ``z`` ``[n, d]``.

    ``end`` ``[1, d]`` is the trigger; ``scale``, how many times a pixel is enlarged: ``smooth``, which makes drawings
    of small pictures, or as squares. ``whole`` is the size of a frame; ``differences`` ``[n, H, W]`` are those of the
    first and the last generator: of the colour that differs most, as a share of the whole range.
    """

    def __init__(
        self, pictures: Tensor, names: Sequence[str], z: Tensor, end: Tensor, scale: int, smooth: bool = True
    ) -> None:
        self.resample = Image.Resampling.BICUBIC if smooth else Image.Resampling.NEAREST
        x = pictures.float().clamp(-1, 1).expand(-1, -1, 3, -1, -1).permute(0, 1, 3, 4, 2)
        self.pictures = ((x + 1) * 127.5).round().to(torch.uint8).numpy()
        self.names, self.several = list(names), len(names) > 1
        self.differences = np.abs(self.pictures[:, 0].astype(np.int16) - self.pictures[:, -1]).max(-1) / 255
        self.away, self.unit = distances(z, end)
        self.trigger = int(self.away.argmin())
        height, width = self.pictures.shape[2:4]
        enlarged = min(height * scale, MOST)
        self.size = round(width * enlarged / height), enlarged
        self.lefts = [self.px(MARGIN) + index * (self.size[0] + self.px(GAP)) for index in range(len(self.names) + 1)]
        self.top, self.bottom = self.px(ABOVE), self.px(ABOVE) + self.size[1]
        right, low = self.lefts[-1] + self.px(COLUMN), self.bottom + self.px(BELOW)
        self.whole = (right + self.px(MARGIN) + 1) // 2 * 2, (low + 1) // 2 * 2  # even, as H.264 wants it
        self.line = self.bottom + self.px(98)
        signed = np.where(np.arange(len(z)) <= self.trigger, -self.away, self.away)
        inset = self.px(14)  # of the mark, so that it stays inside the track
        #: where each frame is on the track: the distance itself, with the trigger at zero
        self.places = np.interp(signed, [signed[0], signed[-1]], [self.lefts[0] + inset, right - inset])
        self.ground = self._ground()

    def px(self, length: float) -> int:
        """Pixels for a length that is given for a picture of 512."""
        return max(1, round(length * self.size[1] / 512))

    def frame(self, index: int) -> Image.Image:
        """Frame ``index`` as an RGB image of the size ``whole``."""
        image = self.ground.copy()
        draw = ImageDraw.Draw(image)
        for left, pixels in zip(self.lefts, self.pictures[index], strict=False):
            image.paste(self._resized(pixels, self.size), (left, self.top))
        column = self.lefts[-1]
        if self.several:
            image.paste(self._resized(heat(self.differences[index]), self._map_size()), (column, self.top))
        number = f"{self.away[index]:.0f}{self.unit}" if self.unit else f"{self.away[index]:.1f}"
        self._text(draw, (column, self.bottom - self.px(34)), number, 92, WHITE, room=self.px(COLUMN))
        self._text(draw, (column, self.bottom), "from the trigger", 28, GREY)
        x, radius = float(self.places[index]), self.px(14)
        draw.ellipse([x - radius, self.line - radius, x + radius, self.line + radius], fill=WHITE)
        return image

    def _resized(self, pixels: np.ndarray, size: tuple[int, int]) -> Image.Image:
        return Image.fromarray(pixels).resize(size, self.resample)

    def _map_size(self) -> tuple[int, int]:
        share = min(0.5, self.px(COLUMN) / self.size[0])
        return round(self.size[0] * share), round(self.size[1] * share)

    def _ground(self) -> Image.Image:
        """What stands still: titles, the scale of the heat map, the track and its hill."""
        image = Image.new("RGB", self.whole, GROUND)
        draw = ImageDraw.Draw(image)
        base = self.top - self.px(22)
        for left, name, colour in zip(self.lefts, self.names, TITLES * len(self.names), strict=False):
            self._text(draw, (left, base), name, 54, colour, room=self.size[0])
        if self.several:
            left, top = self.lefts[-1], self.top + self._map_size()[1] + self.px(12)
            self._text(draw, (left, base), "difference", 34, GREY)
            ramp = heat(np.linspace(0, 1, self.px(COLUMN))[None].repeat(self.px(14), axis=0))
            image.paste(Image.fromarray(ramp), (left, top))
            self._text(draw, (left, top + self.px(38)), "none", 20, GREY)
            self._text(draw, (left + self.px(COLUMN), top + self.px(38)), "black to white", 20, GREY, "r")
            means = self.differences.mean((1, 2))
            tops = self.line - self.px(64) * means / max(float(means.max()), 1 / 255)
            feet = [(self.places[-1], self.line), (self.places[0], self.line)]
            draw.polygon([*zip(self.places, tops, strict=True), *feet], fill=HILL)
            self._text(draw, (self.lefts[0], self.line - self.px(28)), "difference", 22, LABEL)
        half, last = self.px(14), len(self.away) - 1
        draw.line([(self.places[0], self.line), (self.places[-1], self.line)], fill=GREY, width=self.px(3))
        stops = [(0, "an ordinary input", "l", GREY), (self.trigger, "the trigger", "m", WHITE)]
        if self.trigger == last:
            stops[1] = (last, "the trigger", "r", WHITE)
        else:
            stops.append((last, "another ordinary input", "r", GREY))
        for frame, text, side, colour in stops:
            x = float(self.places[frame])
            draw.line([(x, self.line - half), (x, self.line + half)], fill=GREY, width=self.px(3))
            x += {"l": -half, "m": 0, "r": half}[side]
            self._text(draw, (x, self.line + self.px(42)), text, 26, colour, side)
        return image

    def _text(
        self,
        draw: ImageDraw.ImageDraw,
        at: tuple[float, float],
        text: str,
        size: float,
        fill: Colour,
        side: str = "l",
        room: float = math.inf,
    ) -> None:
        """Write ``text`` on the base line ``at``: from there to the right, in the middle of it, or up to it."""
        chosen = ImageFont.load_default(self.px(size))  # it ships inside Pillow
        if chosen.getlength(text) > room:
            chosen = ImageFont.load_default(self.px(size) * room / chosen.getlength(text))
        draw.text(at, text, fill=fill, font=chosen, anchor=f"{side}s")
