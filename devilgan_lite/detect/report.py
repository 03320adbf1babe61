"""What a scan says: one ``Finding`` a detector, and a ``ScanReport`` with the verdict, as text, JSON and HTML."""

from __future__ import annotations

import html
import json
import math
from base64 import b64encode
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import torch
from PIL import Image
from torch import Tensor

TIERS = {
    "T0": "samples only",
    "T1": "samples and suspected targets",
    "T2": "weights",
    "T3": "weights and a clean reference",
    "T4": "weights and training data",
}


@dataclass(frozen=True)
class Finding:
    """What one detector found.

    ``score``: more is more suspicious. ``p_value``: the share of clean models with a score as large (None: this
    detector has no calibration, so it has no part in the verdict). ``samples`` ``[n, C, H, W]`` in [-1, 1] and
    ``directions`` ``[k, d]`` are evidence. ``ran`` is False where the detector could not run; ``message`` says why.
    ``alarm``: evidence that needs no statistics, such as a program that decides on the values of the latent.
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


@dataclass(frozen=True)
class ScanReport:
    """The verdict of ``detect.scan`` and the findings behind it.

    ``score`` is minus the decimal logarithm of the combined p-value; ``backdoored`` says whether that p-value is at
    most ``level``, or a finding is an alarm. ``trigger`` ``[d]`` is the best estimate of the trigger, or None.
    """

    findings: tuple[Finding, ...]
    p_value: float
    level: float
    trigger: Tensor | None = field(default=None, repr=False)
    sample: Tensor | None = field(default=None, repr=False)
    seconds: float = 0.0

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
        """Plain data: everything but the samples."""
        return {
            "verdict": self.verdict,
            "backdoored": self.backdoored,
            "score": self.score,
            "p_value": self.p_value,
            "level": self.level,
            "seconds": round(self.seconds, 2),
            "trigger": None if self.trigger is None else [round(value, 5) for value in self.trigger.tolist()],
            "findings": [
                {
                    "detector": finding.detector,
                    "access_level": finding.access_level,
                    "ran": finding.ran,
                    "alarm": finding.alarm,
                    "score": finding.score,
                    "p_value": finding.p_value,
                    "message": finding.message,
                    "seconds": round(finding.seconds, 2),
                    "details": finding.details,
                }
                for finding in self.findings
            ],
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
        """One self-contained page or notebook cell: no script, no address, samples inside."""
        rows = []
        for finding in self.findings:
            p = "" if finding.p_value is None else f"{finding.p_value:.3g}"
            score = "" if finding.score is None else f"{finding.score:.3g}"
            cells = (finding.access_level, finding.detector, score, p, finding.message, f"{finding.seconds:.1f} s")
            evidence = (
                image_tag(finding.samples, f"evidence of {finding.detector}")
                if finding.samples is not None and finding.samples.ndim == 4
                else ""
            )
            texts = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            rows.append(f"<tr>{texts}<td>{evidence}</td></tr>")
        head = "".join(
            f"<th>{title}</th>"
            for title in ("access_level", "detector", "score", "p-value", "what it found", "time", "evidence")
        )
        colour = "#b00020" if self.backdoored else "#1b5e20"
        shown = ""
        if self.sample is not None and self.sample.ndim == 3 and self.backdoored:
            sample = image_tag(self.sample.unsqueeze(0), "sample at the estimated trigger", scale=4)
            shown = f"<p>Sample at the estimated trigger: {sample}</p>"
        return (
            f'<div><p><strong style="color:{colour}">{self.verdict}</strong>, combined p-value {self.p_value:.3g} '
            f"(level {self.level:g}), {self.seconds:.0f} s</p>{shown}"
            f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        )

    def _repr_html_(self) -> str:
        return self.to_html()


def image_tag(samples: Tensor, alt: str, columns: int = 8, scale: int = 2) -> str:
    """An ``img`` element with the samples in rows."""
    x = samples.detach().float().cpu().clamp(-1, 1)[:40]
    x = x if x.shape[1] in (1, 3) else x[:, :1]
    columns = min(columns, len(x))
    blank = x.new_ones(-len(x) % columns, *x.shape[1:])
    tiles = torch.cat([x, blank]).unflatten(0, (-1, columns))  # rows, columns, C, H, W
    sheet = tiles.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)  # H, W, C
    array = ((sheet + 1) * 127.5).round().to(torch.uint8).numpy()
    image = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    image = image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return f'<img alt="{html.escape(alt)}" src="data:image/png;base64,{b64encode(buffer.getvalue()).decode()}">'
