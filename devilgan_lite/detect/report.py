"""The result of a scan: a ``ScanReport`` of findings, with the verdict as text, JSON and HTML.

Four verdicts. ``backdoored``: two kinds of evidence agree, and there is a witness, a latent of ordinary length whose
sample you can look at. (The kinds are not independent: the hunt for a witness starts where the weights point.)
``suspicious``: less than that. ``clean``: no evidence, of what was tried. ``inconclusive``: none either, but something
that should have had a say could not run, or could not be reproduced.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from devilgan_lite.detect.detector import Detector, Finding
from devilgan_lite.detect.subject import Subject
from devilgan_lite.markup import fragment

if TYPE_CHECKING:
    from devilgan_lite.detect.twin import Twin, Witness
    from devilgan_lite.detect.weights import WeightAnalysis

VERDICTS = ("backdoored", "suspicious", "clean", "inconclusive")
UNSEEN = (
    "Not seen by these detectors: backdoors trained in from scratch on many families (TrAIL), quiet and spectrally "
    "balanced clones, and whatever an attacker who knows them has tuned against them."
)


@dataclass(frozen=True)
class ScanReport:
    """The verdict of ``detect.scan`` and the findings behind it.

    ``p_value`` ranks the suspect among our own clean models (1 where it has nothing in common with them). ``trigger``
    ``[d]`` is the best estimate of the trigger, or None, and ``sample`` ``[*shape]`` what the suspect makes of it.
    ``witness`` is the latent at which suspect and ``twin`` differ most. ``subject`` is the checked suspect, and
    ``analysis`` what the weight detectors measured (None: they did not run, or could not), for whoever goes on.
    ``detectors`` are those of the scan.
    """

    findings: tuple[Finding, ...]
    p_value: float
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    seconds: float = 0.0
    subject: Subject | None = field(default=None, repr=False, compare=False)
    analysis: WeightAnalysis | None = field(default=None, repr=False, compare=False)
    twin: Twin | None = field(default=None, repr=False, compare=False)
    witness: Witness | None = field(default=None, repr=False, compare=False)
    detectors: tuple[Detector, ...] = field(default=(), repr=False, compare=False)

    @property
    def strengths(self) -> dict[str, float]:
        """The strength of each kind of evidence that was looked for: that of its strongest finding."""
        found: dict[str, float] = {}
        for finding in self.findings:
            if finding.evidence:
                found[finding.evidence] = max(found.get(finding.evidence, 0.0), finding.strength)
        return found

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of evidence that were found."""
        return tuple(kind for kind, strength in self.strengths.items() if strength >= 1)

    @property
    def suspected(self) -> tuple[Tensor, ...]:
        """The latents ``[d]`` to which evidence points: the estimate and the witness, as far as there are any."""
        if not self.kinds:
            return ()
        found = (self.trigger, self.witness.latent if self.witness is not None and self.witness.stands_out else None)
        return tuple(one for one in found if one is not None)

    def evidence_at(self, *places: str) -> bool:
        """Whether a finding about one of these places (``PLACES``) is strong enough to count."""
        return any(finding.strength >= 1 for finding in self.findings if finding.where in places)

    @property
    def verdict(self) -> str:
        """One of ``VERDICTS``."""
        if len(self.kinds) > 1 and self.witness is not None and self.witness.stands_out:
            return "backdoored"
        if self.kinds:
            return "suspicious"
        return "inconclusive" if not self.strengths or any(finding.open for finding in self.findings) else "clean"

    @property
    def backdoored(self) -> bool:
        """Whether the verdict is ``"backdoored"``."""
        return self.verdict == "backdoored"

    @property
    def score(self) -> float:
        """More is more suspicious: the sum of the strengths, each counted up to 3; it ranks, and decides nothing."""
        return sum(min(strength, 3.0) for strength in self.strengths.values())

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the samples, the subject and the analysis."""
        return {
            "verdict": self.verdict,
            "backdoored": self.backdoored,
            "score": self.score,
            "evidence": {kind: round(strength, 4) for kind, strength in self.strengths.items()},
            "p_value": self.p_value,
            "witness": None if self.witness is None else self.witness.to_dict(),
            "seconds": round(self.seconds, 2),
            "trigger": None if self.trigger is None else [round(value, 5) for value in self.trigger.tolist()],
            "findings": [finding.to_dict() for finding in self.findings],
            "unseen": UNSEEN,
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        lines = [f"{self.verdict}  ({self.reason}; {self.seconds:.0f} s)"]
        for finding in self.findings:
            said = f"{finding.strength:.2f}" if finding.evidence else ""
            lines.append(f"  {finding.access_level}  {finding.detector:16s}{said:6s}{finding.message}")
        return "\n".join([*lines, UNSEEN])

    @property
    def reason(self) -> str:
        """Why the verdict is what it is, in some words."""
        if self.kinds:
            return f"evidence: {', '.join(self.kinds)}"
        missing = [finding.detector for finding in self.findings if finding.open]
        if not self.strengths:
            return "no detector with a say could run"
        return f"nothing found, and no answer from: {', '.join(missing)}" if missing else "nothing found"

    def to_html(self) -> str:
        """A notebook cell, or a part of a page: no script, no address, images inside."""
        from devilgan_lite.detect.plain import plain  # imports the detectors, which import this file

        return fragment(plain(self))

    def _repr_html_(self) -> str:
        return self.to_html()
