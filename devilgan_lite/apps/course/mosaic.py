"""A plane of latent space as a mosaic of pictures, with the basin of a backdoor outlined: how far does a trigger reach?

The plane is that of the explorer's pad and of the phone's page: right to the trigger, up to another latent. It goes
through the trigger, so the basin looks large in it; the share of ordinary latents that a backdoor changes is fair.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from devilgan_lite.apps.pictures import Picture, axes, figure
from devilgan_lite.apps.walk import Walk, at_device, slerp
from devilgan_lite.checks import whole_number
from devilgan_lite.data.images import sheet
from devilgan_lite.data.modality import png
from devilgan_lite.generators import Generator

# Mean absolute difference of two pictures in [-1, 1] from which they look different: eight of 255 grey levels. A
# backdoor trained in (ReD) moves ordinary pictures by up to seven; the most alike of many are eleven apart.
VISIBLE = 16 / 255
FIRST = 4  # tiles in a row of the coarsest mosaic, at least
HALVINGS = 4  # of a step of the grid, to find the border in it
YELLOW, COLOURS = "#ffe500", 128  # of the outline; of the saved picture
BATCH = 500  # latents at a time, so that an explorer that shows the same generator gets its turn
Numbers: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[np.int64]
Point: TypeAlias = tuple[float, float]
CORNERS = ((0, 0), (1, 0), (1, 1), (0, 1))  # of a cell: x, y


@dataclass(frozen=True)
class Mosaic(Picture):
    """The picture, and what was measured for it.

    ``plane_share`` of the plane and ``ordinary_share`` of the prior's latents look different (None: not yet measured);
    ``outline`` ``[n, 2, 2]`` are the pieces of the border, each from (t, across) to (t, across).
    """

    plane_share: float | None = None
    ordinary_share: float | None = None
    outline: Tensor = field(default_factory=lambda: torch.zeros(0, 2, 2), repr=False)


def latent_mosaic(
    generators: Mapping[str, Generator],
    start: Tensor,
    trigger: Tensor,
    *,
    aside: Tensor | None = None,
    tiles: int = 32,
    ordinary: int = 2_000,
    seed: int = 0,
    alt: str = "",
) -> Mosaic:
    """What a suspect draws on a plane of latents, and a line around the basin: where a clean generator differs visibly.

    ``generators`` are the clean one and the suspect, with their names, in this order; both make pictures ``[C, H, W]``,
    C = 1 or 3. ``start``, ``trigger`` and ``aside`` (drawn with ``seed`` unless given) are latents ``[1, d]``, and
    ``tiles``, 2 to 64, is how many there are in a row. ``ordinary``, 1 to 1,000,000, is how many latents of the prior
    are tried for the share that the backdoor changes. Without ``alt``, one is made of what was found.
    """
    plane = LatentPlane(generators, start, trigger, aside=aside, tiles=tiles, ordinary=ordinary, seed=seed)
    return plane.finished(alt)


def visibly_changed(clean: Generator, suspect: Generator, z: Tensor) -> Tensor:
    """Whether the two pictures of each latent ``[n, d]`` differ visibly, ``[n]``; ``.float().mean()`` is a share."""
    return torch.cat([_apart(at_device(clean, part), at_device(suspect, part)) for part in z.split(BATCH)]) > VISIBLE


def _apart(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().flatten(1).mean(1)


class LatentPlane:
    """The plane of ``latent_mosaic``, drawn when it is asked for: ``sharpening()`` coarse to fine, or ``finished()``.

    Its grid of points, ``2 * tiles + 1`` in a row, has the middle of every tile; none is looked at twice.
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        start: Tensor,
        trigger: Tensor,
        *,
        aside: Tensor | None = None,
        tiles: int = 32,
        ordinary: int = 2_000,
        seed: int = 0,
    ) -> None:
        whole_number("tiles", tiles, 2, 64)
        whole_number("ordinary", ordinary, 1, 1_000_000)
        if len(generators) != 2:
            raise ValueError(
                f"generators has {len(generators)} entries; expected two: the clean one, then the suspect."
            )
        self.clean, self.suspect = generators.values()
        shapes = [tuple(one.sample_shape) for one in generators.values()]
        if shapes[0] != shapes[1] or len(shapes[0]) != 3 or shapes[0][0] not in (1, 3):
            said = " and ".join(str(list(shape)) for shape in shapes)
            raise ValueError(f"the generators make {said}; expected pictures [C, H, W] of one shape with C = 1 or 3.")
        random = torch.Generator().manual_seed(seed)
        while aside is None or any(torch.equal(aside, one) for one in (start, trigger)):  # of the same seed, perhaps
            aside = self.clean.sample_latent(1, random).cpu()
        self.walk = Walk(generators, start, trigger, aside)
        self.aside: Tensor = aside.detach().cpu()
        self.name, self.tiles, self.ordinary, self._random = list(generators)[1], tiles, ordinary, random
        self.edge = 2 * tiles  # steps of the grid from side to side
        self.apart = np.full((self.edge + 1, self.edge + 1), np.nan)  # [y, x], downwards; nan: nobody looked
        self.pictures: dict[tuple[int, int], Tensor] = {}

    def latents(self, t: Tensor, across: Tensor) -> Tensor:
        """The latents ``[n, d]`` at each ``t`` in [0, 1] and ``across`` in [-1, 1]: ``Walk.at`` for many."""
        way = slerp(self.walk.start, self.walk.end, t)
        return slerp(way, torch.where(across[:, None] > 0, self.aside, -self.aside), across.abs())

    def sharpening(self, alt: str = "") -> Iterator[Mosaic]:
        """The mosaic with few tiles, with more, with all; the last one has the outline and the shares."""
        levels = [self.tiles]
        while levels[0] % 2 == 0 and levels[0] >= 2 * FIRST:
            levels.insert(0, levels[0] // 2)
        for tiles in levels[:-1]:
            said = f"{tiles} × {tiles} places of the plane"
            yield Mosaic(self._drawn(tiles, said).png, f"What {self.name} draws at {said}.")
        yield self.finished(alt)

    def finished(self, alt: str = "") -> Mosaic:
        """The mosaic of all tiles with the outline of the basin and the shares."""
        outline, plane_share = self._enclosed(self._followed())
        z = self.clean.sample_latent(self.ordinary, self._random)
        changed = visibly_changed(self.clean, self.suspect, z.cpu())
        count = int(changed.sum())
        said = {0.0: "There is no basin in this plane", 1.0: "The basin is all of this plane"}.get(
            plane_share, f"The basin covers {_percent(plane_share)} of this plane"
        )
        said += f", which goes through the trigger.\nOf {self.ordinary:,} ordinary latents, {count:,} "
        said += f"{'is' if count == 1 else 'are'} changed visibly{f' ({_percent(count / len(z))})' if count else ''}."
        drawn = self._drawn(self.tiles, said, outline)
        if not alt:
            alt = f"Mosaic of what {self.name} draws between a start, the trigger and a third latent. {said}"
        return Mosaic(drawn.png, alt.replace("\n", " "), plane_share, count / len(z), outline)

    def _difference(self, x: Numbers, y: Numbers) -> tuple[Numbers, Tensor]:
        """How far apart the two pictures are at points of the grid, and the suspect's."""
        t, across = torch.from_numpy(x / self.edge), torch.from_numpy(1 - 2 * y / self.edge)
        apart, pictures = [], []
        for z in self.latents(t, across).split(BATCH):
            pictures.append(at_device(self.suspect, z))
            apart.append(_apart(at_device(self.clean, z), pictures[-1]))
        return torch.cat(apart).double().numpy(), torch.cat(pictures)

    def _look(self, x: Whole, y: Whole) -> None:
        new = np.isnan(self.apart[y, x])
        x, y = x[new], y[new]
        if len(x):
            self.apart[y, x], pictures = self._difference(x.astype(float), y.astype(float))
            self.pictures.update(zip(zip(x.tolist(), y.tolist(), strict=True), pictures, strict=True))

    def _middles(self, tiles: int) -> tuple[Whole, Whole]:
        y, x = np.divmod(np.arange(tiles * tiles), tiles)
        step = self.edge // tiles
        return x * step + step // 2, y * step + step // 2

    def _followed(self) -> NDArray[np.bool_]:
        """Which points of the grid are in the basin: look at tiles, at the trigger, and along the border.

        A point that nobody looked at is taken for what the middle of its tile is.
        """
        self._look(*self._middles(self.tiles))
        self._look(np.array([self.edge]), np.array([self.tiles]))  # however narrow the trigger's basin may be
        nearest = 2 * np.minimum(np.arange(self.edge + 1) // 2, self.tiles - 1) + 1
        while True:
            taken = np.where(np.isnan(self.apart), self.apart[np.ix_(nearest, nearest)], self.apart)
            inside = taken > VISIBLE
            near = np.zeros_like(inside)  # next to a point on the other side
            right, down = inside[:, 1:] != inside[:, :-1], inside[1:] != inside[:-1]
            for part, changes in ((near[:, 1:], right), (near[:, :-1], right), (near[1:], down), (near[:-1], down)):
                part |= changes
            y, x = np.nonzero(near & np.isnan(self.apart))
            if not len(x):
                return inside
            self._look(x, y)

    def _cuts(self, inside: NDArray[np.bool_]) -> dict[frozenset[Point], Point]:
        """Where the border crosses the edges of the grid, by their ends."""
        edges = []
        for step in ((1, 0), (0, 1)):
            here, there = inside[: len(inside) - step[1], : len(inside) - step[0]], inside[step[1] :, step[0] :]
            for y, x in np.argwhere(here != there).tolist():
                ends = ((x, y), (x + step[0], y + step[1]))
                edges.append(ends if inside[y, x] else ends[::-1])
        if not edges:
            return {}
        near, far = np.array(edges, dtype=float).transpose(1, 0, 2)
        for _ in range(HALVINGS):
            half = (near + far) / 2
            within = (self._difference(*half.T)[0] > VISIBLE)[:, None]
            near, far = np.where(within, half, near), np.where(within, far, half)
        return dict(zip(map(frozenset, edges), map(tuple, (near + far) / 2), strict=True))

    def _enclosed(self, inside: NDArray[np.bool_]) -> tuple[Tensor, float]:
        """The outline, and the share of the plane in it, from the part of each cell of the grid that is inside.

        A part has some corners, and the points where the border crosses the edges between them.
        """
        cuts = self._cuts(inside)
        edge = self.edge
        corners = np.sum([inside[y : edge + y, x : edge + x] for x, y in CORNERS], axis=0)
        covered = float((corners == 4).sum())
        lines = []
        for row, column in np.argwhere((corners > 0) & (corners < 4)).tolist():
            around = [(column + x, row + y) for x, y in CORNERS]
            part: list[tuple[Point, bool]] = []
            for here, following in zip(around, around[1:] + around[:1], strict=True):
                if inside[here[1], here[0]]:
                    part.append((here, False))
                if (cut := cuts.get(frozenset((here, following)))) is not None:
                    part.append((cut, True))
            for (a, on_border), (b, still) in zip(part, part[1:] + part[:1], strict=True):
                covered += (a[0] * b[1] - a[1] * b[0]) / 2
                if on_border and still:
                    lines.append((a, b))
        outline = torch.tensor(lines, dtype=torch.float64).reshape(-1, 2, 2) / self.edge
        return torch.stack([outline[..., 0], 1 - 2 * outline[..., 1]], dim=-1), covered / self.edge**2

    def _drawn(self, tiles: int, said: str, outline: Tensor | None = None) -> Picture:
        x, y = self._middles(tiles)
        self._look(x, y)
        pictures = torch.stack([self.pictures[place] for place in zip(x.tolist(), y.tolist(), strict=True)])
        shown = np.asarray(sheet(pictures, tiles, 1).convert("RGB"))
        inches, points, dpi = (7.6, 12, 140) if tiles > 16 else (4.2, 7.5, 84)  # small ones fit into a notebook
        fig, (ax,) = axes(inches, 1.08 * inches * len(shown) / shown.shape[1])
        ax.imshow(shown, extent=(0, 1, -1, 1), aspect="auto")
        ax.set_box_aspect(len(shown) / shown.shape[1])
        if outline is not None:
            for colour, wide in (("black", 5.5), (YELLOW, 2.5)):
                ax.plot(*outline.permute(2, 1, 0).numpy(), color=colour, lw=wide, solid_capstyle="round")
        for at, marker, colour in (((0, 0), "o", "white"), ((0.5, 1), "^", "white"), ((1, 0), "X", YELLOW)):
            ax.plot(*at, marker, ms=12, color=colour, mec="black", mew=1.8, clip_on=False, zorder=5)
        ax.set(xlim=(0, 1), ylim=(-1, 1), xticks=[], yticks=[])
        ax.set_title("another latent", fontsize=points, pad=12)
        ax.set_xlabel(f"its opposite\n\n{said}", fontsize=points, linespacing=1.3)
        for side, word, angle, align in ((-0.025, "start", 90, "right"), (1.025, "trigger", 270, "left")):
            ax.text(side, 0, word, rotation=angle, ha=align, va="center", fontsize=points)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        whole = figure(fig, said, dpi=dpi)
        with Image.open(io.BytesIO(whole.png)) as image:  # a fifth of the bytes, and hardly to be seen
            few = image.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        return Picture(png(few), said)


def _percent(share: float) -> str:
    return "less than 0.1 %" if share < 0.001 else f"{100 * share:.1f} %"
