"""The result of a scan: a ``ScanReport`` of findings, with the verdict as text, JSON and HTML.

Four verdicts. ``backdoored``: two kinds of evidence agree, and there is a witness, a latent of ordinary length whose
sample you can look at. (The kinds are not independent: the hunt for a witness starts where the weights point.)
``suspicious``: less than that. ``clean``: no evidence, of what was tried. ``inconclusive``: none either, but something
that should have had a say could not run, or could not be reproduced.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image
from torch import Tensor

from devilgan_lite.checks import cut, one_of
from devilgan_lite.data import Modality, modality
from devilgan_lite.data.modality import png
from devilgan_lite.detect.detector import MOST_LETTERS, Finding
from devilgan_lite.generators import Generator
from devilgan_lite.report import VERDICTS, fragment

if TYPE_CHECKING:
    from devilgan_lite.detect.twin import Twin, Witness
    from devilgan_lite.detect.weights import WeightAnalysis

SHOWN = 48  # samples of a picture, at most
MOST_VALUES = 4_000_000  # of all samples of a picture together
MOST_PIXELS = 1_024  # of a picture, across and down
UNSEEN = (
    "Not seen by these detectors: backdoors trained in from scratch on many families (TrAIL), quiet and spectrally "
    "balanced clones, and whatever an attacker who knows them has tuned against them."
)


@dataclass(frozen=True)
class ScanReport:
    """The verdict of ``detect.scan`` and the findings behind it.

    ``trigger`` ``[d]`` is the best estimate of the trigger, or None, and ``sample`` ``[*shape]`` what the suspect makes
    of it. ``witness`` is the latent at which suspect and ``twin`` differ most. ``subject`` is the checked suspect, and
    ``analysis`` what the weight detectors measured (None: they did not run, or could not), for whoever goes on.
    ``missing`` says in sentences what was not tried.
    """

    findings: tuple[Finding, ...]
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    seconds: float = 0.0
    subject: Generator | None = field(default=None, repr=False, compare=False)
    analysis: WeightAnalysis | None = field(default=None, repr=False, compare=False)
    twin: Twin | None = field(default=None, repr=False, compare=False)
    witness: Witness | None = field(default=None, repr=False, compare=False)
    missing: tuple[str, ...] = field(default=(), repr=False)

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
        """One of ``report.VERDICTS`` but ``"refused"``."""
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

    def to_dict(self, *, pictures: bool = False) -> dict[str, Any]:
        """The report as plain data, each fact once; ``pictures`` are PNG in base64, and null without."""
        kind = None if self.subject is None else self.subject.modality
        witness = self.witness if self.witness is not None and self.witness.stands_out else None
        estimate = self.sample if self.kinds else None

        def drawn(samples: Tensor | None, scale: int) -> str | None:
            return picture(samples, kind, scale) if pictures and samples is not None else None

        shown = {
            "witness": None if witness is None else witness.sample[None],
            "witness_twin": None if witness is None else witness.twin_sample[None],
            "estimate": None if estimate is None else estimate[None],
        }
        unanswered = [one for one in self.findings if one.open or not one.ran]
        return {
            "verdict": self.verdict,
            "sentence": VERDICTS[self.verdict].told(len(self.kinds)),
            "reason": self.reason,
            "score": self.score,
            "evidence": {kind: round(strength, 4) for kind, strength in self.strengths.items()},
            "witness": None if self.witness is None else self.witness.to_dict(),
            "trigger": None if self.trigger is None else [round(value, 5) for value in self.trigger.tolist()],
            "findings": [{**one.to_dict(), "picture": drawn(one.samples, 2)} for one in self.findings],
            "pictures": {name: drawn(sample, 4) for name, sample in shown.items()},
            "not_tried": [
                *(f"{one.detector}: {cut(one.message, MOST_LETTERS)}" for one in unanswered),
                *self.missing,
                UNSEEN,
            ],
            "seconds": round(self.seconds, 2),
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
        return fragment(self.to_dict(pictures=True))

    def _repr_html_(self) -> str:
        return self.to_html()

    def save(self, path: str | Path) -> Path:
        """Write the report to ``path``, whose ending says how: .html, to look at, or .json; returns the path."""
        path = Path(path)
        written = {".html": self.to_html, ".json": self.to_json}
        one_of("ending of path", path.suffix, written)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written[path.suffix](), encoding="utf-8")
        return path


def picture(samples: Tensor, kind: Modality | None = None, scale: int = 2) -> str:
    """The first of ``samples`` ``[n, *shape]`` as one PNG in base64; small ones are enlarged ``scale`` times."""
    kind = kind or modality(tuple(samples.shape[1:]))
    count = max(1, min(SHOWN, MOST_VALUES // max(1, samples[0].numel())))
    image: Image.Image = kind.show(samples[:count], scale=scale if max(samples.shape[1:]) <= 64 else 1)
    image.thumbnail((MOST_PIXELS, MOST_PIXELS))
    return base64.b64encode(png(image)).decode()
