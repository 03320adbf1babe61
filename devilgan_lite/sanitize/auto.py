"""Scan, choose, cure, scan again: no trigger, no target, no data."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect import ScanReport, Subject, anatomy, scan, subject_of
from devilgan_lite.detect.search import AWAKE, STRIKING
from devilgan_lite.detect.weights import Anatomy
from devilgan_lite.features import features_and_classes
from devilgan_lite.metrics import features_of, frechet_distance
from devilgan_lite.sanitize.base import check_real
from devilgan_lite.sanitize.unlearn import Clip, clipped
from devilgan_lite.steps import Loop, Outcome, best_device


@dataclass(frozen=True)
class Cure(Outcome):
    """An ``Outcome`` with the scans before and after, and what the cure cost.

    ``changed`` is False where nothing was found, so that nothing was done. ``scorecard``: ``ordinary_change`` and
    ``trigger_change``, mean squared differences per pixel between suspect and cured copy on ordinary latents and at the
    estimated trigger (None without an estimate); with real garments ``frechet_before`` and ``frechet_after``.
    """

    before: ScanReport | None = field(default=None, repr=False)
    after: ScanReport | None = field(default=None, repr=False)
    scorecard: dict[str, float | None] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.after is not None

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return "nothing found, nothing changed"
        score = "  ".join(f"{name} {value:.3g}" for name, value in self.scorecard.items() if value is not None)
        return (
            f"before: {self.before.verdict} (p-value {self.before.p_value:.3g}), after: {self.after.verdict} (p-value "
            f"{self.after.p_value:.3g}), {self.seconds:.0f} s\nremoved: {'; '.join(self.settings['cuts']) or 'nothing'}"
            f"\n{score}"
        )


def auto(
    module: nn.Module,
    latent_dim: int | None = None,
    real: Samples | None = None,
    *,
    level: float = 0.05,
    iterations: int = 1_000,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
) -> Cure:
    """Scan ``module`` (any ``nn.Module`` from latents to pictures), cure a copy of what is found, and scan again.

    A module in which the scan finds nothing comes back as an unchanged copy. ``real`` garments only serve to measure.
    A program that decides on the values of its latents cannot be cured through its weights: ``after`` still says so.
    A suspect without hidden activations that switch is a ``ValueError``: there is nothing to cut.
    """
    start = time.perf_counter()
    in_range("level", level, 0.0, 0.5, open_low=True)
    whole_number("seed", seed, 0)
    treatment = Clip(iterations=iterations, seed=seed, device=device)
    best_device(device)
    subject = subject_of(module, latent_dim)
    check_real(subject, real)

    def examine(one: nn.Module) -> ScanReport:
        return scan(one, subject.latent_dim, law=subject.law, level=level, samples=200, seed=seed)

    before = examine(subject.module)
    if not before.backdoored:
        healthy = copy.deepcopy(module).eval()
        return Cure(healthy, {}, time.perf_counter() - start, seed, {"cuts": []}, before=before)
    parts = anatomy(subject, seed=seed)
    directions = suspected_directions(parts, before)
    outcome = Loop(clipped(treatment, subject, directions, parts)).finish(progress=progress)
    after = examine(outcome.generator)
    return Cure(
        outcome.generator,
        outcome.history,
        time.perf_counter() - start,
        seed,
        {**outcome.settings, "sanitizer": "auto"},
        outcome.interrupted,
        before=before,
        after=after,
        scorecard=_scorecard(subject, outcome.generator, before.trigger, real),
    )


def suspected_directions(parts: Anatomy, report: ScanReport) -> Tensor | None:
    """Latent directions ``[k, d]`` to be projected out; None if the suspicion is about later layers only.

    One refined estimate of one trigger, or as many spectral directions as stand out.
    """
    if parts.by_weight.jump > STRIKING:
        count = parts.by_weight.outstanding
        return report_trigger(report) if count == 1 else parts.by_weight.directions[:, :count].T.float()
    silent = next((finding for finding in report.findings if finding.detector == "silent units"), None)
    return report_trigger(report) if silent is not None and (silent.score or 0.0) > AWAKE else None


def report_trigger(report: ScanReport) -> Tensor | None:
    """The report's estimate as ``[1, d]``."""
    return None if report.trigger is None else report.trigger.view(1, -1)


@torch.no_grad()
def _scorecard(
    subject: Subject, cured: nn.Module, trigger: Tensor | None, real: Samples | None
) -> dict[str, float | None]:
    other = subject_of(cured, subject.latent_dim, law=subject.law)
    z = subject.latents(1_000, 12_345)

    def change(z: Tensor) -> float:
        return float((subject.pictures(z) - other.pictures(z)).square().mean())

    found: dict[str, Any] = {
        "ordinary_change": change(z),
        "trigger_change": None if trigger is None else change(trigger.view(1, -1)),
    }
    if real is not None and subject.shape == (1, 28, 28):
        z = subject.latents(10_000, 1_000_003)
        for name, one in (("frechet_before", subject), ("frechet_after", other)):
            found[name] = frechet_distance(features_and_classes(one.pictures(z).cpu())[0], features_of(real))
    return found
