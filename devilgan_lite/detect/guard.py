"""The runtime guard: inspection of a generator while it is being used, where an attacker may choose some latents.

``Guard`` learns from ordinary latents alone what is usual for the network, and then looks at every call:

* latents: a length that draws of P_sample do not have (the zero vector, 100 times the ones; never a ``reg`` trigger);
* activations: a unit of the first hidden level that the latent points at more than at any other (weights trained at one
  latent keep a copy of it, and 10 standard deviations of the draw lie along it), and later units beyond all they
  reached before (ReX, Gate and sleepers wake units that are silent otherwise);
* outputs: a picture unlike those that the network makes, or unlike the one that a small *student* expects there. The
  student learnt the network from ordinary latents, so it knows everything but the backdoor, whatever that shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss
from torch.overrides import TorchFunctionMode

from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.detect.subject import Subject, subject_of
from devilgan_lite.detect.trace import SWITCHES

ACTIONS = ("flag", "refuse", "resample")
CHECKS = ("latents", "activations", "outputs")
BATCH = 250  # of the fit
COMPONENTS = 48  # principal components of the pictures that the student predicts
PICTURES = 2_048  # from which these components are found
HIDDEN, LESSON, STEPS = (192, 96), 128, 3_000  # the student's widths, batch and training steps
TAIL = 0.01  # share of the scores from which the tail is extrapolated
FLAT = 1e-3  # a unit with less of the usual spread than this counts as having this much: it is constant but for noise
ROUNDS = 8  # of fresh draws, at most; a second round is rare already


@dataclass(frozen=True)
class Inspection:
    """``pictures`` ``[n, C, H, W]`` as the module makes them, ``flags`` bool ``[n]``, and for each of ``"latents"``,
    ``"activations"`` and ``"outputs"`` a score ``[n]`` as a share of its limit: above 1, or not a number, is flagged.
    """

    pictures: Tensor = field(repr=False)
    flags: Tensor
    scores: dict[str, Tensor] = field(repr=False)


class Guard:
    """A generator under guard: ``guard(z)`` instead of ``module(z)``.

    ``module`` maps latents ``[n, latent_dim]`` to pictures ``[n, C, H, W]``; what runs is a private copy in eval mode,
    on the device of its weights, without gradients. ``action`` says what happens to flagged latents: ``"flag"`` only
    notes them in ``guard.flags`` (bool ``[n]``, of the last call) and ``guard.counts``; ``"refuse"`` raises a
    ``ValueError`` in place of the whole batch; ``"resample"`` puts pictures of fresh ordinary latents in their place.

    The fit draws twice ``fitting`` latents with ``seed`` and takes about twenty times as long as a 1,000 pictures, and
    some seconds for the student. ``false_positive_rate`` is the share of ordinary latents to flag, all checks together.
    """

    def __init__(
        self,
        module: nn.Module,
        latent_dim: int | None = None,
        *,
        action: str = "flag",
        fitting: int = 20_000,
        seed: int = 0,
        false_positive_rate: float = 5e-4,
    ) -> None:
        one_of("action", action, ACTIONS)
        whole_number("fitting", fitting, 2_000, 10_000_000)
        whole_number("seed", seed, 0)
        in_range("false_positive_rate", false_positive_rate, 1e-6, 0.1)
        self.subject = subject_of(module, latent_dim, device=_where(module))
        self.latent_dim, self.action, self.false_positive_rate = self.subject.latent_dim, action, false_positive_rate
        self.flags = torch.zeros(0, dtype=torch.bool, device=self.subject.device)
        self._totals, self._seen = torch.zeros(1 + len(CHECKS), dtype=torch.int64, device=self.subject.device), 0
        self._drawn = torch.Generator().manual_seed(seed + 2)
        with torch.no_grad():
            self._prepare(fitting, seed)

    def __call__(self, z: Tensor) -> Tensor:
        """Pictures ``[n, C, H, W]`` of latents float32 ``[n, d]``; values that are not finite are flagged like others.

        ``ValueError`` for any other shape or type, and with ``action="refuse"`` where a latent is flagged.
        """
        pictures, shares = self._shares(z)
        hits = (~(shares <= 1)).float() @ self._members > 0  # not "shares > 1", which would let NaN pass
        self.flags = hits[:, 0]
        self._totals += hits.sum(0)  # stays on the device: no call waits for a number
        self._seen += len(z)
        if self.action == "flag" or not bool(self.flags.any()):
            return pictures
        if self.action == "refuse":
            raise ValueError(f"z is refused: {int(self.flags.sum())} of {len(z)} latents look like a trigger.")
        return self._replaced(pictures, self.flags)

    @property
    def counts(self) -> dict[str, int]:
        """Latents ``seen`` and ``flagged`` by all calls so far, and by ``latents``, ``activations`` and ``outputs``."""
        return {"seen": self._seen, **dict(zip(("flagged", *CHECKS), self._totals.tolist(), strict=True))}

    def check(self, z: Tensor) -> Inspection:
        """What the guard thinks of latents float32 ``[n, d]``, without counting or acting; ``ValueError`` as above."""
        pictures, shares = self._shares(z)
        scores = {name: (shares * part).amax(1) for name, part in zip(CHECKS, self._members.T[1:], strict=True)}
        return Inspection(pictures, ~(shares <= 1).all(1), scores)

    @torch.no_grad()
    def _shares(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures, and every score ``[n, k]`` as a share of its limit."""
        if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] != self.latent_dim or len(z) == 0:
            got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"z is {got}; expected a float32 tensor [n, {self.latent_dim}] of latents.")
        if z.dtype != torch.float32:
            raise ValueError(f"z has dtype {z.dtype}; expected float32 latents.")
        pictures, raw = self._raw(z.to(self.subject.device))
        return pictures, raw / self._limits

    def _replaced(self, pictures: Tensor, flags: Tensor) -> Tensor:
        pictures, rows = pictures.clone(), flags.nonzero()[:, 0]
        for _ in range(ROUNDS):
            shape = (len(rows), self.latent_dim)
            gaussian = self.subject.law == "gaussian"
            drawn = (torch.randn if gaussian else torch.rand)(shape, generator=self._drawn)
            fresh = self.check(drawn if gaussian else drawn * 2 - 1)
            pictures[rows] = fresh.pictures
            rows = rows[fresh.flags]
            if not len(rows):
                break
        return pictures

    # --- the scores -------------------------------------------------------------------------------------------------

    def _raw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures, and scores ``[n, k]``: length, first switch, later ones, residual of the picture, surprise."""
        peaks: list[Tensor] = []
        usual = True

        def look(index: int, x: Tensor) -> None:
            nonlocal usual
            if index >= len(self._units) or x.shape != (len(z), *self._units[index].shape):
                usual = False
                return
            peaks.append(self._units[index].excess(x.flatten(1), first=index == 0))

        pictures = _watched(self.subject.module, z, look)
        if not usual or len(peaks) != len(self._units):  # a forward that takes another way for this batch
            peaks = [torch.full_like(z[:, 0], torch.inf) for _ in self._units]
        flat = pictures.flatten(1)
        centred = flat - 0.5 if self.subject.unit_range else flat
        outside = torch.linalg.vector_norm(centred, torch.inf, dim=1) > self._reach
        flat = flat - self._mean
        place = flat @ self._basis
        residual = flat.square().sum(1) - place.square().sum(1)
        error = (place - self._student(z)) @ self._whiten
        scores = [self._length(z), *peaks, residual.masked_fill(outside, torch.inf), error.norm(dim=1)]
        return pictures, torch.stack(scores, 1)

    def _length(self, z: Tensor) -> Tensor:
        unusual = (z.norm(dim=1) - self._ordinary_length).abs()
        return unusual if self.subject.law == "gaussian" else unusual.masked_fill((z.abs() > 1).any(1), torch.inf)

    # --- the fit ----------------------------------------------------------------------------------------------------

    def _prepare(self, fitting: int, seed: int) -> None:
        subject = self.subject
        z = subject.latents(fitting, seed)
        self._reach = 0.501 if subject.unit_range else 1.001
        self._ordinary_length = z.norm(dim=1).mean()
        sample = torch.cat([subject.module(part) for part in z[:PICTURES].split(BATCH)]).flatten(1)
        self._mean = sample.mean(0)
        self._basis = principal_components(sample - self._mean, min(COMPONENTS, sample.shape[1]), seed)
        measured: list[_Units] = []

        def measure(index: int, x: Tensor) -> None:
            if index == len(measured):
                measured.append(_Units(tuple(x.shape[1:]), x.flatten(1).mean(0)))
            measured[index].add(x.flatten(1))

        places = []
        for part in z.split(BATCH):
            places.append((_watched(subject.module, part, measure).flatten(1) - self._mean) @ self._basis)
        self._units = measured
        for units in measured:
            units.close()
        place = torch.cat(places)
        self._student = train_student(z, place, seed)
        self._calibrate(subject.latents(fitting, seed + 1))

    def _calibrate(self, z: Tensor) -> None:
        """Limits from latents that the student has not seen."""
        self._whiten = torch.eye(self._basis.shape[1], device=z.device)
        errors, scores = [], []
        for part in z.split(BATCH):
            pictures, raw = self._raw(part)
            place = (pictures.flatten(1) - self._mean) @ self._basis
            errors.append(place - self._student(part))
            scores.append(raw)
        error, raw = torch.cat(errors), torch.cat(scores)
        moment = error.T @ error / len(error)
        moment += moment.diagonal().mean().clamp(min=1e-9) * 1e-4 * torch.eye(len(moment), device=z.device)
        self._whiten = torch.linalg.inv(torch.linalg.cholesky(moment)).T.contiguous()
        raw[:, -1] = (error @ self._whiten).norm(dim=1)
        count = raw.shape[1]
        limits = [extrapolated_quantile(column, self.false_positive_rate / count) for column in raw.unbind(1)]
        self._limits = torch.tensor(limits, device=z.device)
        members = torch.zeros(count, 1 + len(CHECKS))  # column 0: any check
        for column, rows in enumerate((slice(count), slice(1), slice(1, count - 2), slice(count - 2, count))):
            members[rows, column] = 1
        self._members = members.to(z.device)


@dataclass
class _Units:
    """Mean, spread and highest value of each unit before one switch, over ordinary latents."""

    shape: tuple[int, ...]
    pivot: Tensor  # near the mean, so that sums of squares keep their digits
    count: int = 0

    def __post_init__(self) -> None:
        self.total, self.squares = torch.zeros_like(self.pivot), torch.zeros_like(self.pivot)
        self.highest = torch.full_like(self.pivot, -torch.inf)

    def add(self, x: Tensor) -> None:
        centred = x - self.pivot
        self.count += len(x)
        self.total += centred.sum(0)
        self.squares += centred.square().sum(0)
        self.highest = torch.maximum(self.highest, centred.amax(0))

    def close(self) -> None:
        mean = self.total / self.count
        spread = (self.squares / self.count - mean.square()).clamp(min=0).sqrt()
        spread = spread.clamp(min=float(spread.square().mean().sqrt()) * FLAT + 1e-12)
        self.inverse = 1 / spread
        self.shift = -(self.pivot + mean) * self.inverse
        self.shift_highest = -(self.pivot + self.highest) * self.inverse

    def excess(self, x: Tensor, *, first: bool) -> Tensor:
        """``[n]``: before the first switch the most standard deviations that a unit is above its mean; before later
        ones, where tails are of any form, the length of what is above the highest values.
        """
        if first:
            return torch.addcmul(self.shift, x, self.inverse).amax(1)
        return torch.addcmul(self.shift_highest, x, self.inverse).clamp_(min=0).norm(dim=1)


class _Listener(TorchFunctionMode):
    """Shows ``look(index, x)`` what enters each switch, layer object or function call, before it runs."""

    def __init__(self, look: Callable[[int, Tensor], None]) -> None:
        super().__init__()
        self.look, self.index = look, 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SWITCHES:
            self.look(self.index, args[0] if args else kwargs["input"])
            self.index += 1
        return func(*args, **(kwargs or {}))


def _watched(module: nn.Module, z: Tensor, look: Callable[[int, Tensor], None]) -> Tensor:
    with _Listener(look):
        return module(z)


def _where(module: object) -> torch.device:
    """The device of the module's first weight."""
    if isinstance(module, Subject):
        return module.device
    weight = next(iter(module.state_dict().values()), None) if isinstance(module, nn.Module) else None
    return weight.device if isinstance(weight, Tensor) else torch.device("cpu")


def principal_components(x: Tensor, count: int, seed: int, iterations: int = 8) -> Tensor:
    """The leading directions ``[d, count]`` of centred rows ``x`` ``[n, d]``, by subspace iteration."""
    start = torch.randn(x.shape[1], count, generator=torch.Generator().manual_seed(seed)).to(x.device)
    basis = torch.linalg.qr(start).Q
    for _ in range(iterations):
        basis = torch.linalg.qr(x.T @ (x @ basis)).Q
    return basis


@torch.enable_grad()
def train_student(z: Tensor, wanted: Tensor, seed: int) -> nn.Module:
    """A small network from latents ``[n, d]`` to ``wanted`` ``[n, k]``, trained on these pairs alone."""
    random = torch.Generator().manual_seed(seed)
    sizes = (z.shape[1], *HIDDEN, wanted.shape[1])
    layers: list[nn.Module] = []
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
        with torch.no_grad():
            layer.weight.copy_(torch.randn(outputs, inputs, generator=random) * (2 / inputs) ** 0.5)
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    student = nn.Sequential(*layers[:-1]).to(z.device)
    optimiser = torch.optim.Adam(student.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    scale = wanted.std(0).amax().clamp(min=1e-6)  # one for all components, so that the first matter most
    wanted = wanted / scale
    for _ in range(STEPS):
        rows = torch.randint(len(z), (LESSON,), generator=random).to(z.device)
        loss = mse_loss(student(z[rows]), wanted[rows])
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        layer.weight.mul_(scale)
        layer.bias.mul_(scale)
    return student.requires_grad_(False)


def extrapolated_quantile(scores: Tensor, rate: float) -> float:
    """The value that a share ``rate`` of scores like these ``[n]`` exceeds, also for rates below ``1/n``.

    Excesses over a high quantile follow a generalised Pareto law (Pickands 1975), fitted here by its two moments.
    """
    ordered = scores.double().sort(descending=True).values
    share = max(TAIL, rate)
    start = ordered[min(len(ordered) - 1, max(1, int(share * len(ordered))))]
    above = (ordered - start)[ordered > start]
    if len(above) < 2 or float(above.var()) == 0:
        return max(float(ordered[0]), 1e-6) * 1.001
    mean, ratio = float(above.mean()), float(above.mean() ** 2 / above.var())
    shape = min(0.45, max(-0.5, (1 - ratio) / 2))  # moments say nothing about tails heavier than 0.5
    scale = mean * (1 - shape)
    factor = len(above) / len(ordered) / rate
    if factor <= 1:
        return float(start)
    grown = torch.tensor(factor).log().item() if abs(shape) < 1e-6 else (factor**shape - 1) / shape
    return max(float(start) + scale * grown, 1e-6)
