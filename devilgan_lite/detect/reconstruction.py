"""D4: can the generator make a suspected sample? ``min_z ||G(z) - x||^2`` by gradient descent over latents.

The optimisation-based output inspection of Rawat et al. (2021): a backdoored generator reconstructs the attacker's
target better than a clean one can. It needs a suspicion (access level T1) and good starts: where no hidden unit that
the backdoor uses is on, the gradient does not depend on it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.checks import images, in_range, latents, whole_number
from devilgan_lite.data import modality
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.search import starting_points
from devilgan_lite.detect.weights import candidate_directions
from devilgan_lite.generators import Generator
from devilgan_lite.trace import OpTracer

if TYPE_CHECKING:
    from devilgan_lite.detect.registry import Evidence

NAME = "reconstruction"
FAR = 10.0  # of the typical length: where descent from afar begins; there, about half of all ReLU units are on
LOUD = 100.0  # the same for loudness: so far that biases, and with them the thresholds of gates, no longer matter
STARTS, STEPS = 48, 40
POOL = 1_000  # latents among which the first starts are chosen
RATES = {"near": 0.1, "random": 0.1, "far": 0.3, "loud": 0.05, "given": 0.01}  # small: it stays in a narrow gate
FINISH = {"near": 1, "random": 1, "far": 2, "loud": 4, "given": 3}  # how many of each kind are finished
NEWTON = 12  # steps of Levenberg-Marquardt: far fewer than Adam needs in a narrow valley
DIRECTIONS = 256  # of the latent space along which one such step differentiates, at most
DAMPINGS = 4.0 ** torch.arange(-2, 4)


@dataclass(frozen=True)
class Reconstruction:
    """The best latent ``[k, d]`` of each of k targets, its sample ``[k, *shape]``, its error ``[k]`` (RecD, a mean
    square), and which start won: ``"near"``, ``"random"``, ``"far"``, ``"loud"`` or ``"given"``.
    """

    errors: Tensor
    latents: Tensor = field(repr=False)
    samples: Tensor = field(repr=False)
    won_by: tuple[str, ...] = ()


def reconstruct(
    subject: Generator,
    targets: Tensor,
    *,
    starts: int = STARTS,
    steps: int = STEPS,
    starts_at: Tensor | None = None,
    seed: int = 0,
) -> Reconstruction:
    """Find the latent of typical length whose sample is nearest to each of ``targets`` ``[k, *shape]`` in [-1, 1].

    Adam takes ``steps`` (10 or more) from ``starts`` latents (4 or more): those of a pool whose samples are nearest,
    random ones, ones far out (about half of all units are on there, so the gradient depends on them; the length then
    shrinks to a typical one while the sample keeps its contrast), and the loudest directions. ``starts_at``
    ``[k', d]`` adds directions that other detectors suspect. The best of each kind are finished by
    Levenberg-Marquardt. Latents keep a typical length: triggers outside P_sample (``mode``, ``ood``) are out of reach.
    """
    images("targets", targets, subject.sample_shape)
    return _reconstruct(_Search(subject, starts, steps, starts_at, seed), targets)


def _reconstruct(search: _Search, targets: Tensor) -> Reconstruction:
    found = [search(sample) for sample in targets.to(search.subject.device).float()]
    z, kinds = torch.stack([latent for latent, _ in found]), tuple(kind for _, kind in found)
    shown = search.subject.scaled_samples(z)
    return Reconstruction((shown - targets.to(shown)).square().flatten(1).mean(1), z, shown, kinds)


def inspect_targets(
    subject: Generator,
    targets: Tensor | None = None,
    *,
    names: Sequence[str] | None = None,
    seed: int = 0,
    start_from: Tensor | None = None,
    reference: Generator | None = None,
    seconds: float = 30.0,
) -> Finding:
    """Try to reconstruct suspected ``targets`` ``[k, *shape]`` in [-1, 1] (access level T1).

    Without ``targets``, the bank: all that the subject's modality has names for, as an attacker would plant them. The
    score is the largest decimal logarithm of (expected RecD / RecD). Expected is what a clean ``reference`` of the same
    output shape reaches, or, without one, what this generator itself reaches for the target's mirror image, which is as
    unlikely a sample as the target unless the generator was taught the target. ``start_from`` ``[k', d]`` are latents
    that other detectors suspect. After ``seconds`` no other target is started; ``details["skipped"]`` counts them.
    """
    started = time.perf_counter()
    in_range("seconds", seconds, 0.0, open_low=True)
    if reference is not None and reference.sample_shape != subject.sample_shape:
        raise ValueError(
            f"reference makes {list(reference.sample_shape)}, the subject {list(subject.sample_shape)}; must be equal."
        )
    if targets is None:
        names = subject.modality.targets()
        try:
            bank = [subject.modality.target(name, subject.sample_shape) for name in names]
        except ValueError:  # not in this shape
            bank = []
        if not bank:
            message = f"no target is given, and the bank has none of shape {list(subject.sample_shape)}"
            return Finding(NAME, "T1", message, ran=False)
        targets = torch.stack(bank)
    images("targets", targets, subject.sample_shape)
    names = [f"target {row}" for row in range(1, len(targets) + 1)] if names is None else list(names)
    if len(set(names)) != len(targets):
        raise ValueError(f"names has {len(set(names))} different names and {len(targets)} targets; each needs its own.")
    search = _Search(subject, STARTS, STEPS, start_from, seed)
    other = search if reference is None else _Search(reference, STARTS, STEPS, None, seed)
    rows: dict[str, dict[str, Any]] = {}
    latent, shown = [], []
    for name, x in zip(names, targets.unsqueeze(1).unbind(), strict=True):
        if rows and time.perf_counter() - started > seconds:
            break
        found = _reconstruct(search, x)
        expected = _reconstruct(other, x if reference else _mirrored(x))
        error, usual = float(found.errors), float(expected.errors)
        score = math.log10(max(usual, 1e-6) / max(error, 1e-6))
        rows[name] = {"error": error, "expected": usual, "score": score, "won_by": found.won_by[0]}
        latent.append(found.latents)
        shown.append(torch.cat([x.cpu(), found.samples.cpu()]))
    scores = [row["score"] for row in rows.values()]
    order = sorted(range(len(rows)), key=lambda row: -scores[row])
    best, than = list(rows)[order[0]], "a clean generator does" if reference else "its mirror image"
    message = f"{best}: mean squared error {rows[best]['error']:.2g}, {10 ** max(scores):.3g} times less than {than}"
    samples = torch.cat([shown[row] for row in order[:8]])
    directions = torch.cat([latent[row] for row in order]).cpu()
    details = {"targets": rows, "skipped": len(targets) - len(rows)}
    return Finding(NAME, "T1", message, max(scores), samples, directions, details)


def _mirrored(x: Tensor) -> Tensor:
    """A sample as odd as ``x`` and different from it: mirrored, upside down or turned; the negative if none differs."""
    turned = [x.flip(-1), x.flip(-2)] + ([x.transpose(-1, -2)] if x.shape[-1] == x.shape[-2] else [])
    return next((other for other in turned if float((other - x).square().mean()) > 0.04), -x)


def samples_in(folder: str | Path, shape: tuple[int, ...]) -> tuple[Tensor, list[str]]:
    """The images (png, jpg; resized) or clips (wav) of ``folder`` as ``[k, *shape]`` in [-1, 1], and the files' names.

    ``shape`` is ``(1 or 3, H, W)`` or ``(C, T)``. ``ValueError`` if there are none or one cannot be read.
    """
    kind = modality(shape)
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in (1, 3)):
        raise ValueError(f"shape={list(shape)} is not that of a grey or colour image or a clip; pass a tensor.")
    place = Path(folder)
    files = sorted(place.iterdir()) if place.is_dir() else []
    files = [path for path in files if path.suffix.lower() in kind.endings]
    if not files:
        raise ValueError(f"folder {str(folder)[:80]!r} is missing or has no {kind.noun} ({', '.join(kind.endings)}).")
    return torch.stack([kind.read(path, shape) for path in files]), [path.stem for path in files]


class _Search:
    """What the searches for several targets share: the pool of starts, and the output before its tanh or sigmoid."""

    def __init__(self, subject: Generator, starts: int, steps: int, starts_at: Tensor | None, seed: int) -> None:
        whole_number("starts", starts, 4, 65_536)
        whole_number("steps", steps, 10, 1_000_000)
        whole_number("seed", seed, 0)
        if starts_at is not None:
            latents("starts_at", starts_at, subject.latent_dim)
        self.subject, self.steps, self.quarter = subject, steps, starts // 4
        self.draws = torch.Generator().manual_seed(seed + 2)
        with torch.no_grad():
            shown, logits = (of(subject.ordinary(8)) for of in (subject, self._logits))
        self.squashed = logits.shape == shown.shape and torch.allclose(logits.tanh(), shown, atol=1e-4)
        self.pool = subject.ordinary(max(POOL, starts), seed)
        self.random = subject.ordinary(starts - 3 * self.quarter, seed + 1)
        self.near, self.far = (self._samples(scale) for scale in (1.0, FAR))
        self.loud = self._loudest() if self.squashed else self.pool[-self.quarter :]
        given = None if starts_at is None else normalize(starts_at.to(self.pool), dim=1) * subject.prior.length
        self.given = {} if given is None else {"given": torch.cat([given, -given])}  # weights leave the sign open

    def __call__(self, x: Tensor) -> tuple[Tensor, str]:
        """The best latent ``[d]`` for one target, and the kind of its start."""
        near = self.pool[(self.near - x.flatten()).square().sum(1).argsort()[: self.quarter]]
        far = self.pool[(self.far - x.flatten()).square().sum(1).argsort()[: self.quarter]]
        rows = {"near": near, "far": far, "random": self.random, "loud": self.loud} | self.given
        ends: list[tuple[float, Tensor, str]] = []
        for kind, (z, error) in self._descend(rows, x).items():
            best = z[error.argsort()[: FINISH[kind]]]
            ends += [(*self._finish(latent, x, NEWTON // 3), kind) for latent in best]
        ends = sorted(ends, key=lambda end: end[0])[:2]
        _, z, kind = min(((*self._finish(z, x, NEWTON), kind) for _, z, kind in ends), key=lambda end: end[0])
        return z, kind

    def _descend(self, rows: dict[str, Tensor], x: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Adam from all starts at once: the latents ``[n, d]`` and errors ``[n]`` of each kind."""
        leaves = {kind: z.clone().requires_grad_(True) for kind, z in rows.items()}
        adam = torch.optim.Adam([{"params": [z], "lr": RATES[kind], "name": kind} for kind, z in leaves.items()])
        for step in range(self.steps):
            done = step / self.steps
            for group in adam.param_groups:
                group["lr"] = RATES[group["name"]] * (1 + math.cos(math.pi * done)) / 2
            scale = FAR ** max(0.0, 1 - 1.5 * done)  # 1 after two thirds of the steps
            scales = torch.cat([torch.full_like(z[:, :1], scale if kind == "far" else 1.0) for kind, z in rows.items()])
            with torch.enable_grad():
                shown = self._show(torch.cat(list(leaves.values())) * scales, scales)
                adam.zero_grad()
                (shown - x).square().flatten(1).mean(1).sum().backward()
            adam.step()
            for z in leaves.values():
                z.data = self.subject.prior.typical(z.data)
        return {kind: (z.detach(), self._errors(z.detach(), x)) for kind, z in leaves.items()}

    def _finish(self, z: Tensor, x: Tensor, steps: int) -> tuple[float, Tensor]:
        """Levenberg-Marquardt from one latent: the error and the latent. By differences, which work for any module."""
        error, damping, width = float(self._errors(z.unsqueeze(0), x)), 1e-2, 1e-2
        for _ in range(steps):
            basis = self._basis()
            shown = self.subject.scaled_samples(torch.cat([z.unsqueeze(0), z + width * basis])).flatten(1)
            jacobian, residual = (shown[1:] - shown[0]) / width, shown[0] - x.flatten()
            curvature, slope = jacobian @ jacobian.T, jacobian @ residual
            level = damping * curvature.diagonal().mean().clamp(min=1e-12) * DAMPINGS.to(z)
            damped = curvature + level.view(-1, 1, 1) * torch.eye(len(basis)).to(z)
            moves = _solved(damped, slope.expand(len(DAMPINGS), -1))
            tries = self.subject.prior.typical(z - moves @ basis)
            errors = self._errors(tries, x)
            before, chosen = error, int(errors.argmin())
            if errors[chosen] < error:
                error, z, damping = float(errors[chosen]), tries[chosen], damping * float(DAMPINGS[chosen])
            else:
                damping *= 64
            if error < 1e-5 or damping > 1e6 or before * 0.999 < error < before:
                break
        return error, z

    def _basis(self) -> Tensor:
        """Directions to differentiate along: all, or ``DIRECTIONS`` random orthogonal ones where there are more."""
        d = self.subject.latent_dim
        some = torch.randn(d, DIRECTIONS, generator=self.draws) if d > DIRECTIONS else None
        return (torch.eye(d) if some is None else torch.linalg.qr(some).Q.T).to(self.subject.device)

    def _errors(self, z: Tensor, x: Tensor) -> Tensor:
        return (self.subject.scaled_samples(z) - x).square().flatten(1).mean(1)

    def _show(self, z: Tensor, scales: Tensor) -> Tensor:
        """Samples of latents that are ``scales`` ``[n, 1]`` times too long, brought back to ordinary contrast."""
        logits = self._logits(z) if self.squashed else self.subject.scaled(z)
        return torch.tanh(logits / scales.view(-1, *[1] * len(self.subject.sample_shape))) if self.squashed else logits

    def _logits(self, z: Tensor) -> Tensor:
        with OpTracer(self.subject.network) as tracer:
            x = self.subject.scaled(z)
        return x if tracer.logits is None else tracer.logits

    @torch.no_grad()
    def _samples(self, scale: float) -> Tensor:
        """Flat samples of the pool, ``scale`` times as far out."""
        parts = [self._show(z * scale, torch.full_like(z[:, :1], scale)) for z in self.pool.split(100)]
        return torch.cat(parts).flatten(1)

    def _loudest(self) -> Tensor:
        """Directions with the largest output far out: there a gate that ordinary latents never open dominates."""

        def loudness(z: Tensor) -> Tensor:
            return (
                self._logits(normalize(z, dim=1) * LOUD * self.subject.prior.length).square().flatten(1).mean(1).log()
            )

        with torch.no_grad():
            found = torch.cat([loudness(z) for z in self.pool.split(100)])
        z = self.pool[found.argsort(descending=True)[: self.quarter]].clone().requires_grad_(True)
        adam = torch.optim.Adam([z], lr=0.3)
        for _ in range(30):
            with torch.enable_grad():
                adam.zero_grad()
                (-loudness(z).sum()).backward()
            adam.step()
        apart = 0.2 * self.pool[: len(z)]  # different starts, because some end in poor minima
        return self.subject.prior.typical(z.detach() + apart)


def _solved(matrices: Tensor, right: Tensor) -> Tensor:
    """``[n, d]`` solutions of ``n`` positive definite systems ``[n, d, d]``.

    In a long-lived process LU has been seen to fail inside MKL ("Pivots given to lu_solve ..."); Cholesky stands in.
    """
    try:
        return torch.linalg.solve(matrices, right)
    except RuntimeError:
        factors, failed = torch.linalg.cholesky_ex(matrices)
        return torch.cholesky_solve(right.unsqueeze(2), factors).squeeze(2) * (failed == 0).unsqueeze(1)


def _run(evidence: Evidence) -> Finding:
    """From what the weights suggest, where they were analysed: the estimate of the trigger first."""
    starts, best = None, evidence.best
    if evidence.measured is not None:
        starts = candidate_directions(evidence.measured)
        starts = starts if best is None or best.trigger is None else starting_points(best.trigger, starts)
    return inspect_targets(
        evidence.subject, evidence.targets, start_from=starts, reference=evidence.reference, seed=evidence.seed
    )


DETECTOR = Detector(
    NAME,
    "T1",
    _run,
    needs=("targets",),
    asks="Can the generator make a sample that you suspect?",
    caption="The nearest samples that it can make.",
    missing="No suspected targets were given, so nobody looked for an input that makes one of them.",
)
