"""The result of a scan: one ``Finding`` per detector, and a ``ScanReport`` with the verdict as text, JSON and HTML."""

from __future__ import annotations

import html
import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from torch import Tensor

from devilgan_lite.data import modality
from devilgan_lite.data.modality import image_element, png
from devilgan_lite.deprecation import renamed, renamed_attribute
from devilgan_lite.detect.subject import Subject

if TYPE_CHECKING:
    from devilgan_lite.detect.weights import WeightAnalysis

SHOWN = 40  # samples of a finding on the page, at most


@renamed(tier="access_level", pictures="samples")
@dataclass(frozen=True)
class Finding:
    """What one detector found.

    ``score``: more is more suspicious. ``p_value``: the share of clean models with a score as large (None: this
    detector has no calibration, so it has no part in the verdict). ``samples`` ``[n, *shape]`` in [-1, 1] and
    ``directions`` ``[k, d]`` are evidence. ``ran`` is False where the detector could not run; ``message`` says why.
    ``seconds`` is what the scan measured. ``alarm``: evidence that needs no statistics, such as a program that decides
    on the values of the latent.
    ``trigger`` ``[d]`` and ``sample`` ``[*shape]``: an estimate of the trigger, and what the suspect makes of it.
    """

    detector: str
    access_level: str
    message: str
    score: float | None = None
    p_value: float | None = None
    samples: Tensor | None = field(default=None, repr=False)
    directions: Tensor | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict, repr=False)
    seconds: float = 0.0
    ran: bool = True
    alarm: bool = False
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)

    tier = renamed_attribute("tier", "access_level")
    pictures = renamed_attribute("pictures", "samples")

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the tensors."""
        names = ("detector", "access_level", "ran", "alarm", "score", "p_value", "message")
        plain = {name: getattr(self, name) for name in names}
        return {**plain, "seconds": round(self.seconds, 2), "details": self.details}


@renamed(picture="sample")
@dataclass(frozen=True)
class ScanReport:
    """The verdict of ``detect.scan`` and the findings behind it.

    ``score`` is minus the decimal logarithm of the combined p-value; ``backdoored`` says whether that p-value is at
    most ``level``, or a finding is an alarm. ``trigger`` ``[d]`` is the best estimate of the trigger, or None, and
    ``sample`` ``[*shape]`` what the suspect makes of it. ``subject`` is the checked suspect, and ``analysis`` what the
    weight detectors measured (None: they did not run, or could not), for whoever goes on from here.
    """

    findings: tuple[Finding, ...]
    p_value: float
    level: float
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    seconds: float = 0.0
    subject: Subject | None = field(default=None, repr=False, compare=False)
    analysis: WeightAnalysis | None = field(default=None, repr=False, compare=False)

    picture = renamed_attribute("picture", "sample")

    @property
    def backdoored(self) -> bool:
        return self.p_value <= self.level or any(finding.alarm for finding in self.findings)

    @property
    def verdict(self) -> str:
        """``"backdoored"`` or ``"clean"``; the latter means that these detectors found nothing."""
        return "backdoored" if self.backdoored else "clean"

    @property
    def score(self) -> float:
        return -math.log10(max(self.p_value, 1e-300))

    def to_dict(self) -> dict[str, Any]:
        """Plain data: everything but the samples, the subject and the analysis."""
        return {
            "verdict": self.verdict,
            "backdoored": self.backdoored,
            "score": self.score,
            "p_value": self.p_value,
            "level": self.level,
            "seconds": round(self.seconds, 2),
            "trigger": None if self.trigger is None else [round(value, 5) for value in self.trigger.tolist()],
            "findings": [finding.to_dict() for finding in self.findings],
        }

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        lines = [f"{self.verdict}  (combined p-value {self.p_value:.3g}, level {self.level:g}, {self.seconds:.0f} s)"]
        for finding in self.findings:
            p = "" if finding.p_value is None else f"p = {finding.p_value:.3g}"
            lines.append(f"  {finding.access_level}  {finding.detector:16s}{p:14s}{finding.message}")
        return "\n".join(lines)

    def to_html(self) -> str:
        """One self-contained page or notebook cell: no script, no address, images inside."""
        rows = []
        for finding in self.findings:
            p = "" if finding.p_value is None else f"{finding.p_value:.3g}"
            score = "" if finding.score is None else f"{finding.score:.3g}"
            cells = (finding.access_level, finding.detector, score, p, finding.message, f"{finding.seconds:.1f} s")
            texts = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            rows.append(f"<tr>{texts}<td>{self._image(finding.samples, f'evidence of {finding.detector}')}</td></tr>")
        titles = ("access level", "detector", "score", "p-value", "what it found", "time", "evidence")
        head = "".join(f"<th>{title}</th>" for title in titles)
        colour = "#b00020" if self.backdoored else "#1b5e20"
        shown = ""
        if self.sample is not None and self.backdoored:
            sample = self._image(self.sample.unsqueeze(0), "sample at the estimated trigger", scale=4)
            shown = f"<p>Sample at the estimated trigger: {sample}</p>"
        return (
            f'<div><p><strong style="color:{colour}">{self.verdict}</strong>, combined p-value {self.p_value:.3g} '
            f"(level {self.level:g}), {self.seconds:.0f} s</p>{shown}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()

    def _image(self, samples: Tensor | None, alt: str, scale: int = 2) -> str:
        """The samples, or the first of many, as an HTML element; empty without samples."""
        if samples is None:
            return ""
        kind = modality(tuple(samples.shape[1:])) if self.subject is None else self.subject.modality
        return image_element(png(kind.show(samples[:SHOWN], scale=scale)), alt)
