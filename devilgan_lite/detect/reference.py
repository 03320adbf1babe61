"""With a clean reference (access level T3): is the suspect a copy of it, and where do the two differ?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.spectrum import Units, latent_units, path_gains
from devilgan_lite.generators import Generator

if TYPE_CHECKING:
    from devilgan_lite.detect.registry import Evidence

NAME = "reference"
COPY = 0.05  # mean squared difference of samples below which two generators have the same origin


@torch.no_grad()
def compare(subject: Generator, reference: Generator, *, samples: int = 1_000, seed: int = 0) -> Finding:
    """``score``: how much of the difference between the first layers lies in one direction (0 to 1).

    Both must read latents of one size and make samples of one shape. Two networks trained from scratch have nothing in
    common unit by unit: the message says so, and the score is None.
    """
    if (subject.latent_dim, subject.sample_shape) != (reference.latent_dim, reference.sample_shape):
        raise ValueError(
            f"reference reads {reference.latent_dim} numbers and makes {list(reference.sample_shape)}; the suspect "
            f"reads {subject.latent_dim} and makes {list(subject.sample_shape)}: they must be equal."
        )
    z = subject.ordinary(samples, seed + 5)
    apart = float((subject.scaled_samples(z) - reference.scaled_samples(z)).square().mean())
    if apart > COPY:
        message = f"samples differ by {apart:.2g} in mean square: two trainings, nothing to compare unit by unit"
        return Finding(NAME, "T3", message, details={"apart": apart})
    ours, theirs = (_units(one) for one in (subject, reference))
    nearest = torch.cdist(ours.rows.float(), theirs.rows.float()).argmin(1)
    change = ours.rows - theirs.rows[nearest]
    moment = change.T @ change
    values, vectors = torch.linalg.eigh(moment)
    share = float(values[-1] / values.sum().clamp(min=1e-300))
    direction = vectors[:, -1]
    if float((change @ direction).sum()) < 0:
        direction = -direction
    return Finding(
        detector=NAME,
        access_level="T3",
        message=f"a copy of the reference (samples differ by {apart:.2g}); {share:.0%} of what changed in the first "
        "layer lies along one direction",
        score=share,
        samples=subject.scaled_samples(torch.stack([direction, -direction]).float() * subject.prior.length).cpu(),
        directions=direction.float().view(1, -1),
        details={"apart": apart, "units": [len(ours.rows), len(theirs.rows)]},
    )


def _units(subject: Generator) -> Units:
    return latent_units(subject, path_gains(subject, n=100).activations)


def _run(evidence: Evidence) -> list[Finding]:
    other = evidence.reference
    return [] if other is None else [compare(evidence.subject, other, seed=evidence.seed)]


DETECTOR = Detector(
    NAME,
    "T3",
    _run,
    needs=("reference",),
    asks="What has changed since the clean model that you trust?",
    caption="Samples along the direction in which most has changed, both ways.",
    missing="No clean model was given to compare with.",
)
