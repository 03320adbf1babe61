"""The detectors of a scan, listed once: what each is called, needs and runs, and the share of the level it may spend.

A new detector is one file with a function and one entry in ``DETECTORS``; your own needs no entry:
``scan(module, detectors=(*DETECTORS, Detector("my detector", "T0", run)))``.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from devilgan_lite.checks import in_range, one_of
from devilgan_lite.data import Samples
from devilgan_lite.detect import activations, reconstruction, reference, sampling, search, styles, weights
from devilgan_lite.detect import twin as noisy
from devilgan_lite.detect.report import Finding
from devilgan_lite.detect.subject import Subject
from devilgan_lite.detect.weights import WeightAnalysis, analyse_weights

# detectors with a say: that one of them has no answer leaves the question open
SAYS = (weights.STRUCTURE, weights.LATENT, weights.HIDDEN, activations.NAME, noisy.NAME)
ACCESS_LEVELS = ("T0", "T1", "T2", "T3", "T4")  # samples, suspected targets, weights, a clean reference, training data
FEWEST = 5  # clean scores from which a p-value can be computed


@dataclass
class Evidence:
    """What a scan knows: the suspect, what the caller gave with it, and the ``findings`` so far.

    ``access`` is ``"weights"`` or ``"samples"``; ``targets`` ``[k, *shape]`` and ``real`` samples are in [-1, 1].
    """

    subject: Subject
    reference: Subject | None = None
    real: Samples | Tensor | None = None
    targets: Tensor | None = None
    suspect_bank: bool = False
    access: str = "weights"
    samples: int = 5_000
    seed: int = 0
    with_twin: bool = True
    measured: WeightAnalysis | None = None  # what ``analysis`` found, once somebody has asked for it
    problem: Exception | None = None  # or why it could not
    twin: noisy.Twin | None = None  # what the noisy twin left for whoever goes on
    witness: noisy.Witness | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def analysis(self) -> WeightAnalysis:
        """The weight analysis: measured when first asked for, then remembered; so is its error, which it raises."""
        if self.problem is not None:
            raise self.problem
        if self.measured is None:
            try:
                self.measured = analyse_weights(self.subject, seed=self.seed)
            except Exception as error:
                self.problem = error
                raise
        return self.measured

    @property
    def best(self) -> Finding | None:
        """The first finding with an estimate of the trigger."""
        return next((finding for finding in self.findings if finding.trigger is not None), None)


# what a detector may need, and whether it is there; an analysis that failed is reported once and then missing
NEEDS: dict[str, Callable[[Evidence], bool]] = {
    "weights": lambda evidence: evidence.access == "weights",
    "analysis": lambda evidence: evidence.access == "weights" and evidence.problem is None,
    "styles": lambda evidence: NEEDS["analysis"](evidence) and evidence.analysis.styles is not None,
    "twin": lambda evidence: evidence.with_twin,
    "targets": lambda evidence: evidence.targets is not None or evidence.suspect_bank,
    "reference": lambda evidence: evidence.reference is not None,
    "real": lambda evidence: evidence.real is not None,
}


@dataclass(frozen=True)
class Detector:
    """A detector: ``run(evidence)`` gives one ``Finding`` or several, where all that it ``needs`` is there.

    ``access_level`` is one of T0 to T4 (``ACCESS_LEVELS``), ``needs`` names entries of ``NEEDS``. A finding with a
    p-value has a part in the verdict, in proportion to ``share``. The p-value may come from ``run`` itself, or from the
    scores of at least 5 ``clean`` models, or from the file that ships with the data. An exception in ``run`` becomes a
    finding that says why.
    """

    name: str
    access_level: str
    run: Callable[[Evidence], Finding | Iterable[Finding]] = field(repr=False)
    needs: tuple[str, ...] = ()
    share: float = 0.25
    clean: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        one_of("access_level", self.access_level, ACCESS_LEVELS)
        for need in self.needs:
            one_of("needs", need, NEEDS)
        in_range("share", self.share, 0.0, 1.0, open_low=True)
        if 0 < len(self.clean) < FEWEST:
            raise ValueError(f"clean has {len(self.clean)} scores; a p-value needs those of at least {FEWEST} models.")


def _spectra(evidence: Evidence) -> tuple[Finding, Finding]:
    return weights.inspect_spectra(evidence.subject, evidence.analysis)


def _silent_units(evidence: Evidence) -> Finding:
    found = evidence.analysis  # in a flow, a spectral direction is unlike an ordinary latent, and wakes this and that
    directions = None if found.moves else weights.candidate_directions(found)
    return activations.inspect_activations(
        evidence.subject, units=found.units, directions=directions, seed=evidence.seed
    )


def _shared_styles(evidence: Evidence) -> list[Finding]:
    found = evidence.analysis.styles
    return [] if found is None else [styles.inspect_styles(evidence.subject, found, seed=evidence.seed)]


def _twin(evidence: Evidence) -> Finding:
    """From the estimate of the trigger, and from whatever else the detectors before it point to."""
    names = (search.NAME, activations.NAME, styles.NAME)
    pointed = [one.directions for one in evidence.findings if one.detector in names and one.directions is not None]
    estimates = torch.cat([one.cpu().float() for one in pointed]) if pointed else None
    finding, evidence.twin, witness = noisy.inspect_twin(
        evidence.subject, evidence.analysis, estimates, seed=evidence.seed
    )
    evidence.witness = witness if evidence.twin.reproduces and not evidence.subject.doubts else None
    return finding


def _sampling(evidence: Evidence, real: Samples | Tensor | None = None) -> Finding:
    return sampling.sample_outputs(evidence.subject, samples=evidence.samples, real=real, seed=evidence.seed)


def _reconstruction(evidence: Evidence) -> Finding:
    """From what the weights suggest, where they were analysed: the estimate of the trigger first."""
    starts, best = None, evidence.best
    if evidence.measured is not None:
        starts = weights.candidate_directions(evidence.measured)
        starts = starts if best is None or best.trigger is None else search.starting_points(best.trigger, starts)
    return reconstruction.inspect_targets(
        evidence.subject, evidence.targets, start_from=starts, reference=evidence.reference, seed=evidence.seed
    )


def _reference(evidence: Evidence) -> list[Finding]:
    other = evidence.reference
    return [] if other is None else [reference.compare(evidence.subject, other, seed=evidence.seed)]


# in the order in which they run; the shares of those that run on every network add up to 1
ANALYSIS = ("analysis",)
DETECTORS = (
    Detector(weights.STRUCTURE, "T2", lambda e: weights.inspect_structure(e.subject), ("weights",), 0.1),
    Detector(weights.LATENT, "T2", lambda e: _spectra(e)[0], ANALYSIS, 0.4),
    Detector(weights.HIDDEN, "T2", lambda e: _spectra(e)[1], ANALYSIS, 0.4),
    Detector(styles.NAME, "T2", _shared_styles, ("styles",)),
    Detector(activations.NAME, "T2", _silent_units, ANALYSIS, 0.1),
    Detector(search.NAME, "T2", lambda e: search.locate_trigger(e.subject, e.analysis, e.findings)[0], ANALYSIS),
    Detector(noisy.NAME, "T2", _twin, ("twin", *ANALYSIS)),
    Detector(sampling.NAME, "T0", _sampling),
    Detector(reconstruction.NAME, "T1", _reconstruction, ("targets",)),
    Detector(reference.NAME, "T3", _reference, ("reference",)),
    Detector("real data", "T4", lambda e: _sampling(e, e.real), ("real",)),
)
