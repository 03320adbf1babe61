"""From suspicious directions to a trigger and the sample that it makes.

Nothing is optimised: a blind search for outputs that are odd, flat or sensitive finds places in clean generators that
are odder than any backdoor. The directions come from the weights, and only sign and length are open.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from devilgan_lite.detect import styles
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import generalised_eigen, influence_at
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.generators import Generator

NAME = "search"
LENGTHS = (0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.6)  # of a typical latent: the trigger's own is not known
STRIKING = 1.2  # jump of the latent spectrum above which it is believed first: clean models stay below 1.15
STRIKING_STYLE = 2.0  # the same where layers share a row: clean style-based models reach 1.2
ASIDE = (-0.4, -0.25, 0.25, 0.4)  # tangents of the angles at which the vicinity of an estimate is shown
NEARBY_RIDGE = 0.05  # of the influence's mean diagonal
LOCAL = 8  # latents near the estimate whose sensitivity is measured
LEADING = 24  # directions of a spectrum among which an estimate is refined
NEAR = 0.6  # cosine with the first estimate below which a refined one is not believed
SHARP = 0.9  # cosine above which rows of the first layer count as one bundle


def unit(vector: Tensor) -> Tensor:
    """``vector`` at length 1; zero stays zero."""
    length: Tensor = vector.norm()
    return vector / length.clamp(min=1e-300)


def latents_along(subject: Generator, direction: Tensor, lengths: Sequence[float] = LENGTHS) -> Tensor:
    """Latents ``[n, d]`` along a unit ``direction`` ``[d]``; ``lengths`` are shares of the typical one."""
    return torch.tensor(lengths).view(-1, 1) * subject.prior.length * direction.float().view(1, -1)


def sharpen(analysis: WeightAnalysis, direction: Tensor) -> Tensor:
    """The mean ``[d]`` of the bundle of first-layer rows along ``direction``, or ``direction`` if there is none."""
    rows = analysis.units.rows / analysis.units.rows.norm(dim=1, keepdim=True)
    along = rows @ direction.double()
    bundle = along > SHARP
    if int(bundle.sum()) < 8:
        return direction
    mean = (rows[bundle] * analysis.units.gain[bundle].unsqueeze(1)).sum(0)
    return unit(mean).float()


def refine(analysis: WeightAnalysis, direction: Tensor, count: int = LEADING) -> Tensor:
    """A better estimate ``[d]`` near ``direction``: skewness ascent among the leading directions of both spectra.

    Projected on the trigger, the rows of the first layer are skewed (a few units draw the target); projected on
    anything else they are nearly Gaussian. The fixed-point iteration of independent component analysis climbs the
    skewness among the ``count`` leading directions of each spectrum; the two results are averaged.
    """
    rows = analysis.units.rows / analysis.units.rows.norm(dim=1, keepdim=True)
    total = torch.zeros(rows.shape[1], dtype=torch.float64)
    for spectrum in (analysis.by_use, analysis.by_weight):
        basis = torch.linalg.qr(spectrum.directions[:, :count]).Q
        inside = rows @ basis
        inside = inside - inside.mean(0)
        values, vectors = torch.linalg.eigh(inside.T @ inside / len(inside))
        if float(values[0]) <= 1e-12 * float(values[-1]):
            continue  # fewer rows than directions cannot be whitened
        root = vectors @ torch.diag(values.sqrt()) @ vectors.T
        white = inside @ (vectors @ torch.diag(values.rsqrt()) @ vectors.T)
        pointer = unit(root @ (basis.T @ direction.double()))
        sign = -1.0 if float(((white @ pointer) ** 3).mean()) < 0 else 1.0
        pointer = sign * pointer
        for _ in range(30):
            pointer = unit(white.T @ (white @ pointer).square())
        found = unit(basis @ (root @ pointer))
        if sign * float(found @ direction.double()) < NEAR:
            return signed(analysis, direction)  # it climbed elsewhere: with few rows, noise is skewed too
        total += found
    length = float(total.norm())
    return (total / length).float() if length > 1e-6 else signed(analysis, direction)


def signed(analysis: WeightAnalysis, direction: Tensor) -> Tensor:
    """``direction`` or its opposite: the one along which a few units are far on (positive skewness).

    At a trigger the few units that draw the target are on; the others are off, or as usual.
    """
    rows = analysis.units.rows / analysis.units.rows.norm(dim=1, keepdim=True)
    along = rows @ direction.double()
    centred = along - along.mean()
    return direction if float((centred**3).mean()) >= 0 else -direction


def vicinity(subject: Generator, analysis: WeightAnalysis, direction: Tensor, seed: int = 0) -> Tensor:
    """Unit directions ``[16, d]`` around an estimate ``[d]``, where samples change more than they do elsewhere.

    Within some degrees of a trigger the sample turns into the target along one direction that hardly changes ordinary
    samples. So the sensitivity at the estimate is divided by the usual influence (a generalised eigenproblem, as in the
    spectrum), and the two leading directions are followed to both sides, each as it is and weighted.
    """
    d, random = subject.latent_dim, torch.Generator().manual_seed(seed)
    near = direction + 0.5 / d**0.5 * torch.randn(LOCAL, d, generator=random)
    near = torch.nn.functional.normalize(near, dim=1).to(subject.device) * subject.prior.length
    pointer = direction.double()
    across = torch.eye(d, dtype=torch.float64) - torch.outer(pointer, pointer)
    local = generalised_eigen(
        across @ influence_at(subject, near) @ across, analysis.influence, NEARBY_RIDGE, "vicinity"
    )
    raised = analysis.influence.double() + NEARBY_RIDGE * analysis.influence.diagonal().mean() * torch.eye(d).double()
    weighted = torch.linalg.solve(raised, local.directions[:, :2])
    aside = torch.nn.functional.normalize(across @ torch.cat([weighted, local.directions[:, :2]], 1), dim=0).T.float()
    return torch.nn.functional.normalize(torch.cat([direction + step * aside for step in ASIDE]), dim=1)


def starting_points(trigger: Tensor, directions: Tensor) -> Tensor:
    """Unit directions ``[1 + k, d]`` where a reconstruction begins: the estimate first, then ``directions``."""
    return torch.cat([trigger.view(1, -1) / trigger.norm(), directions])


def locate_trigger(
    subject: Generator, analysis: WeightAnalysis, findings: list[Finding]
) -> tuple[Finding, Tensor, Tensor]:
    """The best estimate: a finding with evidence, the trigger ``[d]``, and the samples shown ``[36, *shape]``.

    The estimate comes from the latent spectrum if its jump is striking, else from the latent that wakes silent units,
    if it wakes much; where neither stands out and layers share a row, from the latent to which that row leads. Samples:
    the estimate at eight lengths (``LENGTHS``), its opposite at the same, sixteen places around it (``vicinity``), and
    the next two spectral directions with both signs.
    """
    by_place = {finding.where: finding for finding in findings if finding.directions is not None}
    pointers = {where: finding.directions[0] for where, finding in by_place.items() if finding.directions is not None}
    awake = "units" in by_place and by_place["units"].strength > 1
    plain = analysis.by_weight.jump < STRIKING_STYLE and not awake
    shared = analysis.styles is not None and analysis.styles.spectrum.jump > styles.AGREE and "styles" in by_place
    elsewhere = "units" if awake and analysis.by_weight.jump < STRIKING else "latent"
    where = "styles" if shared and plain else elsewhere
    direction = pointers.get(where, analysis.by_use.directions[:, 0])
    best = (direction / direction.norm().clamp(min=1e-30)).float()
    if where != "styles":
        best = sharpen(analysis, best if where == "units" else refine(analysis, best))
    if awake and abs(float(best @ pointers["units"])) > NEAR:  # silent units wake on one side only
        best = best * float((best @ pointers["units"]).sign())
    source = by_place[where].detector if where in by_place else "the weights"
    others = analysis.by_use.directions[:, 1:3].T.float()
    around = torch.cat([vicinity(subject, analysis, best), others, -others]) * subject.prior.length
    samples = subject.scaled_samples(
        torch.cat([latents_along(subject, best), latents_along(subject, -best), around])
    ).cpu()
    finding = Finding(
        detector=NAME,
        access_level="T2",
        message=f"trigger estimate from {source} at {len(LENGTHS)} lengths, its opposite, places around it, two more "
        "directions",
        samples=samples,
        directions=torch.stack([best, *others]),
        details={"source": source, "lengths": list(LENGTHS)},
        points=True,
        trigger=best * subject.prior.length,
        sample=samples[LENGTHS.index(1.0)],
    )
    return finding, best * subject.prior.length, samples


DETECTOR = Detector(
    NAME,
    "T2",
    lambda evidence: locate_trigger(evidence.subject, evidence.analysis, evidence.findings)[0],
    needs=("analysis",),
    asks="Where is the trigger? It follows the suspicious directions and shows what lies there.",
    caption="The estimate at eight lengths, its opposite, places around it, and two more directions.",
)
