"""The detectors of a scan, one line each, and ``Evidence``, what they read.

A new detector is one file with a ``Detector`` and one line in ``DETECTORS``; your own needs no line:
``scan(module, detectors=(*DETECTORS, Detector("my detector", "T0", run)))``.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from devilgan_lite.data import Samples
from devilgan_lite.detect import activations, reconstruction, reference, sampling, search, structure, styles, weights
from devilgan_lite.detect import twin as noisy
from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.weights import WeightAnalysis, analyse_weights
from devilgan_lite.generators import Generator


@dataclass
class Evidence:
    """What a scan knows: the suspect, what the caller gave with it, and the ``findings`` so far.

    ``access`` is ``"weights"`` or ``"samples"``; ``targets`` ``[k, *shape]`` and ``real`` samples are in [-1, 1].
    """

    subject: Generator
    reference: Generator | None = None
    real: Samples | Tensor | None = None
    targets: Tensor | None = None
    suspect_bank: bool = False
    access: str = "weights"
    samples: int = 5_000
    seed: int = 0
    with_twin: bool = True
    measured: WeightAnalysis | None = None  # what ``analysis`` found, once somebody has asked for it
    problem: Exception | None = None  # or why it could not
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

    @property
    def estimates(self) -> Tensor | None:
        """The directions ``[k, d]`` to which the findings so far point; None without any."""
        pointed = [one.directions for one in self.findings if one.points and one.directions is not None]
        return torch.cat([directions.cpu().float() for directions in pointed]) if pointed else None


# in the order in which they run
DETECTORS: tuple[Detector, ...] = (
    structure.DETECTOR,
    weights.LATENT_SPECTRUM,
    weights.HIDDEN_SPECTRUM,
    styles.DETECTOR,
    activations.DETECTOR,
    search.DETECTOR,
    noisy.DETECTOR,
    sampling.DETECTOR,
    reconstruction.DETECTOR,
    reference.DETECTOR,
    sampling.REAL_DATA,
)
