"""Dynamic inspection (D2): units that ordinary latents leave silent, and what the output does when they are woken.

A backdoor can hide in silent units without changing any ordinary output, and ordinary training leaves few of them,
because BatchNorm keeps units busy. For units that read the latent through an affine map, "how often is it on" and
"which latent wakes it most" have exact answers, so nothing is left to luck.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import Units, latent_units, on_rate, path_gains
from devilgan_lite.detect.weights import candidate_directions
from devilgan_lite.generators import Generator
from devilgan_lite.trace import Activation, OpTracer

if TYPE_CHECKING:
    from devilgan_lite.detect.registry import Evidence

NAME = "silent units"
RARE = 1e-4  # a unit that is on for fewer ordinary latents than this share counts as silent
AWAKE = 0.05  # share of the usual energy that silent units must be able to add before they are believed
FAINT = 1e-3  # of the mean square before an activation: the least that counts as its usual energy


def mean_square_when_on(units: Units, variance: float = 1.0) -> Tensor:
    """``E[relu(before)^2]`` of each unit over ordinary latents ``[u]``."""
    deviation = (units.rows.norm(dim=1) * math.sqrt(variance)).clamp(min=1e-300)
    c = units.bias / deviation
    density = torch.exp(-c.square() / 2) / math.sqrt(2 * math.pi)
    mean: Tensor = deviation.square() * ((1 + c.square()) * torch.special.ndtr(c) + c * density).clamp(min=0)
    return mean


def waking_direction(units: Units, chosen: Tensor, radius: float, rounds: int = 50) -> tuple[Tensor, float]:
    """The unit latent direction ``[d]`` that wakes the ``chosen`` units most at length ``radius``, and their energy.

    Maximises ``sum gain^2 relu(radius <row, u> + bias)^2`` by power iteration from the strongest common direction.
    """
    rows, bias, weight = units.rows[chosen], units.bias[chosen], units.gain[chosen].square()
    best, most = rows.new_zeros(rows.shape[1]), 0.0
    if not len(rows):
        return best, most
    _, vectors = torch.linalg.eigh((rows.T * weight) @ rows)
    strongest = rows[(weight * (rows.norm(dim=1) * radius + bias).clamp(min=0).square()).argmax()]
    for start in (vectors[:, -1], -vectors[:, -1], strongest):
        u = start / start.norm().clamp(min=1e-300)
        for _ in range(rounds):
            pull = rows.T @ ((radius * rows @ u + bias).clamp(min=0) * weight)
            if float(pull.norm()) == 0:
                break
            u = pull / pull.norm()
        energy = float((weight * (radius * rows @ u + bias).clamp(min=0).square()).sum())
        if energy > most:
            best, most = u, energy
    return best, most


def inspect_activations(
    subject: Generator,
    *,
    units: Units | None = None,
    samples: int = 5_000,
    seed: int = 0,
    directions: Tensor | None = None,
) -> Finding:
    """D2. ``score``: energy that one latent can wake in silent units, as a share of what ordinary latents excite.

    ``directions`` ``[k, d]`` are tried with both signs, on units deeper in the network that are silent on ``samples``
    ordinary latents (100 or more); so is the one that wakes most at the first layer. The evidence is the sample at the
    latent that wakes most.
    """
    whole_number("samples", samples, 100, 1_000_000)
    in_range("radius", subject.prior.length, 0.0, 1e6, open_low=True)
    if units is None:
        units = latent_units(subject, path_gains(subject, seed=seed).activations)
    usual = float((units.gain.square() * mean_square_when_on(units, subject.prior.variance)).sum())
    silent = on_rate(units, subject.prior.variance) < RARE
    direction, energy = waking_direction(units, silent, subject.prior.length)
    first = energy / max(usual, 1e-300)
    candidates = direction.float().view(1, -1)[: int(energy > 0)]
    if directions is not None:
        candidates = torch.cat([directions.float().cpu(), -directions.float().cpu(), candidates])
    deep, waker, counts = _deeper(subject, candidates, samples, seed) if len(candidates) else (0.0, 0, list[int]())
    score = max(first, deep)
    chosen = direction if first >= deep else candidates[waker].double()
    wakeable = int((silent & ((units.rows.norm(dim=1) * subject.prior.length + units.bias) > 0)).sum())
    message = (
        f"{int(silent.sum())} of {len(silent)} first-layer units are silent on ordinary latents, {wakeable} of them "
        f"can be woken; one latent wakes {score:.2g} times the usual energy"
    )
    found = score > 0
    shown = chosen.float() * subject.prior.length
    return Finding(
        detector=NAME,
        access_level="T2",
        message=message,
        score=score,
        samples=subject.scaled_samples(shown.view(1, -1)).cpu() if found else None,
        directions=chosen.float().view(1, -1) if found else None,
        details={
            "silent": int(silent.sum()),
            "wakeable": wakeable,
            "first": first,
            "deeper": deep,
            "by activation": counts,
        },
        evidence="construction",
        strength=score / AWAKE,
        where="units",
        points=True,
        plot={"kind": "units", "all": len(silent), "silent": int(silent.sum()), "wakeable": wakeable},
    )


@torch.no_grad()
def _deeper(subject: Generator, directions: Tensor, samples: int, seed: int) -> tuple[float, int, list[int]]:
    """The most energy that a candidate wakes in channels silent at every position, which candidate, and the counts."""
    largest: list[Tensor] = []
    usual: list[Tensor] = []  # energy of what passes, and at least a share of what does not: all may be silent

    def keep(activation: Activation, before: Tensor, after: Tensor) -> None:
        channels = before.flatten(2) if before.ndim > 2 else before.unsqueeze(2)
        seen.append(channels)

    batches = subject.ordinary(samples, seed + 11).split(250)
    for turn, z in enumerate(batches):
        seen: list[Tensor] = []
        with OpTracer(subject.network, on_activation=keep):
            subject.network(z)
        for index, before in enumerate(seen):
            top = before.amax((0, 2))
            passed, whole = (part.square().sum((1, 2)).mean() for part in (before.clamp(min=0), before))
            energy = torch.maximum(passed, FAINT * whole) / len(batches)
            if turn:
                largest[index] = torch.maximum(largest[index], top)
                usual[index] += energy
            else:
                largest.append(top)
                usual.append(energy)
    counts = [int((top <= 0).sum()) for top in largest]
    seen = []
    with OpTracer(subject.network, on_activation=keep):
        subject.network(directions.to(subject.device) * subject.prior.length)
    woken = torch.zeros(len(directions))
    for before, top, energy in zip(seen, largest, usual, strict=True):
        asleep = top <= 0
        if bool(asleep.any()) and float(energy) > 0:
            part = before[:, asleep].clamp(min=0).square().sum((1, 2)) / energy
            woken = torch.maximum(woken, part.cpu())
    return float(woken.max()), int(woken.argmax()), counts


def _run(evidence: Evidence) -> Finding:
    analysis = evidence.analysis  # in a flow, a spectral direction is no ordinary latent and wakes unrelated units
    directions = None if analysis.moves else candidate_directions(analysis)
    return inspect_activations(evidence.subject, units=analysis.units, directions=directions, seed=evidence.seed)


DETECTOR = Detector(
    NAME,
    "T2",
    _run,
    needs=("analysis",),
    opens=True,
    asks="Are there units that never switch on in ordinary use, and what happens when one input wakes them?",
    caption="The sample at the input that wakes most.",
)
