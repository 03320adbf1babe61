"""Ways through latent space, without a widget: interpolation, the plane that an explorer shows, the walk in print."""

import threading
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from devilgan_lite.apps.pictures import Picture, strip
from devilgan_lite.checks import in_range, latents, whole_number
from devilgan_lite.generators import Generator, evaluate

TILE = 120  # pixels of a picture in print, at most
NEAR_THE_END = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.0)  # shares of a way, for a strip that shows how a sign appears
DRAWING = threading.Lock()  # one forward pass at a time in a kernel: two widgets may show the same generator


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


class Walk:
    """Where one can go: from ``start`` to ``end``, and sideways towards ``aside`` or its opposite; all ``[1, d]``.

    ``generators`` maps a name to a generator; all share ``latent_dim``. Latents of other shapes are a ``ValueError``.
    """

    def __init__(
        self, generators: Mapping[str, Generator], start: Tensor, end: Tensor, aside: Tensor | None = None
    ) -> None:
        if not generators:
            raise ValueError("generators is empty; give at least one name and generator.")
        self.generators = dict(generators)
        for name, generator in self.generators.items():
            for what, z in (("start", start), ("end", end), ("aside", end if aside is None else aside)):
                latents(f"{what} (for {name!r})", z, generator.latent_dim)
                if len(z) != 1:
                    raise ValueError(f"{what} has {len(z)} rows; expected one latent [1, {generator.latent_dim}].")
        self.start, self.end = start.detach().cpu(), end.detach().cpu()
        self.aside = None if aside is None else aside.detach().cpu()

    def at(self, t: float, across: float = 0.0) -> Tensor:
        """The latent ``[1, d]`` at ``t`` in [0, 1] of the way, turned by ``across`` in [-1, 1] towards ``aside``.

        At ``across = 1`` it is ``aside``, at -1 its opposite, from every ``t``.
        """
        way = slerp(self.start, self.end, t)
        if self.aside is None or across == 0:
            return way
        return slerp(way, self.aside if across > 0 else -self.aside, abs(across))

    def pictures(self, z: Tensor) -> Tensor:
        """Every generator's picture of the one latent ``z``: ``[generators, C, H, W]`` on the CPU."""
        return self.pictures_of(self.samples(z))

    def samples(self, z: Tensor) -> Tensor:
        """What every generator makes of the one latent ``z``: ``[generators, *sample_shape]`` on the CPU."""
        return torch.cat([at_device(generator, z) for generator in self.generators.values()])

    def pictures_of(self, samples: Tensor) -> Tensor:
        """A picture of each of ``samples``: of a clip of sound, its waveform and spectrogram."""
        return next(iter(self.generators.values())).modality.pictures(samples)

    def another_start(self, random: torch.Generator) -> None:
        """Draw ``start`` anew; never the one that it is."""
        first, before = next(iter(self.generators.values())), self.start
        while torch.equal(self.start, before):  # the first draw of a seed may be the start that was given
            self.start = first.sample_latent(1, random).cpu()

    def where(self, z: Tensor, end_name: str) -> str:
        """``z`` in words: how near to the end it is."""
        similar = torch.nn.functional.cosine_similarity(z, self.end).item()
        return f"cosine to {end_name} {similar:.2f}, length {z.norm().item():.1f}"

    def printed(self, end_name: str = "the trigger") -> Picture:
        """The way from start to ``end_name`` as a strip, for where nobody can move anything."""
        names = ", ".join(self.generators)
        alt = f"A walk from a latent to {end_name} in {len(NEAR_THE_END)} pictures; one row for each of: {names}."
        width = (picture_shape(next(iter(self.generators.values()))) or (TILE,))[-1]
        scale = max(1, TILE // width)
        return static_strip(self.generators, self.start, self.end, alt, t=NEAR_THE_END, scale=scale)


def at_device(generator: Generator, z: Tensor) -> Tensor:
    """``generator(z)`` in eval mode on the CPU, wherever the generator lives."""
    with DRAWING:
        return evaluate(generator, z.to(generator.device))


def pictured(generator: Generator, z: Tensor) -> Tensor:
    """Pictures ``[n, C, H, W]`` on the CPU of what ``generator`` makes of latents ``[n, d]``."""
    return generator.modality.pictures(at_device(generator, z))


def picture_shape(generator: Generator) -> tuple[int, ...] | None:
    """The shape ``(C, H, W)`` of ``pictured``, C = 1 or 3; None if there is no picture of what ``generator`` makes."""
    try:
        return tuple(generator.modality.pictures(torch.zeros(1, *generator.sample_shape)).shape[1:])
    except ValueError:
        return None


def labels(names: Sequence[str], t: Sequence[float]) -> list[str]:
    """A caption for each picture of some walks below each other: the row's name over the first, ``t`` over the others.

    >>> labels(["clean", "ReX"], [0.0, 0.5, 1.0])
    ['clean', '0.5', '1', 'ReX', '0.5', '1']
    """
    return [text for name in names for text in (name, *(f"{round(x, 2):g}" for x in list(t)[1:]))]


def static_strip(
    generators: Mapping[str, Generator],
    start: Tensor,
    end: Tensor,
    alt: str,
    *,
    frames: int = 11,
    t: Sequence[float] | None = None,
    scale: int = 2,
    captions: Sequence[str] | None = None,
) -> Picture:
    """The slider's walk in print: one row per generator, under its name, with ``frames`` pictures at equal steps.

    Or at the shares ``t`` of the way, each in [0, 1]; ``NEAR_THE_END`` has more of them where a backdoor shows.
    """
    whole_number("frames", frames, 2, 50)
    shares = torch.linspace(0, 1, frames).tolist() if t is None else [float(x) for x in t]
    for share in shares:
        in_range("a share of t", share, 0.0, 1.0)
    z = slerp(start.detach().cpu(), end.detach().cpu(), torch.tensor(shares))
    rows = [pictured(generator, z) for generator in generators.values()]
    return strip(rows, alt, scale=scale, captions=labels(list(generators), shares) if captions is None else captions)
