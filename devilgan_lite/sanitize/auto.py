"""Scan, choose, cure, scan again: no trigger, no target, no data. Or contain what no scan has found."""

import time
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.checks import whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect import ScanReport, analyse_weights, scan
from devilgan_lite.detect.hunt import greatest_difference, lookalike
from devilgan_lite.detect.search import STRIKING
from devilgan_lite.detect.weights import WeightAnalysis
from devilgan_lite.features import features_and_classes, readable
from devilgan_lite.generators import Generator, adopt, alike
from devilgan_lite.metrics import features_of, frechet_distance
from devilgan_lite.sanitize.base import TOLERATED, check_real, distil
from devilgan_lite.sanitize.limit import contained
from devilgan_lite.sanitize.project import project_styles
from devilgan_lite.sanitize.unlearn import Clip, clipped, teacher_of
from devilgan_lite.steps import Loop, Outcome, best_device

STANDS_OUT = 3.0  # height above which a later layer has been tampered with: clean networks stay below 2.8
DEEP = 1.5  # threshold of the cut when only a later layer is suspicious
SPARED = 1e6  # threshold when the trigger was found after all: no layer is cut
BRIEF = 400  # steps of the repair of a copy that serves to find a trigger which the latent space does not show
EXACT = 3.0  # jump of the latent spectrum from which an estimate is the trigger to a degree or two
TRIFLE = 0.5  # price up to which a lookalike is projected out: it is one more direction beside the estimate
SCANNED = 200  # outputs that a scan draws here: sampling has no part in the verdict
MANY = 4  # directions, at most, whose lookalikes are sought
ANOTHER = 0.25  # of what two ordinary samples differ by, from which a cured copy draws another sample
TREATMENTS = {"none": "nothing", "cure": "removed", "containment": "limited", "both": "removed and limited"}
FAIR, CHEAP = 3.0, 1.5  # prices up to which an estimate is projected out: with evidence for it, and as a guess


@dataclass(frozen=True)
class SanitizeOutcome(Outcome):
    """An ``Outcome`` with the scans before and after, and what the cure cost.

    ``treatment`` is ``"cure"`` (what was found is taken out of the weights), ``"containment"`` (limits on latents and
    layers, with the weights as they were: see ``sanitize.limit``), ``"both"``, or ``"none"``. ``scorecard``:
    ``ordinary_change`` and ``trigger_change``, mean squared differences an element between suspect and cured copy on
    ordinary latents and at the estimated trigger (None without an estimate), and ``ordinary_difference``, that of two
    ordinary samples of the suspect; with real samples ``frechet_before`` and ``frechet_after``.
    """

    before: ScanReport | None = field(default=None, repr=False)
    after: ScanReport | None = field(default=None, repr=False)
    scorecard: dict[str, float | None] = field(default_factory=dict)
    treatment: str = "none"

    @property
    def changed(self) -> bool:
        return self.after is not None

    def to_dict(self) -> dict[str, Any]:
        """What was cut, the verdicts before and after, and the scorecard, as plain data."""
        facts = {"changed": self.changed, "seconds": round(self.seconds, 2), "cuts": self.settings["cuts"]}
        facts |= {"before": self.before.verdict if self.before else None, **self.scorecard}
        return facts if self.after is None else facts | {"after": self.after.verdict}

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return "nothing found, nothing changed"
        change, usual = (self.scorecard[name] or 0.0 for name in ("ordinary_change", "ordinary_difference"))
        moved = self.scorecard["trigger_change"]
        lines = [
            f"before: {self.before.verdict} ({self.before.reason}), after: {self.after.verdict} ({self.after.reason}), "
            f"{self.seconds:.0f} s",
            f"{TREATMENTS[self.treatment]}: {'; '.join(self.settings['cuts']) or 'nothing'}",
            f"Ordinary samples changed by {change:.2g} an element (mean square; two of them differ by {usual:.2g}).",
        ]
        if moved is None:
            lines.append("There is no estimate of the trigger at which suspect and cured copy could be compared.")
        else:
            other = moved >= ANOTHER * usual
            sample = "another sample" if other else "much the same"
            lines.append(
                f"At the estimated trigger the copy draws {sample}: it differs from the suspect's by {moved:.2g}."
            )
            if other and self.after.kinds == ("spectrum",):
                lines.append("What still counts as evidence is left over in the weights; look at what the copy draws.")
        if "frechet_after" in self.scorecard:
            told = (f"{self.scorecard[f'frechet_{when}'] or 0.0:.3g} {when}" for when in ("before", "after"))
            lines.append(f"Frechet distance to the real samples: {', '.join(told)}.")
        return "\n".join(lines)


def auto(
    module: nn.Module,
    latent_dim: int | None = None,
    real: Samples | None = None,
    *,
    always: bool = False,
    iterations: int = 1_500,
    seed: int = 0,
    device: str = "auto",
    progress: bool = True,
    analysis: WeightAnalysis | None = None,
    report: ScanReport | None = None,
) -> SanitizeOutcome:
    """Scan ``module`` (any ``nn.Module`` from latents to samples), cure a copy of what is found, and scan again.

    ``latent_dim`` is the length of a latent, where the module does not tell it. Cut layers are repaired in
    ``iterations`` steps (at least 1), and in as many again if ordinary samples still miss too much.
    What is merely suspicious is treated. Without evidence in the scan an unchanged copy comes back. With ``always`` the
    copy is contained as well, whatever the scan says: it may have missed something, and limits cost ordinary samples
    next to nothing; a cure that you interrupt is not contained. ``real`` samples only serve to measure. A program that
    decides on values cannot be cured through its weights: ``after`` says so.
    ``analysis`` is what ``detect.analyse_weights`` gives, of the same ``seed``, and ``report`` what ``detect.scan``
    gives, if you have one of them already; ``after`` is a scan of the same kind. A scan made here does without a twin,
    so it is quick and calls nothing more than suspicious. ``device`` is where the repair runs. A suspect without hidden
    activations that switch is a ``ValueError``, as there is nothing to cut; so are one whose samples are all alike,
    ``real`` samples of another shape than its own, and a setting out of its range.
    """
    start = time.perf_counter()
    whole_number("seed", seed, 0)
    treatment = Clip(iterations=iterations, seed=seed, device=device)
    best_device(device)
    subject = adopt(module, latent_dim, device="cpu")
    check_real(subject, real)

    before = report or scan(subject, samples=SCANNED, seed=seed, analysis=analysis, twin=False)
    analysis = analysis or before.analysis
    if analysis is None:
        failed = [one.message.removeprefix("could not run: ") for one in before.findings if not one.ran]
        raise ValueError(failed[0] if failed else "report is of samples alone; scan with access to the weights.")
    if not before.kinds and not always:
        return SanitizeOutcome(subject.clone(), {}, time.perf_counter() - start, seed, {"cuts": []}, before=before)
    if not before.kinds:
        return _after(subject, contained(subject, analysis, seed), before, real, start, "containment")
    directions, height = prescription(analysis, before)
    suspect, described = subject, []
    if analysis.styles is not None and before.evidence_at("styles"):
        module_without, cut = project_styles(subject.network, analysis.styles)
        subject, described = alike(subject, module_without), [str(cut)]
    outcome = _briefly_repaired(subject, analysis, directions, treatment) if height == DEEP else None
    if outcome is None or not outcome.interrupted:
        if outcome is not None:
            directions, height = with_disagreement(subject, analysis, directions, outcome.generator, seed)
        if directions is not None and analysis.by_weight.jump < EXACT:
            directions = with_lookalikes(subject, analysis, directions, seed)
        outcome = Loop(clipped(replace(treatment, height=height), subject, directions, analysis)).finish(
            progress=progress
        )
    if not left_to_teach(outcome) <= TOLERATED and not outcome.interrupted:
        outcome = _repaired_more(outcome, subject, directions, treatment, progress)
    described += outcome.settings["cuts"]
    if outcome.settings.get("undone"):
        described.append("no repair, as it did harm")
    outcome = replace(outcome, settings={**outcome.settings, "sanitizer": "auto", "cuts": described})
    both = always and not outcome.interrupted
    if both:
        cured = alike(subject, outcome.generator)
        outcome = contained(cured, analyse_weights(cured, seed=seed), seed, outcome)
    return _after(suspect, outcome, before, real, start, "both" if both else "cure")


def _after(
    suspect: Generator,
    outcome: Outcome,
    before: ScanReport,
    real: Samples | None,
    start: float,
    treatment: str,
) -> SanitizeOutcome:
    """The outcome with a scan of what came out, and what the treatment cost."""
    seed, cured = outcome.seed, alike(suspect, outcome.generator)
    after = scan(cured, samples=SCANNED, seed=seed, twin=before.twin is not None)
    return SanitizeOutcome(
        cured.clone(),
        outcome.history,
        time.perf_counter() - start,
        seed,
        outcome.settings,
        outcome.interrupted,
        before=before,
        after=after,
        scorecard=_scorecard(suspect, cured, before.trigger, real),
        treatment=treatment,
    )


def left_to_teach(outcome: Outcome) -> float:
    """The mean distillation loss of the last 50 steps; 0 where nothing was taught."""
    losses = outcome.history.get("distillation_loss", [])[-50:]
    return sum(losses) / max(len(losses), 1)


def _repaired_more(
    outcome: Outcome, subject: Generator, directions: Tensor | None, treatment: Clip, progress: bool
) -> Outcome:
    """The outcome after as many steps again, in which the cut directions may come back as far as they are needed.

    As it was where these do harm.
    """
    again, teacher = replace(treatment, seed=treatment.seed + 1), teacher_of(subject, directions)
    more = Loop(distil(outcome.generator, teacher, again, directions=directions, wide=treatment.wide)).finish(
        progress=progress
    )
    if more.settings.get("undone"):
        return replace(outcome, generator=more.generator)
    history = {name: losses + more.history.get(name, []) for name, losses in outcome.history.items()}
    settings = {name: value for name, value in outcome.settings.items() if name != "undone"}
    return replace(outcome, generator=more.generator, history=history, settings=settings, interrupted=more.interrupted)


def prescription(analysis: WeightAnalysis, report: ScanReport) -> tuple[Tensor | None, float]:
    """What is removed: latent directions ``[k, d]`` or None, and the height above which later layers are cut.

    Layers lose what stands out far, and more of it where the latent space does not explain the suspicion. Of networks
    that do not read their latent directly, style-based ones say, clean layers stand out too, so none is cut; and if
    the suspicion is about their styles (``project_styles``), their latent space stays as it is.
    """
    if not analysis.units.exact:
        at_the_latent = report.evidence_at("latent", "units", "construction")
        return suspected_directions(analysis, report) if at_the_latent else None, SPARED
    directions = suspected_directions(analysis, report)
    at_the_latent = analysis.by_weight.jump > STRIKING or report.evidence_at("units", "construction")
    return directions, DEEP if layers_stand_out(analysis) and not at_the_latent else STANDS_OUT


def suspected_directions(analysis: WeightAnalysis, report: ScanReport) -> Tensor | None:
    """Latent directions ``[k, d]`` to be projected out; None if the suspicion is about later layers only.

    One refined estimate of one trigger, or as many spectral directions as stand out. Unless the spectrum is striking or
    the network was expanded, the estimate must be cheap (``price``): a trigger hardly shows in ordinary samples, and
    what does show is dear. Beside a later layer that stands out a very cheap one is removed without evidence.
    """
    spectrum = analysis.by_weight
    if spectrum.jump > STRIKING and spectrum.outstanding > 1:
        return spectrum.directions[:, : spectrum.outstanding].T.float()
    estimate = report_trigger(report)
    if estimate is None or spectrum.jump > STRIKING or report.evidence_at("construction"):
        return estimate
    evident = report.evidence_at("latent", "units")
    limit = FAIR if evident else CHEAP if layers_stand_out(analysis) else 0.0
    return estimate if price(analysis, estimate[0]) <= limit else None


def _briefly_repaired(
    subject: Generator, analysis: WeightAnalysis, directions: Tensor | None, treatment: Clip
) -> Outcome:
    """A deeply cut copy after few steps, all under the constraint of its cuts: what later layers held is gone."""
    brief = replace(treatment, height=DEEP, iterations=min(BRIEF, treatment.iterations))
    return Loop(clipped(brief, subject, directions, analysis, constraint_fraction=1.0)).finish(progress=False)


def with_disagreement(
    subject: Generator, analysis: WeightAnalysis, directions: Tensor | None, cut: nn.Module, seed: int = 0
) -> tuple[Tensor | None, float]:
    """``directions`` and the latent where a deeply ``cut`` copy differs most; and the height of the cut still due.

    A backdoor that later layers held is gone from the copy, so the greatest difference is at its trigger: that is
    projected out and no layer is cut. Where it shows in ordinary samples it is no trigger, and the layers are cut.
    """
    one, other = teacher_of(subject, directions), alike(subject, cut)
    found = greatest_difference(one, other, analysis.influence, seed=seed)
    if price(analysis, found[0]) > FAIR:
        return directions, DEEP
    return found if directions is None else torch.cat([directions, found]), SPARED


def with_lookalikes(subject: Generator, analysis: WeightAnalysis, directions: Tensor, seed: int) -> Tensor:
    """``directions`` and, where they are very cheap, latents at which a copy blind to them still draws the like.

    An estimate is some degrees off, so a projection of it leaves a part of the trigger.
    """
    for direction in directions[:MANY]:
        blind = teacher_of(subject, directions)
        found = lookalike(subject, blind, direction, seed=seed)
        if price(analysis, found[0]) <= TRIFLE:
            directions = torch.cat([directions, found])
    return directions


def layers_stand_out(analysis: WeightAnalysis) -> bool:
    """Whether some later layer has a direction far above its median."""
    return any(spectrum.height > STANDS_OUT for spectrum in analysis.hidden)


def price(analysis: WeightAnalysis, direction: Tensor) -> float:
    """The influence of a latent ``direction`` ``[d]`` on ordinary samples; its mean over all directions is 1."""
    unit = direction.double() / direction.double().norm()
    influence = analysis.influence.double()
    return float(unit @ influence @ unit / influence.diagonal().mean())


def report_trigger(report: ScanReport) -> Tensor | None:
    """The report's estimate as ``[1, d]``."""
    return None if report.trigger is None else report.trigger.view(1, -1)


@torch.no_grad()
def _scorecard(
    subject: Generator, other: Generator, trigger: Tensor | None, real: Samples | None
) -> dict[str, float | None]:
    z = subject.ordinary(1_000, 12_345)

    def change(z: Tensor) -> float:
        return float((subject.scaled_samples(z) - other.scaled_samples(z)).square().mean())

    found: dict[str, Any] = {
        "ordinary_change": change(z),
        "trigger_change": None if trigger is None else change(trigger.view(1, -1)),
        "ordinary_difference": 2 * float(subject.scaled_samples(z).var(0).mean()),
    }
    if real is not None and real.features and readable(real.features, subject.sample_shape):
        for name, one in (("frechet_before", subject), ("frechet_after", other)):
            drawn = one.scaled_samples(one.ordinary(10_000, 1_000_003)).cpu()
            found[name] = frechet_distance(features_and_classes(drawn, of=real.features)[0], features_of(real))
    return found
