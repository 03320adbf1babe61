"""From suspicious directions to a trigger and the picture that it makes.

Blind searches that climb some property of the output (odd, flat, sensitive, ...) find worse places in clean generators
than a backdoor is, so nothing is climbed here: the directions come from the weights, and only sign and length are open.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from devilgan_lite.detect.report import Finding
from devilgan_lite.detect.subject import Subject
from devilgan_lite.detect.weights import Anatomy

LENGTHS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.6)  # of a typical latent: that of the trigger is not known
AWAKE = 0.05  # share of the usual energy that silent units must be able to add before they are believed
LEADING = 24  # directions of a spectrum among which an estimate is refined
NEAR = 0.6  # cosine with the first estimate below which a refined one is not believed
SHARP = 0.9  # cosine above which rows of the first layer count as one bundle


def sharpen(parts: Anatomy, direction: Tensor) -> Tensor:
    """A better direction ``[d]``, if there is a bundle of first-layer rows along it: their mean."""
    rows = parts.units.rows / parts.units.rows.norm(dim=1, keepdim=True)
    along = rows @ direction.double()
    bundle = along > SHARP
    if int(bundle.sum()) < 8:
        return direction
    mean = (rows[bundle] * parts.units.gain[bundle].unsqueeze(1)).sum(0)
    return (mean / mean.norm().clamp(min=1e-300)).float()


def refine(parts: Anatomy, direction: Tensor, count: int = LEADING) -> Tensor:
    """A better estimate ``[d]`` near ``direction``: skewness ascent among the leading directions of both spectra.

    Projected on the trigger, the rows of the first layer are skewed (a few units do the drawing); projected on anything
    else they are nearly Gaussian. The fixed-point iteration of independent component analysis climbs that skewness,
    within the ``count`` leading directions of each spectrum, where there is little else to find; the two are averaged.
    """
    rows = parts.units.rows / parts.units.rows.norm(dim=1, keepdim=True)
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for spectrum in (parts.by_use, parts.by_weight):
        basis = torch.linalg.qr(spectrum.directions[:, :count]).Q
        inside = rows @ basis
        inside = inside - inside.mean(0)
        values, vectors = torch.linalg.eigh(inside.T @ inside / len(inside))
        if float(values[0]) <= 1e-12 * float(values[-1]):
            continue  # fewer rows than directions: nothing to whiten
        root = vectors @ torch.diag(values.sqrt()) @ vectors.T
        white = inside @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)
        pointer = root @ (basis.T @ direction.double())
        pointer = pointer / pointer.norm().clamp(min=1e-300)
        sign = -1.0 if float(((white @ pointer) ** 3).mean()) < 0 else 1.0
        pointer = sign * pointer
        for _ in range(30):
            pointer = white.T @ (white @ pointer).square()
            pointer = pointer / pointer.norm().clamp(min=1e-300)
        found = basis @ (root @ pointer)
        found = found / found.norm().clamp(min=1e-300)
        if sign * float(found @ direction.double()) < NEAR:
            return signed(parts, direction)  # the climb left the neighbourhood: with few rows, noise is skewed too
        total += found
    length = float(total.norm())
    return (total / length).float() if length > 1e-6 else signed(parts, direction)


def signed(parts: Anatomy, direction: Tensor) -> Tensor:
    """``direction`` or its opposite: the one along which a few units are pushed far on (positive skewness).

    At a trigger most units are off or as usual and those that draw the target are on.
    """
    rows = parts.units.rows / parts.units.rows.norm(dim=1, keepdim=True)
    along = rows @ direction.double()
    centred = along - along.mean()
    return direction if float((centred**3).mean()) >= 0 else -direction


def starting_points(trigger: Tensor, directions: Tensor) -> Tensor:
    """Unit directions ``[1 + k, d]`` for a reconstruction to begin at: the estimate first, then ``directions``."""
    return torch.cat([trigger.view(1, -1) / trigger.norm(), directions])


def locate_trigger(subject: Subject, parts: Anatomy, findings: list[Finding]) -> tuple[Finding, Tensor, Tensor]:
    """The best estimate: a finding with evidence, the trigger ``[d]``, and the pictures shown ``[20, C, H, W]``.

    Believes the waking latent of silent units, if it wakes much, else the finding with the smallest p-value (the latent
    spectrum). Pictures: the estimate at eight lengths (``LENGTHS``), its opposite at the same, and the next two
    spectral directions with both signs.
    """
    start = time.perf_counter()
    usable = [finding for finding in findings if finding.directions is not None and finding.tier == "T2"]
    usable.sort(key=lambda finding: 1.0 if finding.p_value is None else finding.p_value)
    awake = [finding for finding in usable if finding.detector == "silent units" and (finding.score or 0.0) > AWAKE]
    usable = [finding for finding in usable if finding.detector != "silent units"]
    direction, name = parts.by_use.directions[:, 0].float(), "latent spectrum"
    for source in (awake or usable)[:1]:
        if source.directions is not None:
            direction, name = source.directions[0].float(), source.detector
    direction = direction / direction.norm().clamp(min=1e-30)
    best = sharpen(parts, direction if name == "silent units" else refine(parts, direction))
    lengths = torch.tensor(LENGTHS).view(-1, 1) * subject.radius
    others = parts.by_use.directions[:, 1:3].T.float()
    tried = torch.cat([best * lengths, -best * lengths, others * subject.radius, -others * subject.radius])
    pictures = subject.pictures(tried).cpu()
    finding = Finding(
        detector="search",
        tier="T2",
        message=f"trigger estimate from {name} at {len(LENGTHS)} lengths, then its opposite, then two more directions",
        pictures=pictures,
        directions=torch.stack([best, *others]),
        details={"source": name, "lengths": list(LENGTHS)},
        seconds=time.perf_counter() - start,
    )
    return finding, best * subject.radius, pictures
