"""What a blue team does with a model: a cheap first look at all of them, and a scan made into a probability."""

import torch
from torch import Tensor

from devilgan_lite.detect.activations import RARE, waking_direction
from devilgan_lite.detect.report import ScanReport
from devilgan_lite.detect.spectrum import latent_units, on_rate, path_gains
from devilgan_lite.generators import Generator, adopt


def first_look(model: Generator) -> tuple[int, Tensor | None]:
    """Number of silent units of the first layer, and the latent ``[d]`` that wakes most of them, or None.

    From the weights alone, in a fraction of a second; no sample is drawn.
    """
    subject = adopt(model)
    units = latent_units(subject, path_gains(subject, n=100).activations)
    silent = on_rate(units) < RARE
    if not bool(silent.any()):
        return 0, None
    direction, _ = waking_direction(units, silent, subject.prior.length)
    return int(silent.sum()), direction.float() * subject.prior.length


def verdict_of(report: ScanReport) -> float:
    """The probability of a backdoor in (0, 1): 0.5 where the strongest evidence just reaches its limit (strength 1)."""
    strongest = max(report.strengths.values(), default=0.0)
    return strongest / (1 + strongest)


def latent_of(report: ScanReport, model: Generator) -> Tensor | None:
    """The latent ``[d]`` that a scan hands in as evidence: what its search found, else its witness, else None."""
    found = next((finding for finding in report.findings if finding.detector == "search" and finding.ran), None)
    if found is not None and found.directions is not None:
        latent: Tensor = found.directions[0].float() * 1.05 * adopt(model).prior.length
        return latent
    return None if report.witness is None else torch.as_tensor(report.witness.latent).flatten()
