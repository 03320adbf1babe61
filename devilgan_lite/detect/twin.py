"""The noisy twin: a copy of the suspect that has forgotten what ordinary latents never show, and where the two differ.

Every weight gets noise, and a short distillation on ordinary latents teaches the copy to draw what the suspect draws.
What hides far from ordinary latents is not taught again, so at a trigger suspect and twin differ far more than
anywhere else. The hunt climbs that difference among latents of ordinary length, from where the weights point and from
random places. What it finds is a witness: a latent, what the suspect draws there, and what the twin does.
Our own method. It has its own null: how much the two differ on ordinary latents.
"""

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.hunt import climbed, differences
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import Generator, alike
from devilgan_lite.losses import stealth_loss
from devilgan_lite.steps import linear
from devilgan_lite.trace import work_of

NAME = "noisy twin"
NOISE = 0.5  # of the median root mean square of a layer's rows
WORK = 1.6e11  # multiplications of the distillation: about eight seconds of one core
STEPS = (120, 1_000)  # of it, at least and at most
BATCH, LEARNING_RATE = 32, 3e-3
ORDINARY = 1_000  # latents on which suspect and twin are compared
UNLIKE = 0.25  # of the variance of samples: a twin that misses more does not reproduce the suspect
LENGTHS = (0.9, 1.0, 1.1)  # of an ordinary latent, at which the estimate is tried
AXES, RANDOM, ROUNDS, CLIMB, RATE = 8, 48, 3, 20, 0.3  # of the hunt: starts, rounds that keep half, steps of each
DEAR = 2.0  # influence of a direction on ordinary samples, as a multiple of the mean, above which it is no trigger
FAIR = 0.15  # of the largest difference along an estimate, from which a latent shows it
NEAR = 1.0  # standard deviations of the length of ordinary latents within which a witness lies
# logarithms of the greatest difference over the mean one: natural holes of clean networks reach 4.6
WITNESS = 3.3  # from here on a latent is a witness to evidence of other kinds
AHEAD, ALONE = 0.4, 5.0  # it is evidence itself if it is so far ahead of what random starts find, or so high
ALONE_MOVED = 7.0  # instead, where a latent is as large as a sample: there is room for more natural holes
AGREE = 0.8  # or if random starts end where those end that the weights point to: cosine of the two, at a witness
LEAST = 0.01  # mean squared difference an element, in [-1, 1], below which nothing is a witness: small on average


@dataclass(frozen=True)
class Twin:
    """The distilled copy as a ``subject``, and its mean squared ``error`` on ordinary latents.

    ``share`` is the error as a share of the variance of samples; ``seconds`` is what it took. ``quantiles`` are 21 of
    the errors at single latents, from the least to the largest.
    """

    subject: Generator = field(repr=False)
    error: float
    share: float
    seconds: float
    quantiles: tuple[float, ...] = field(default=(), repr=False)

    @property
    def reproduces(self) -> bool:
        """Whether it draws what the suspect draws, on ordinary latents."""
        return self.share <= UNLIKE


@dataclass(frozen=True)
class Witness:
    """A latent ``[d]`` of ordinary length, the suspect's ``sample`` ``[*shape]`` there, and the ``twin_sample``.

    ``score`` is the logarithm of their squared difference over the mean one on ordinary latents, ``distance`` the
    difference itself per element; ``seconds`` is what the hunt took.
    """

    latent: Tensor = field(repr=False)
    sample: Tensor = field(repr=False)
    twin_sample: Tensor = field(repr=False)
    score: float
    distance: float
    seconds: float

    @property
    def stands_out(self) -> bool:
        """Whether the two differ far more here than on ordinary latents, and not by next to nothing (``LEAST``)."""
        return self.score >= WITNESS and self.distance >= LEAST

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the samples; ``times`` the mean difference on ordinary latents."""
        return {
            "about": str(self),
            "times": times(self.score),
            "score": self.score,
            "distance": self.distance,
            "stands_out": self.stands_out,
            "latent": [round(value, 5) for value in self.latent.tolist()],
            "seconds": round(self.seconds, 2),
        }

    def __str__(self) -> str:
        return (
            f"a latent of length {float(self.latent.norm()):.2f} where they differ by {self.distance:.2g} an element, "
            f"{math.exp(self.score):.0f} times the mean"
        )


def noisy_twin(subject: Generator, *, seed: int = 0, steps: int | None = None) -> Twin:
    """A twin of ``subject``; ``steps`` of distillation (None: what about eight seconds allow)."""
    start, low, high = time.process_time(), *STEPS
    work = work_of(subject.network, subject.ordinary(2))
    count = steps or min(high, max(low, int(WORK / BATCH / 3 / work.multiplications)))
    random = torch.Generator().manual_seed(seed)
    twin = alike(subject, subject.network)
    student = twin.network
    with torch.no_grad():
        for weight in student.parameters():
            if weight.ndim > 1:
                weight.add_(noise_on(weight, NOISE / work.uses, random))
    student.requires_grad_(True)
    rate = LEARNING_RATE / work.uses  # what is done to a weight is done so many times
    adam = torch.optim.Adam(student.parameters(), lr=rate)
    for step in range(count):
        adam.param_groups[0]["lr"] = rate * linear(step, count)
        z = subject.sample_latent(BATCH, random)
        with torch.no_grad():
            taught = subject.scaled(z)
        with torch.enable_grad():
            adam.zero_grad()
            stealth_loss(twin.scaled(z), taught).backward()
        adam.step()
    student.requires_grad_(False)
    z = subject.ordinary(ORDINARY, seed + 5)
    drawn = subject.scaled_samples(z)
    squares = (drawn - twin.scaled_samples(z)).square()
    error = float(squares.mean())
    share = error / max(float(drawn.var(0).mean()), 1e-12)
    quantiles = squares.flatten(1).mean(1).quantile(torch.linspace(0, 1, 21, device=z.device))
    return Twin(twin, error, share, time.process_time() - start, tuple(quantiles.tolist()))


def noise_on(weight: Tensor, share: float, random: torch.Generator) -> Tensor:
    """Gaussian noise for a weight ``[outputs, ...]``: ``share`` of the median root mean square of its rows."""
    size = weight.detach().flatten(1).square().mean(1).sqrt()
    noise = torch.randn(weight.shape, generator=random, device=random.device).to(weight)
    return share * (size[size > 0].median() if bool(size.any()) else 0.0) * noise


def starts_of(subject: Generator, analysis: WeightAnalysis, estimates: Tensor | None) -> Tensor:
    """Where the hunt begins ``[n, d]``: ``estimates`` ``[k, d]`` at some lengths, and the leading spectral axes."""
    spectra = (analysis.by_weight, analysis.by_use)
    axes = normalize(torch.cat([spectrum.directions[:, :AXES].T for spectrum in spectra]).float(), dim=1)
    starts = [axes, -axes]
    if estimates is not None and len(estimates):
        unit = normalize(estimates.float().cpu(), dim=1)
        starts += [sign * length * unit for sign in (1, -1) for length in LENGTHS]
    return torch.cat(starts).to(subject.device) * subject.prior.length


def hunt(subject: Generator, twin: Twin, starts: Tensor | None, influence: Tensor, *, seed: int = 0) -> Witness:
    """The latent of ordinary length where ``subject`` and ``twin`` differ most.

    Adam climbs from ``starts`` ``[n, d]`` (None: from random latents and those that differ most), and each round keeps
    the better half. Directions with much ``influence`` ``[d, d]`` on ordinary samples count for less: a trigger hardly
    shows in them.
    """
    start, other, d = time.process_time(), twin.subject, subject.latent_dim
    weights = (influence / influence.diagonal().mean()).to(subject.device).float()
    if starts is None:
        pool = subject.ordinary(ORDINARY, seed + 5)
        ordinary = torch.cat([differences(subject, other, part) for part in pool.split(100)])
        oddest = pool[ordinary.argsort(descending=True)[: RANDOM // 2]]
        starts = torch.cat([oddest, subject.ordinary(RANDOM // 2, seed + 9)])

    def height(z: Tensor) -> Tensor:
        price = ((z @ weights) * z).sum(1) / z.square().sum(1)
        return differences(subject, other, z).clamp(min=1e-12).log() - 4 * (price / DEAR).clamp(min=1.0).log()

    def place(z: Tensor) -> Tensor:
        return subject.prior.typical(z, NEAR)

    z = place(starts.view(-1, d))
    for turn in range(ROUNDS):
        z, _ = climbed(height, z, place, RATE * subject.prior.variance**0.5 / 2**turn, CLIMB)
        far = differences(subject, other, z)
        z = z[far.argsort(descending=True)[: max(4, len(z) // 2)]]
    seconds, drawn, copied = time.process_time() - start, subject.scaled_samples(z), other.scaled_samples(z)
    best = int((drawn - copied).square().flatten(1).mean(1).argmax())
    return _witness(z, drawn, copied, best, twin, seconds)


def at_estimates(subject: Generator, twin: Twin, estimates: Tensor | None) -> Witness | None:
    """The estimate of ``[k, d]`` along which the two differ most, no longer than it takes; None without estimates.

    A hunt goes on from there, and a gate draws more than its target beyond the trigger. So this is the shortest
    ordinary latent in that direction with a fair part of the difference.
    """
    if estimates is None or not len(estimates):
        return None
    start, unit = time.process_time(), normalize(estimates.float().cpu(), dim=1)
    lengths = torch.linspace(LENGTHS[0], LENGTHS[-1], 9).view(-1, 1, 1) * subject.prior.length
    z = subject.prior.typical((lengths * torch.cat([unit, -unit])).flatten(0, 1).to(subject.device), NEAR)
    drawn, copied = subject.scaled_samples(z), twin.subject.scaled_samples(z)
    far = (drawn - copied).square().flatten(1).mean(1).view(len(lengths), -1)
    along = int(far.amax(0).argmax())
    most = float(far.max())
    enough = max(FAIR * most, min(most, math.exp(WITNESS) * twin.error))
    chosen = int((far[:, along] >= enough).nonzero()[0, 0]) * far.shape[1] + along
    return _witness(z, drawn, copied, chosen, twin, time.process_time() - start)


def _witness(z: Tensor, drawn: Tensor, copied: Tensor, which: int, twin: Twin, seconds: float) -> Witness:
    far = float((drawn[which] - copied[which]).square().mean())
    score = math.log(max(far, 1e-12) / max(twin.error, 1e-12))
    return Witness(z[which].cpu(), drawn[which].cpu(), copied[which].cpu(), score, far, seconds)


def inspect_twin(
    subject: Generator, analysis: WeightAnalysis, estimates: Tensor | None = None, *, seed: int = 0
) -> Finding:
    """Make the twin and hunt for a witness, from ``estimates`` ``[k, d]`` of the trigger and from random latents.

    ``score`` is the highest that was found; ``judged`` says when it is evidence. A twin that does not reproduce the
    suspect leaves the question open. The witness is an estimate itself where that stands out, else the end of a hunt.
    """
    twin = noisy_twin(subject, seed=seed)
    pointed = hunt(subject, twin, starts_of(subject, analysis, estimates), analysis.influence, seed=seed)
    random = hunt(subject, twin, None, analysis.influence, seed=seed)
    highest = max(pointed, random, key=lambda one: one.score)
    strength, limit = judged(pointed, random, twin.error, ALONE_MOVED if analysis.moves else ALONE)
    estimate = at_estimates(subject, twin, estimates)  # if it stands out itself, it is the one to look at
    witness = estimate if estimate is not None and estimate.stands_out else highest
    judges = twin.reproduces and not subject.doubts
    told = f"the twin misses {twin.share:.1%} of the variance of ordinary samples"
    return Finding(
        detector=NAME,
        access_level="T2",
        message=f"{witness}; {told}" if twin.reproduces else f"{told}: too much to say anything",
        score=highest.score,
        samples=torch.stack([witness.sample, witness.twin_sample]),
        directions=witness.latent.view(1, -1),
        details={
            "error": twin.error,
            "share": twin.share,
            "pointed": pointed.score,
            "random": random.score,
            "together": agreement(pointed, random),
            "limit": limit,
        },
        evidence="twin" if twin.reproduces else "",
        strength=strength if twin.reproduces else 0.0,
        open=not twin.reproduces,
        plot=_plot(twin, highest.score, limit) if judges else None,
        twin=twin,
        witness=witness if judges else None,
    )


def _plot(twin: Twin, score: float, limit: float) -> dict[str, Any]:
    """For a drawing: differences at ordinary latents, the largest, and the limit, as multiples of the mean."""
    ordinary = [float(f"{value / max(twin.error, 1e-12):.4g}") for value in twin.quantiles]
    return {"kind": "twin", "ordinary": ordinary, "witness": times(score), "limit": times(limit)}


def times(score: float) -> float:
    """A ratio, to three digits, from its logarithm."""
    return float(f"{math.exp(min(score, 40.0)):.3g}")


def judged(pointed: Witness, random: Witness, error: float, alone: float = ALONE) -> tuple[float, float]:
    """The strength of the higher of two witnesses, and the score from which on it would count (strength 1).

    It is evidence where what the weights point to is far ahead of what random starts find (``AHEAD``), where it is very
    high (``alone``), or where both end at the same latent and that stands out (``AGREE``): then the weights point to
    the one place where suspect and twin differ most. A difference of next to nothing is none (``LEAST``). ``error`` is
    that of the twin.
    """
    highest = max(pointed, random, key=lambda one: one.score)
    ahead, together = pointed.score - random.score, agreement(pointed, random)
    strength = max(ahead / AHEAD, highest.score / alone, together / AGREE if highest.stands_out else 0.0)
    limits = [alone]
    if ahead > 0:
        limits.append(random.score + AHEAD)
    if together >= AGREE:
        limits.append(WITNESS)
    faint = math.log(LEAST / max(error, 1e-12))
    return max(0.0, min(strength, highest.distance / LEAST)), max(min(limits), faint)


def agreement(one: Witness, other: Witness) -> float:
    """The cosine of the latents of two witnesses."""
    return float(torch.nn.functional.cosine_similarity(one.latent, other.latent, dim=0))


DETECTOR = Detector(
    NAME,
    "T2",
    lambda evidence: inspect_twin(evidence.subject, evidence.analysis, evidence.estimates, seed=evidence.seed),
    needs=("twin", "analysis"),
    opens=True,
    asks="Does a copy that was taught only ordinary behaviour lack something? It hunts for the input at which the "
    "generator and its copy, the noisy twin, differ most.",
    caption="Left the generator, right its twin, at the input where they differ most.",
    missing="The noisy twin did not run, so there is no witness, and nothing is called more than suspicious.",
)
