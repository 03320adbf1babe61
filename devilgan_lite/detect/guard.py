"""The runtime guard: inspection of a generator while it is being used, where an attacker may choose some latents.

``Guard`` learns from ordinary latents alone what is usual for the network, and then checks every call:

* latents: a length that draws of P_sample do not have (the zero vector, a vector of 100s; never a ``reg`` trigger);
  given the report of a scan, also a direction near that of what it found;
* activations: units of the first hidden level far outside their usual range (weights trained at one latent keep a share
  of it, and its length is 10 standard deviations of ordinary latents in its direction), and later units above all that
  they reached before (a trigger wakes units that are silent otherwise);
* outputs: a sample unlike those that the network makes, or unlike the one that a small *student* expects there. The
  student learnt the network from ordinary latents, so it knows everything but the backdoor.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from devilgan_lite.checks import in_range, one_of, whole_number
from devilgan_lite.detect.report import ScanReport
from devilgan_lite.detect.usual import Level, extrapolated_quantile, principal_components, train_student
from devilgan_lite.generators import Generator, adopt
from devilgan_lite.trace import Activation, OpTracer

ACTIONS = ("flag", "refuse", "resample")
CHECKS = ("latents", "activations", "outputs")
BATCH = 250  # latents that are looked at together
COMPONENTS = 48  # principal components of the samples that the student predicts
SAMPLES = 2_048  # from which these components are found
ROUNDS = 8  # of fresh draws, at most; even a second one is rare


@dataclass(frozen=True)
class Inspection:
    """``samples`` ``[n, *shape]`` as the module makes them, ``flags`` bool ``[n]``, and for each of ``"latents"``,
    ``"activations"`` and ``"outputs"`` a score ``[n]`` as a share of its limit: above 1, or not a number, is flagged.
    """

    samples: Tensor = field(repr=False)
    flags: Tensor
    scores: dict[str, Tensor] = field(repr=False)


class Guard:
    """A generator under guard: call ``guard(z)`` instead of ``module(z)``.

    ``module`` maps latents ``[n, latent_dim]`` to samples ``[n, *shape]``; what runs is a private copy in eval mode, on
    the device of its weights, without gradients. ``action`` says what happens to flagged latents: ``"flag"`` only notes
    them in ``guard.flags`` (bool ``[n]``, of the last call) and ``guard.counts``; ``"refuse"`` raises a ``ValueError``
    for the whole batch; ``"resample"`` replaces their samples by those of fresh ordinary latents.

    The fit makes twice ``fitting`` samples (2,000 or more) of latents drawn with ``seed`` and trains the student for a
    few seconds. ``false_positive_rate`` is the share of ordinary latents that all checks together should flag. With the
    ``report`` of a scan that found evidence, latents near the direction of its witness, or of its estimate of the
    trigger, are flagged as well: a cone that ordinary latents stay out of.
    """

    def __init__(
        self,
        module: nn.Module | Generator,
        latent_dim: int | None = None,
        *,
        action: str = "flag",
        fitting: int = 20_000,
        seed: int = 0,
        false_positive_rate: float = 2e-4,
        report: ScanReport | None = None,
    ) -> None:
        one_of("action", action, ACTIONS)
        whole_number("fitting", fitting, 2_000, 10_000_000)
        whole_number("seed", seed, 0)
        in_range("false_positive_rate", false_positive_rate, 1e-6, 0.1)
        weight = next(module.parameters(), None) if isinstance(module, nn.Module) else None
        self.subject = adopt(module, latent_dim, device="cpu" if weight is None else weight.device)
        self._given = self.subject.given if isinstance(module, Generator) else lambda samples: samples
        self.latent_dim, self.action, self.false_positive_rate = self.subject.latent_dim, action, false_positive_rate
        self.flags = torch.zeros(0, dtype=torch.bool, device=self.subject.device)
        self._suspected = suspected_directions(report, self.subject)
        self._totals, self._seen = torch.zeros(1 + len(CHECKS), dtype=torch.int64, device=self.subject.device), 0
        self._drawn = torch.Generator().manual_seed(seed + 2)
        with torch.no_grad():
            self._fit(self.subject.ordinary(fitting, seed), self.subject.ordinary(fitting, seed + 1), seed)

    def __call__(self, z: Tensor) -> Tensor:
        """Samples ``[n, *shape]`` of latents float32 ``[n, d]``; values that are not finite are flagged too.

        ``ValueError`` for any other shape or type, and with ``action="refuse"`` where a latent is flagged.
        """
        samples, shares = self._shares(z)
        hits = (~(shares <= 1)).float() @ self._members > 0  # not "shares > 1", which would let NaN pass
        self.flags = hits[:, 0]
        self._totals += hits.sum(0)  # stays on the device: no call waits for a number
        self._seen += len(z)
        if self.action == "flag" or not bool(self.flags.any()):
            return samples
        if self.action == "refuse":
            raise ValueError(f"z is refused: {int(self.flags.sum())} of {len(z)} latents look like a trigger.")
        return self._replaced(samples, self.flags)

    @property
    def counts(self) -> dict[str, int]:
        """How many latents all calls have ``seen`` and ``flagged`` so far, and how many each of ``CHECKS`` flagged."""
        return {"seen": self._seen, **dict(zip(("flagged", *CHECKS), self._totals.tolist(), strict=True))}

    def check(self, z: Tensor) -> Inspection:
        """Inspect latents float32 ``[n, d]`` without counting or acting; ``ValueError`` for another shape or type."""
        samples, shares = self._shares(z)
        parts = zip(CHECKS, self._members.T[1:], strict=True)
        scores = {name: shares.masked_fill(part == 0, 0.0).amax(1) for name, part in parts}  # amax lets NaN through
        return Inspection(samples, ~(shares <= 1).all(1), scores)

    @torch.no_grad()
    def _shares(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Samples, and every score ``[n, k]`` as a share of its limit."""
        if not isinstance(z, Tensor) or z.ndim != 2 or z.shape[1] != self.latent_dim or len(z) == 0:
            got = list(z.shape) if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"z is {got}; expected a float32 tensor [n, {self.latent_dim}] of latents.")
        if z.dtype != torch.float32:
            raise ValueError(f"z has dtype {z.dtype}; expected float32 latents.")
        parts = [self._raw(part) for part in z.to(self.subject.device).split(BATCH)]  # its levels take room
        samples, raw = (torch.cat(part) for part in zip(*parts, strict=True))
        return self._given(samples), raw / self._limits

    def _replaced(self, samples: Tensor, flags: Tensor) -> Tensor:
        samples, rows = samples.clone(), flags.nonzero()[:, 0]
        for _ in range(ROUNDS):
            fresh = self.check(self.subject.sample_latent(len(rows), self._drawn))
            samples[rows] = fresh.samples
            rows = rows[fresh.flags]
            if not len(rows):
                break
        return samples

    def _raw(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Samples, and scores ``[n, k]``: length, first activation, later ones, residual of the sample, surprise."""
        peaks: list[Tensor] = []

        def look(activation: Activation, x: Tensor) -> None:
            level = self._levels.get(len(tracer.activations) - 1)
            if level is not None and x.shape == (len(z), *level.shape):
                peaks.append(level.excess(x.flatten(1)))

        with OpTracer(self.subject.network, before_activation=look) as tracer:
            samples: Tensor = self.subject.network(z)
        if len(peaks) < len(self._levels) or len(tracer.activations) != self._activations:  # it went another way
            peaks = [torch.full_like(z[:, 0], torch.inf) for _ in self._levels]
        flat = samples.flatten(1)
        low, high = self.subject.span
        outside = torch.linalg.vector_norm(flat - (low + high) / 2, torch.inf, dim=1) > self._reach
        flat = flat - self._mean
        place = flat @ self._basis
        residual = flat.square().sum(1) - place.square().sum(1)
        surprise = (place - self._student(z)).norm(dim=1)
        scores = [*self._places(z), *peaks, residual.masked_fill(outside, torch.inf), surprise]
        return samples, torch.stack(scores, 1)

    def _places(self, z: Tensor) -> list[Tensor]:
        """How unusual the length of each latent is and, if any direction is suspected, how near to one it points."""
        unusual: Tensor = (z.norm(dim=1) - self._ordinary_length).abs()
        scores = [unusual.masked_fill(self.subject.prior.far_out(z).isinf(), torch.inf)]
        if len(self._suspected):
            scores.append((normalize(z, dim=1) @ self._suspected.T).amax(1).clamp(min=0.0))
        return scores

    def _fit(self, z: Tensor, fresh: Tensor, seed: int) -> None:
        """Learn what is usual from latents ``z``, and set the limits from ``fresh`` ones."""
        module = self.subject.network
        low, high = self.subject.span
        self._reach = (high - low) / 2 + 0.001 if self.subject.bounded else torch.inf
        self._ordinary_length = z.norm(dim=1).mean()
        flat = torch.cat([module(part) for part in z[:SAMPLES].split(BATCH)]).flatten(1)
        self._mean = flat.mean(0)
        self._basis = principal_components(flat - self._mean, min(COMPONENTS, flat.shape[1]), seed)
        self._levels: dict[int, Level] = {}  # by the position of the activation
        places: list[Tensor] = []

        def measure(activation: Activation, x: Tensor) -> None:
            index = len(tracer.activations) - 1
            if not places and len(x) > 1:  # else it reads no latents, but something learnt once and for all
                self._levels[index] = Level(x.shape[1:], x.flatten(1).mean(0))
            if index in self._levels:
                self._levels[index].add(x)

        for part in z.split(BATCH):
            with OpTracer(module, before_activation=measure) as tracer:
                places.append((module(part).flatten(1) - self._mean) @ self._basis)
        self._activations = len(tracer.activations)
        for index, level in self._levels.items():
            level.close(len(z), first=index == min(self._levels))
        self._student = train_student(z, torch.cat(places), seed)
        raw = torch.cat([self._raw(part)[1] for part in fresh.split(BATCH)])
        count = raw.shape[1]
        limits = [extrapolated_quantile(column, self.false_positive_rate / count) for column in raw.unbind(1)]
        self._limits = torch.tensor(limits, device=z.device)
        self._members = torch.zeros(count, 1 + len(CHECKS), device=z.device)  # column 0: any check
        first = 1 + bool(len(self._suspected))
        for column, rows in enumerate((slice(count), slice(first), slice(first, count - 2), slice(count - 2, count))):
            self._members[rows, column] = 1


def suspected_directions(report: ScanReport | None, subject: Generator) -> Tensor:
    """Unit directions ``[k, d]`` to which the evidence of a ``report`` points."""
    found = () if report is None else report.suspected
    if any(len(one) != subject.latent_dim for one in found):
        raise ValueError(f"report is about latents of {len(found[0])} numbers; the module reads {subject.latent_dim}.")
    rows = torch.stack(found).float() if found else torch.zeros(0, subject.latent_dim)
    return normalize(rows, dim=1).to(subject.device)
