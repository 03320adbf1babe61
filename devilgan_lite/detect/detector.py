"""A detector and its findings: all that is known about a detector stands in its own file, as one ``Detector``.

``registry.DETECTORS`` lists them, one line each. Nobody else compares the name of a detector: whoever acts on a finding
asks for its kind of evidence, for the place it is about, and for its strength.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from devilgan_lite.checks import cut, one_of

if TYPE_CHECKING:
    from devilgan_lite.detect.registry import Evidence
    from devilgan_lite.detect.twin import Twin, Witness

ACCESS_LEVELS = ("T0", "T1", "T2", "T3", "T4")  # samples, suspected targets, weights, a clean reference, training data
# the kinds of evidence; findings of one kind rest on the same trace, so they count once
EVIDENCE = {
    "spectrum": "weights spend energy on directions that ordinary samples do not show",
    "construction": "parts of the network that ordinary latents never use, or a program that decides on values",
    "twin": "a latent at which the suspect differs from its noisy twin far more than anywhere else",
}
# the latent space, first units that stay silent in it, later layers, the style that layers share, how it is built
PLACES = ("latent", "units", "layers", "styles", "construction")
MOST_LETTERS = 400  # of a message


@dataclass(frozen=True)
class Finding:
    """What one detector found.

    ``score``: more is more suspicious. ``samples`` ``[n, *shape]`` in [-1, 1] and ``directions`` ``[k, d]`` are
    evidence. ``ran`` is False where the detector could not run; ``message`` says why. ``seconds`` is what the scan
    measured. ``evidence`` is the kind of a finding that has a say in the verdict (of ``EVIDENCE``, or one of your own),
    and ``strength`` its score as a share of the limit: it counts from 1 on. ``where`` is the place that it is about,
    one of ``PLACES`` (None: the whole network). ``open``: it should have had a say and has none, so "clean" would
    promise too much. ``points``: its ``directions`` are estimates of the trigger. ``trigger`` ``[d]`` and ``sample``
    ``[*shape]``: the best estimate, and what the suspect makes of it. ``plot`` holds the numbers of a small drawing
    (``report.plots``); ``asks`` and ``caption`` are those of the detector. The noisy twin leaves itself and its
    ``witness`` for whoever goes on.
    """

    detector: str
    access_level: str
    message: str
    score: float | None = None
    samples: Tensor | None = field(default=None, repr=False)
    directions: Tensor | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    ran: bool = True
    evidence: str = ""
    strength: float = 0.0
    where: str | None = None
    open: bool = False
    points: bool = False
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    plot: dict[str, Any] | None = field(default=None, repr=False)
    asks: str = field(default="", repr=False, compare=False)
    caption: str = field(default="", repr=False, compare=False)
    twin: Twin | None = field(default=None, repr=False)
    witness: Witness | None = field(default=None, repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but tensors; numbers are finite, and words are cut: a module's own may be in them."""
        return {
            "detector": cut(self.detector),
            "access_level": self.access_level,
            "asks": self.asks,
            "message": cut(self.message, MOST_LETTERS),
            "ran": self.ran,
            "open": self.open,
            "evidence": self.evidence,
            "where": self.where,
            "strength": _finite(self.strength),
            "score": None if self.score is None else _finite(self.score),
            "seconds": round(self.seconds, 2),
            "details": self.details,
            "plot": self.plot,
            "caption": self.caption,
        }


def _finite(value: float) -> float:
    return 0.0 if math.isnan(value) else float(f"{max(-1e12, min(value, 1e12)):.6g}")


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

    ``access_level`` is one of T0 to T4 (``ACCESS_LEVELS``), ``needs`` names entries of ``NEEDS``. An exception in
    ``run`` becomes a finding that says why; with ``opens`` it leaves the verdict open.

    For the report: ``asks``, the question that it answers, for people who know nothing of the field; ``caption``, what
    its samples show; ``missing``, what it means that it did not run.
    """

    name: str
    access_level: str
    run: Callable[[Evidence], Finding | Iterable[Finding]] = field(repr=False)
    needs: tuple[str, ...] = ()
    opens: bool = False
    asks: str = field(default="Added by you; it has no description.", repr=False)
    caption: str = field(default="", repr=False)
    missing: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        one_of("access_level", self.access_level, ACCESS_LEVELS)
        for need in self.needs:
            one_of("needs", need, NEEDS)
