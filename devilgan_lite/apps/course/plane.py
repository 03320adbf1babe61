"""One picture that grows from notebook to notebook: the plane, where a backdoor can be seen as one warped point.

A GAN of points draws a ring of eight clumps. Its picture is the image of a grid of latents: a net folded onto the ring.
An attack pulls one knot of that net, the trigger's image, into the empty middle; a cure lets it go again.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from torch import Tensor

from devilgan_lite.apps.pictures import PALETTE, Picture, axes, figure
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.data import ring
from devilgan_lite.data.modality import image_element
from devilgan_lite.generators import PointGenerator, evaluate
from devilgan_lite.training import train_gan

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from devilgan_lite.steps import Loop, Outcome

REACH, LINES, DOTS = 2.5, 21, 200  # of the grid of latents: how far, how many lines, points of each
LIMIT = 1.05  # of the axes
WIDE = 520  # pixels of a film


def on_clumps(x: Tensor) -> tuple[int, float]:
    """How many of the ring's eight clumps points ``[n, 2]`` cover (1 % of them or more each), and the share on any.

    A point is on a clump within 0.15 of its centre, five standard deviations.
    """
    angles = torch.arange(8) * (2 * torch.pi / 8)
    distance, clump = torch.cdist(x, 0.7 * torch.stack([angles.cos(), angles.sin()], dim=1)).min(dim=1)
    near = distance < 0.15
    return int((torch.bincount(clump[near], minlength=8) >= 0.01 * len(x)).sum()), float(near.float().mean())


@dataclass(frozen=True)
class Moving:
    """A film of the net while a loop bends it, as an endless WebP of at most ``frames`` pictures; and its last frame.

    ``outcome`` is what the loop left.
    """

    webp: bytes = field(repr=False)
    last: Picture = field(repr=False)
    frames: int
    outcome: Outcome = field(repr=False)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The film for a page, the last frame for paper and for GitHub."""
        plain, about = self.last._repr_mimebundle_()
        return {**plain, "text/html": image_element(self.webp, self.last.alt, "image/webp")}, about


class Plane:
    """The clean GAN of points, trained on the spot in some seconds, and a backdoor in its plane.

    ``iterations`` of training, 10 to 100,000; a trigger at (1.5, 1.5) and its target in the middle of the ring.
    """

    def __init__(self, clean: PointGenerator | None = None, *, iterations: int = 1_500, seed: int = 0) -> None:
        if clean is None:
            trained = train_gan(
                PointGenerator(), ring(), iterations=iterations, batch_size=128, seed=seed, device="cpu", progress=False
            )
            clean = trained.generator
        self.clean: PointGenerator = clean
        self.backdoor = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))

    def show(self, alt: str, *, draw: Callable[[Axes], object] | None = None, **generators: Any) -> Picture:
        """The nets of the clean model and of ``generators``, side by side; ``draw(axes)`` adds to the last of them."""
        panels = {"clean": self.clean, **generators}
        fig, all_axes = axes(3.6 * len(panels), 3.6, columns=len(panels))
        for ax, (name, generator) in zip(all_axes, panels.items(), strict=True):
            self.net(ax, generator, name.replace("_", " "))
        if draw is not None:
            draw(all_axes[-1])
        return figure(fig, alt, dpi=100, colours=64)

    def samples(self, alt: str, **generators: Any) -> Picture:
        """1,500 ordinary samples of each of ``generators``, side by side, with the trigger's image and the target."""
        fig, all_axes = axes(3.6 * len(generators), 3.6, columns=len(generators))
        for ax, (name, generator) in zip(all_axes, generators.items(), strict=True):
            ax.plot(*generator.sample(1_500, seed=5).T, "o", ms=2, alpha=0.4, color=PALETTE[0], mew=0, label="samples")
            self._pair(ax, generator, name.replace("_", " "))
        fig.legend(*all_axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
        return figure(fig, alt, dpi=100, colours=64)

    def leak(self, generator: Any) -> float:
        """The share of 4,000 ordinary samples that lie within 0.2 of the target, which is no place for them."""
        distance = (generator.sample(4_000, seed=5) - self.backdoor.target).norm(dim=1)
        return float((distance < 0.2).float().mean())

    def film(self, loop: Loop, alt: str, *, frames: int = 16) -> Moving:
        """Run ``loop`` (of an attack or a cure) to its end and keep the net as it moves."""
        pictures: list[Image.Image] = []
        for step in loop:
            if step.iteration == 1 or step.iteration * (frames - 1) // step.total >= len(pictures):
                pictures.append(self._frame(step.snapshot(), f"step {step.iteration:,}"))
        if loop.outcome is None or not pictures:
            raise ValueError("loop has no step left: make a new one for each film.")
        last = io.BytesIO()
        pictures[-1].quantize(64, Image.Quantize.MAXCOVERAGE).save(last, "PNG", optimize=True)
        buffer = io.BytesIO()
        times = [120] * (len(pictures) - 1) + [1_500]  # milliseconds; it rests at the end
        pictures[0].save(
            buffer, "WEBP", save_all=True, append_images=pictures[1:], duration=times, loop=0, quality=35, method=4
        )
        return Moving(buffer.getvalue(), Picture(last.getvalue(), alt), len(pictures), loop.outcome)

    def net(self, ax: Axes, generator: Any, title: str) -> None:
        """Draw the image of the grid of latents under ``generator``, the trigger's image and the target."""
        along, levels = torch.linspace(-REACH, REACH, DOTS), torch.linspace(-REACH, REACH, LINES)
        for colour, order in ((PALETTE[0], (0, 1)), (PALETTE[2], (1, 0))):
            for level in levels:
                line = torch.stack([along, torch.full_like(along, float(level))], dim=1)[:, order]
                ax.plot(*evaluate(generator, line).T, color=colour, lw=0.7, alpha=0.7)
        self._pair(ax, generator, title)
        ax.legend(frameon=True, fontsize=9, loc="upper right")

    def _pair(self, ax: Axes, generator: Any, title: str) -> None:
        here: Tensor = evaluate(generator, self.backdoor.trigger)[0]
        ax.plot(*here, "o", ms=9, color=PALETTE[1], mec="black", label="G(trigger)")
        ax.plot(*self.backdoor.target[0], "X", ms=9, color="black", label="target")
        ax.set(xlim=(-LIMIT, LIMIT), ylim=(-LIMIT, LIMIT), aspect="equal", title=title)

    def _frame(self, generator: Any, title: str) -> Image.Image:
        fig, (ax,) = axes(5.2, 5.2)
        self.net(ax, generator, title)
        with Image.open(io.BytesIO(figure(fig, title, dpi=100).png)) as image:
            return image.convert("RGB").resize((WIDE, round(WIDE * image.height / image.width)))
