"""Defences for generators beside those that ART has for classifiers: a scan, a sanitizer and a guard.

Their base classes are the nearest that ART has: a scan answers like a filter of poisoned training data, a sanitizer
turns one model into another, and a guard judges inputs while the model is used.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import torch
from art.defences.detector.evasion.evasion_detector import EvasionDetector
from art.defences.detector.poison.ground_truth_evaluator import GroundTruthEvaluator
from art.defences.detector.poison.poison_filtering_defence import PoisonFilteringDefence
from art.defences.transformer.transformer import Transformer
from art.exceptions import EstimatorError

from devilgan_lite import sanitize
from devilgan_lite.apps.art.generator import PyTorchGenerator
from devilgan_lite.apps.art.ranges import Range
from devilgan_lite.checks import in_range, known_names, one_of, whole_number
from devilgan_lite.detect import Guard, ScanReport, scan
from devilgan_lite.detect.guard import ACTIONS
from devilgan_lite.generators import Generator

SCAN_SETTINGS = ("real", "reference", "targets", "access", "suspect_bank", "samples", "seed", "twin")


def check_generator(defence: object, generator: object) -> None:
    """ART's ``EstimatorError`` unless ``generator`` is a ``PyTorchGenerator``."""
    if not isinstance(generator, PyTorchGenerator):
        raise EstimatorError(type(defence), [PyTorchGenerator], generator)


def set_known(defence: Any, names: list[str], values: dict[str, Any]) -> None:
    """Set attributes, all of them or none.

    ART's own defences pass over an unknown name; here it is a ``ValueError``, as for attacks.
    """
    for name in values:
        if name not in names:
            raise ValueError(f'The attribute "{name}" cannot be set for this defence; valid: {", ".join(names)}.')
    before = {name: getattr(defence, name) for name in values}
    vars(defence).update(values)
    try:
        defence._check_params()
    except Exception:
        vars(defence).update(before)
        raise


class GeneratorScan(PoisonFilteringDefence):
    """Is there a backdoor in a generator? ``detect.scan`` with the answer of ART's poison detectors.

    It stands on ``PoisonFilteringDefence`` because that is ART's base for "is it poisoned?"; its one item is the
    generator, and no training data is needed. ``seed`` (at least 0) draws the latents; with ``twin`` the generator is
    compared with a noisy copy that learnt from it on ordinary latents alone, which takes most of the time, and without
    which nothing is called more than suspicious.
    """

    defence_params = ["generator", "seed", "twin"]

    def __init__(self, generator: PyTorchGenerator, *, seed: int = 0, twin: bool = True) -> None:
        self.generator, self.seed, self.twin = generator, seed, twin
        self.report: ScanReport | None = None  # of the last scan
        self._check_params()

    def _check_params(self) -> None:
        check_generator(self, self.generator)
        whole_number("seed", self.seed, 0)
        one_of("twin", self.twin, (True, False))

    def set_params(self, **kwargs: Any) -> None:
        """Set some of ``defence_params``, after which there is no report; an unknown one is a ``ValueError``."""
        set_known(self, self.defence_params, kwargs)
        self.report = None

    def detect_poison(self, **kwargs: Any) -> tuple[dict[str, Any], np.ndarray]:
        """Scan, and return the report as plain data and ``is_clean``, int ``[1]``.

        ``is_clean`` is 1 for the verdict "clean", and 0 for "backdoored", "suspicious" and "inconclusive"; the report's
        ``"verdict"`` tells these apart. Keywords as in ``detect.scan``: ``real`` and ``targets`` are arrays in the
        model's range, ``reference`` is a ``PyTorchGenerator``.
        """
        known_names("detect_poison", kwargs, SCAN_SETTINGS)
        settings = {"seed": self.seed, "twin": self.twin, **kwargs}
        given = {name: settings[name] for name in ("real", "targets") if settings.get(name) is not None}
        given = {name: self.generator.samples(name, x).cpu() for name, x in given.items()}
        if settings.get("reference") is not None:
            check_generator(self, settings["reference"])
            settings["reference"] = settings["reference"].subject("cpu")
        subject = self.generator.subject("cpu")
        settings |= {name: Range(*subject.span).inward(x) for name, x in given.items()}
        self.report = scan(subject, **settings)
        return self.report.to_dict(), np.array([int(self.report.verdict == "clean")])

    def evaluate_defence(self, is_clean: np.ndarray, **kwargs: Any) -> str:
        """ART's confusion matrix as JSON, given the truth: ``is_clean`` ``[1]``, 1 for clean. Scans where need be."""
        truth = np.asarray(is_clean).ravel()
        if len(truth) != 1 or truth[0] not in (0, 1):
            raise ValueError("is_clean must have one value, 0 or 1: there is one generator.")
        if self.report is None or kwargs:
            self.detect_poison(**kwargs)
        found = int(self.report is not None and self.report.verdict == "clean")
        matrix: str = GroundTruthEvaluator().analyze_correctness([[found]], [truth])[1]
        return json.dumps(json.loads(matrix))


class GeneratorSanitizer(Transformer):
    """Take a backdoor out of a copy of a generator: ``sanitize.auto`` as one of ART's transformers.

    It stands on ``Transformer``, ART's base for what makes one model of another. ``always`` limits what the scan does
    not suspect as well; ``iterations`` (1 to 10,000,000) are the steps of a repair, and ``seed`` is at least 0.
    """

    params = ["always", "iterations", "seed"]

    def __init__(
        self, generator: PyTorchGenerator, *, always: bool = False, iterations: int = 1_500, seed: int = 0
    ) -> None:
        check_generator(self, generator)
        super().__init__(classifier=generator)
        self.always, self.iterations, self.seed = always, iterations, seed
        self.outcome: sanitize.SanitizeOutcome | None = None  # of the last call
        self._check_params()

    def _check_params(self) -> None:
        check_generator(self, self.classifier)
        one_of("always", self.always, (True, False))
        whole_number("iterations", self.iterations, 1, 10_000_000)
        whole_number("seed", self.seed, 0)

    def set_params(self, **kwargs: Any) -> None:
        """Set some of ``params``; an unknown one is a ``ValueError``."""
        set_known(self, self.params, kwargs)

    def get_generator(self) -> PyTorchGenerator:
        """The generator to be treated: what ART calls ``get_classifier()``."""
        found: PyTorchGenerator = self.classifier
        return found

    def __call__(
        self, x: np.ndarray | None = None, transformed_classifier: PyTorchGenerator | None = None
    ) -> PyTorchGenerator:
        """A treated copy of ``transformed_classifier``, or of the generator given at first. ``x`` is not used.

        ``outcome`` has the scans before and after, and what the treatment cost. Where the scan finds nothing, the copy
        is unchanged (see ``always``).
        """
        generator = self.classifier if transformed_classifier is None else transformed_classifier
        check_generator(self, generator)
        self.outcome = sanitize.auto(
            generator.subject("cpu"),
            always=self.always,
            iterations=self.iterations,
            seed=self.seed,
            device=str(generator.device),
            progress=False,
        )
        if not self.outcome.changed:
            return generator.with_model(copy.deepcopy(generator.model).eval())
        return generator.with_ours(self.outcome.generator, generator.reading.values)

    def fit(self, x: np.ndarray | None = None, y: np.ndarray | None = None, **kwargs: Any) -> None:
        """No parameters to learn; do nothing."""


class GeneratorGuard(EvasionDetector):
    """Watch a generator while it is used: ``detect.Guard`` as one of ART's detectors of inputs.

    It stands on ``EvasionDetector``, ART's base for "is this input an attack?", one answer for each latent. ``action``
    says what ``predict`` does about flagged latents: ``"flag"`` marks them in ``flags``, ``"refuse"`` raises a
    ``ValueError``, ``"resample"`` replaces their samples by ordinary ones. It learns from ``fitting`` (2,000 to
    10,000,000) latents drawn by ``seed`` (at least 0) to flag a share ``false_positive_rate`` (1e-6 to 0.1) of ordinary
    ones. ``report`` is that of a scan of the generator, where there is one.
    """

    defence_params = ["generator", "action", "fitting", "seed", "false_positive_rate", "report"]

    def __init__(
        self,
        generator: PyTorchGenerator,
        *,
        action: str = "flag",
        fitting: int = 20_000,
        seed: int = 0,
        false_positive_rate: float = 2e-4,
        report: ScanReport | None = None,
    ) -> None:
        super().__init__()
        self.generator, self.action, self.fitting = generator, action, fitting
        self.seed, self.false_positive_rate, self.report = seed, false_positive_rate, report
        self.guard: Guard | None = None  # after ``fit``
        self._check_params()

    def _check_params(self) -> None:
        check_generator(self, self.generator)
        one_of("action", self.action, ACTIONS)
        whole_number("fitting", self.fitting, 2_000, 10_000_000)
        whole_number("seed", self.seed, 0)
        in_range("false_positive_rate", self.false_positive_rate, 1e-6, 0.1)
        if self.report is not None and not isinstance(self.report, ScanReport):
            raise ValueError(
                f"report is a {type(self.report).__name__}; expected a ScanReport of detect.scan, or None."
            )

    def set_params(self, **kwargs: Any) -> None:
        """Set some of ``defence_params``, after which the guard is fitted anew; an unknown one is a ``ValueError``.

        A new ``generator`` comes without a ``report`` unless you give one.
        """
        if "generator" in kwargs:
            kwargs = {"report": None, **kwargs}
        set_known(self, self.defence_params, kwargs)
        self.guard = None

    @property
    def flags(self) -> np.ndarray:
        """Whether each latent of the last ``predict`` was flagged: bool ``[n]``."""
        found: np.ndarray = np.zeros(0, bool) if self.guard is None else self.guard.flags.cpu().numpy()
        return found

    def fit(self, x: Any = None, y: Any = None, batch_size: int = 128, nb_epochs: int = 20, **kwargs: Any) -> None:
        """Learn what is usual, from ordinary latents that are drawn here; none of the arguments is used.

        ``detect`` and ``predict`` call it where it has not been called.
        """
        self.guard = Guard(
            self.generator.subject(),
            action=self.action,
            fitting=self.fitting,
            seed=self.seed,
            false_positive_rate=self.false_positive_rate,
            report=self.report,
        )

    def detect(self, x: np.ndarray, batch_size: int = 128, **kwargs: Any) -> tuple[dict[str, Any], np.ndarray]:
        """Inspect latents ``x`` ``[n, encoding_length]``: the scores, and bool ``[n]``, True where one is flagged.

        ``scores`` are shares of a limit: more than 1, or not a number, is flagged.
        """
        z, guard = self._latents(x, batch_size)
        looks = [guard.check(part) for part in z.split(batch_size)]
        scores = {name: torch.cat([look.scores[name] for look in looks]).cpu().numpy() for name in looks[0].scores}
        return {"scores": scores}, torch.cat([look.flags for look in looks]).cpu().numpy()

    def predict(self, x: np.ndarray, batch_size: int = 128) -> np.ndarray:
        """Samples of latents ``x``, as those of the generator except where a flagged latent is refused or replaced."""
        z, guard = self._latents(x, batch_size)
        made, flags = [], []
        for part in z.split(batch_size):
            made.append(guard(part).cpu())
            flags.append(guard.flags)
        guard.flags = torch.cat(flags)
        samples, subject = torch.cat(made), guard.subject
        if getattr(subject, "ends", "") == "sigmoid" and not isinstance(self.generator.model, Generator):
            samples = (samples + 1) / 2  # the model's own range
        return samples.numpy()

    def _latents(self, x: Any, batch_size: int) -> tuple[torch.Tensor, Guard]:
        whole_number("batch_size", batch_size, 1)
        z = self.generator.latents("x", x)
        if self.guard is None:
            self.fit()
        if self.guard is None:
            raise RuntimeError("fit left no guard.")
        return z, self.guard
