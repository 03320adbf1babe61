"""Walk through latent space: a slider from a random latent to the trigger, and the same walk as a strip for print."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import torch
from torch import Tensor

from devilgan_lite.checks import latents, whole_number
from devilgan_lite.classroom.plots import Picture, strip, tile, to_png
from devilgan_lite.classroom.profile import is_static
from devilgan_lite.generators import Generator, evaluate


def slerp(a: Tensor, b: Tensor, t: float | Tensor) -> Tensor:
    """Spherical interpolation from ``a`` (t = 0) to ``b`` (t = 1), both ``[n, d]`` or ``[1, d]``.

    The direction turns at constant speed (Shoemake 1985) and the length goes linearly from ``|a|`` to ``|b|``. ``t`` is
    a number or a tensor ``[n]``. If one vector is zero there is no angle, and the way is a straight line; for opposite
    vectors every turning plane is as good, and a fixed one is taken.

    >>> slerp(torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]]), 0.5).tolist()
    [[1.4142135381698608, 1.4142135381698608]]
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(f"a is {list(a.shape)} and b is {list(b.shape)}; expected two tensors [n, d] with the same d.")
    start, end = a.double(), b.double()
    at = torch.as_tensor(t, dtype=torch.float64, device=a.device).reshape(-1, 1)
    length_a, length_b = start.norm(dim=1, keepdim=True), end.norm(dim=1, keepdim=True)
    u, v = start / length_a.clamp_min(1e-300), end / length_b.clamp_min(1e-300)
    cosine = (u * v).sum(dim=1, keepdim=True)
    across = v - cosine * u  # the part of b's direction that a does not have
    axis = torch.nn.functional.one_hot(u.abs().argmin(dim=1), u.shape[1]).to(u)  # for opposite vectors
    sideways = axis - (axis * u).sum(dim=1, keepdim=True) * u
    sine = across.norm(dim=1, keepdim=True)
    parallel = sine < 1e-9
    across = torch.where(parallel, sideways, across)
    across = across / across.norm(dim=1, keepdim=True).clamp_min(1e-300)
    angle = at * torch.atan2(torch.where(parallel, 0.0, sine), cosine)
    turned = (angle.cos() * u + angle.sin() * across) * ((1 - at) * length_a + at * length_b)
    straight = (1 - at) * start + at * end
    way = torch.where((length_a == 0) | (length_b == 0), straight, turned)
    way = torch.where(at == 0, start, torch.where(at == 1, end, way))  # the ends exactly: a trigger is a narrow thing
    return way.to(a.dtype)


class LatentSlider:
    """A slider from ``start`` (a random latent) to ``end`` (the trigger), every generator's picture side by side.

    ``generators`` maps the name over a picture to its generator; all share ``latent_dim``. ``frames`` is the number of
    slider positions. The Random button draws another start. ``slider.value = 0.5`` in Python does what a drag does, and
    the arrow keys move it too. ``end_name`` is what the caption calls the end; ``widget`` is what to display (a
    notebook shows the object itself).
    """

    def __init__(
        self,
        generators: Mapping[str, Generator],
        start: Tensor,
        end: Tensor,
        *,
        frames: int = 51,
        scale: int = 6,
        seed: int = 0,
        end_name: str = "the trigger",
    ) -> None:
        whole_number("frames", frames, 2, 1001)
        if not generators:
            raise ValueError("generators is empty; give at least one name and generator.")
        self.generators = dict(generators)
        self.end, self.end_name, self.scale = end.detach().cpu(), end_name, scale
        self._check(start)
        self.start = start.detach().cpu()
        self._lock = threading.Lock()
        self._drawn: tuple[float, int] | None = None
        self._walk = 0  # counts the starts, so that a slow callback never shows an old one
        self._random = torch.Generator().manual_seed(seed)
        self.slider = widgets.FloatSlider(
            value=0.0,
            min=0.0,
            max=1.0,
            step=1 / (frames - 1),
            description="to trigger",
            readout_format=".2f",
            layout=widgets.Layout(width="24em"),
        )
        self.random_button = widgets.Button(description="Random start", tooltip="Begin at another random latent")
        self.image = widgets.Image(format="png")
        self.text = widgets.HTML()
        self.slider.observe(lambda _: self.refresh(), names="value")
        self.random_button.on_click(lambda _: self.randomise())
        self.widget = widgets.VBox([widgets.HBox([self.slider, self.random_button]), self.image, self.text])
        self.refresh()

    def _check(self, start: Tensor) -> None:
        for name, generator in self.generators.items():
            for what, z in (("start", start), ("end", self.end)):
                latents(f"{what} (for {name!r})", z, generator.latent_dim)
                if len(z) != 1:
                    raise ValueError(f"{what} has {len(z)} rows; expected one latent [1, {generator.latent_dim}].")

    def latent(self) -> Tensor:
        """The latent ``[1, d]`` at the slider's position."""
        return slerp(self.start, self.end, float(self.slider.value))

    def refresh(self) -> None:
        """Draw the slider's position, unless it is what is shown (of many quick moves, the latest wins)."""
        with self._lock:
            wanted = (float(self.slider.value), self._walk)
            if wanted == self._drawn:
                return
            z = self.latent()
            x = torch.cat([at_device(generator, z) for generator in self.generators.values()])
            picture = tile(x, columns=len(x), scale=self.scale, captions=list(self.generators))
            self.image.value = to_png(picture, compress_level=1)
            similar = torch.nn.functional.cosine_similarity(z, self.end).item()
            where = f"cosine to {self.end_name} {similar:.2f}, length {z.norm().item():.1f}"
            self.text.value = f"t = {wanted[0]:.2f}, {where}"
            self._drawn = wanted

    def randomise(self) -> None:
        """Another random start, slider back at 0."""
        with self._lock:
            first, before = next(iter(self.generators.values())), self.start
            while torch.equal(self.start, before):  # the first draw of a seed may be the start that was given
                self.start = first.sample_latent(1, self._random).cpu()
            self._walk += 1
        self.slider.value = 0.0
        self.refresh()

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if is_static():  # a slider that nobody can move: show the whole walk
            names = ", ".join(self.generators)
            alt = f"A walk from a random latent to the trigger in 11 pictures; one row for each of: {names}."
            return static_strip(self.generators, self.start, self.end, alt)._repr_mimebundle_()
        return self.widget._repr_mimebundle_(**kwargs)


def at_device(generator: Generator, z: Tensor) -> Tensor:
    """``generator(z)`` in eval mode on the CPU, wherever the generator lives."""
    return evaluate(generator, z.to(generator.device))


def static_strip(
    generators: Mapping[str, Generator],
    start: Tensor,
    end: Tensor,
    alt: str,
    *,
    frames: int = 11,
    scale: int = 2,
    captions: Sequence[str] | None = None,
) -> Picture:
    """The slider's walk in print: one row per generator, ``frames`` pictures from ``start`` to ``end``."""
    whole_number("frames", frames, 2, 50)
    t = torch.linspace(0, 1, frames)
    z = slerp(start.detach().cpu(), end.detach().cpu(), t)
    rows = [at_device(generator, z) for generator in generators.values()]
    return strip(rows, alt, scale=scale, captions=[f"{x:.1f}" for x in t.tolist()] if captions is None else captions)
