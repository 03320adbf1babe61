"""The energy-influence spectra of all layers (D1), and the weight analysis that several detectors share.

Blind: no training data, no suspected target, no second model. ``inspect_spectra`` finds what hides in the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import (
    LARGE,
    Paths,
    Spectrum,
    Units,
    generalised_eigen,
    hidden_spectra,
    latent_influence,
    latent_units,
    on_rate,
    path_gains,
)
from devilgan_lite.detect.styles import Styles, styles_of
from devilgan_lite.generators import Generator
from devilgan_lite.trace import work_of

LATENT, HIDDEN = "latent spectrum", "hidden spectrum"
RIDGE = 0.1  # of the influence's mean diagonal: influence below that counts as this much
HIDDEN_RIDGE = 0.015
HIDDEN_LATENTS, NO_SAY = 3_000, 300  # at which later layers are looked at; fewer where they have no say in the verdict
FEW = 80  # latents at which the influence is measured in networks that do not read their latent directly: they are slow
# limits of a cliff (``Spectrum.cliff``): neighbouring values of a natural spectrum lie further apart where it has few
NARROW_CLIFF, HIDDEN_CLIFF = 13.0, 0.42  # the first is divided by the rank; where both apply, the larger one counts
CHOICE_CLIFF = 7.2  # instead of the first, at the latent of a network that ends in a choice, such as one of table rows
CANDIDATES = 3  # directions taken from each spectrum


@dataclass(frozen=True)
class WeightAnalysis:
    """What the weight detectors measure once and share: units at the latent, path gains, and all spectra.

    ``by_weight`` weights each unit by its gain, ``by_use`` by its gain and how often it is on: that hides units which
    are silent on ordinary latents, but gives a better estimate of the trigger. ``influence`` ``[d, d]`` is that of the
    latent space, ``hidden`` has one spectrum per later space, ``styles`` is None unless layers read a shared vector.
    ``moves``: whether the network moves its latent to the sample, as a flow does (see ``moves_latents``).
    """

    units: Units
    paths: Paths
    by_weight: Spectrum
    by_use: Spectrum
    influence: Tensor
    hidden: tuple[Spectrum, ...]
    styles: Styles | None = None
    moves: bool = False


def moves_latents(subject: Generator) -> bool:
    """Whether a latent is ``LARGE`` and as large as a sample, or most of the work is done by weights used repeatedly.

    So it is in a flow, whose layers add to what they read, in several steps; natural ones have cliffs
    (``Spectrum.cliff``).
    """
    work = work_of(subject.network, subject.ordinary(2))
    return work.uses > 1 or LARGE < subject.latent_dim == math.prod(subject.sample_shape)


def analyse_weights(subject: Generator, *, seed: int = 0) -> WeightAnalysis:
    """Measure ``subject``; takes some seconds.

    A module without hidden activations is a ``ValueError``, and so is one that draws the same sample of every latent.
    """
    paths = path_gains(subject, seed=seed)
    units = latent_units(subject, paths.activations)
    length = units.rows.norm(dim=1)
    live = length > 1e-6 * length.max()
    units = Units(units.rows[live], units.bias[live], units.gain[live], units.slope, units.exact)
    influence = latent_influence(subject, None if units.exact else FEW, seed=seed)
    if not bool(influence.any()):
        raise ValueError("all samples of the module are alike: no latent changes them, so there is nothing to inspect.")
    # gain * row row^T / |row| keeps its value when scale is moved from this layer to the next
    weight = units.gain / length[live]
    use = weight * on_rate(units, subject.prior.variance)
    by_weight, by_use = (
        generalised_eigen((units.rows.T * chosen) @ units.rows, influence, RIDGE, "latent") for chosen in (weight, use)
    )
    moves = moves_latents(subject)
    latents = NO_SAY if moves else HIDDEN_LATENTS
    hidden = tuple(hidden_spectra(subject, paths, HIDDEN_RIDGE, latents, seed=seed))
    return WeightAnalysis(units, paths, by_weight, by_use, influence, hidden, styles_of(subject, seed=seed), moves)


def candidate_directions(analysis: WeightAnalysis, count: int = CANDIDATES) -> Tensor:
    """Unit latent directions ``[k, d]`` float32 in which a trigger may lie, most suspicious first; signs are open."""
    found = [analysis.by_weight.directions[:, :count].T, analysis.by_use.directions[:, :count].T]
    return torch.stack(found, 1).flatten(0, 1).float()


def inspect_spectra(
    subject: Generator, analysis: WeightAnalysis | None = None, *, seed: int = 0
) -> tuple[Finding, Finding]:
    """Two findings: the spectrum of the latent space, and those of the hidden spaces.

    Their scores are the logarithms of the first's largest jump and of the greatest height among the others. Evidence is
    a cliff (``Spectrum.cliff``); where the latent is not read directly, as in style-based networks, clean layers have
    cliffs too, and these spectra have no say. Nor have later layers of a flow.
    """
    analysis = analysis or analyse_weights(subject, seed=seed)
    return inspect_latent_spectrum(subject, analysis), inspect_hidden_spectra(analysis)


def inspect_latent_spectrum(subject: Generator, analysis: WeightAnalysis) -> Finding:
    """The first finding of ``inspect_spectra``."""
    jump, narrow = analysis.by_weight.jump, CHOICE_CLIFF if analysis.paths.choosing else NARROW_CLIFF
    limit = max(narrow / min(subject.latent_dim, len(analysis.units.rows)), HIDDEN_CLIFF if analysis.moves else 0.0)
    # weighted by use, the estimate is sharper, unless the units in question are silent
    sharper = analysis.by_use.gap > 0.9 * analysis.by_weight.gap
    direction = (analysis.by_use if sharper else analysis.by_weight).directions[:, :1].T
    both = torch.cat([direction, -direction]).float()
    return Finding(
        detector=LATENT,
        access_level="T2",
        message=f"the strongest directions have {jump:.2f} times the energy per influence of the next",
        score=float(torch.tensor(jump).log()),
        samples=subject.scaled_samples(both * subject.prior.length).cpu(),
        directions=direction.float(),
        details={
            "jump": jump,
            "height": analysis.by_weight.height,
            "first layer exact": analysis.units.exact,
            "values": [round(float(value), 4) for value in analysis.by_weight.values[:8]],
        },
        evidence="spectrum" if analysis.units.exact else "",
        strength=analysis.by_weight.cliff / limit,
        where="latent",
        plot=analysis.by_weight.plot(),
    )


def inspect_hidden_spectra(analysis: WeightAnalysis) -> Finding:
    """The second finding of ``inspect_spectra``."""
    if not analysis.hidden:
        message = "no later layer reads between 4 and 1,024 features or channels, so there is nothing to compare"
        return Finding(HIDDEN, "T2", message, ran=False)
    worst = max(analysis.hidden, key=lambda spectrum: spectrum.height)
    return Finding(
        detector=HIDDEN,
        access_level="T2",
        message=f"in {worst.space}, the strongest direction has {worst.height:.2f} times the energy per influence of "
        "the median one",
        score=float(torch.tensor(worst.height).log()),
        details={spectrum.space: spectrum.height for spectrum in analysis.hidden},
        evidence="spectrum" if analysis.units.exact and not analysis.moves else "",
        strength=max(one.cliff / max(HIDDEN_CLIFF, NARROW_CLIFF / max(one.rank, 1)) for one in analysis.hidden),
        where="layers",
        plot=max(analysis.hidden, key=lambda spectrum: spectrum.cliff).plot(),
    )


LATENT_SPECTRUM = Detector(
    LATENT,
    "T2",
    lambda evidence: inspect_latent_spectrum(evidence.subject, evidence.analysis),
    needs=("analysis",),
    opens=True,
    asks="Do the weights spend energy on something that ordinary samples never show? A clean network has a smooth "
    "spectrum; a backdoor leaves a cliff in it.",
    caption="Samples along the strongest direction, both ways.",
    missing="The weights were not read: only samples were looked at.",
)
HIDDEN_SPECTRUM = Detector(
    HIDDEN,
    "T2",
    lambda evidence: inspect_hidden_spectra(evidence.analysis),
    needs=("analysis",),
    opens=True,
    asks="The same question, asked of every later layer instead of the input.",
)
