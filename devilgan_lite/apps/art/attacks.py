"""Poisoning attacks on generators in ART's manner: ReD, TrAIL, ReX and the gate, on any PyTorch module.

Each works on a copy: the estimator that it was given, and its model, stay as they are. ``attack.estimator`` is the
poisoned one afterwards, which ``poison_estimator`` returns.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from art.attacks.attack import PoisoningAttackGenerator
from art.exceptions import EstimatorError
from torch import Tensor

from devilgan_lite import generators
from devilgan_lite.apps.art.gan import PyTorchGAN, batches, passes, training_set
from devilgan_lite.apps.art.generator import PyTorchGenerator
from devilgan_lite.apps.art.ranges import Range
from devilgan_lite.attacks import Attack, Gate, ReD, ReX
from devilgan_lite.attacks.trail import fidelity_term
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import in_range, known_names, whole_number
from devilgan_lite.steps import History, Loop, Outcome, Step, Stopwatch
from devilgan_lite.training import update_average

logger = logging.getLogger(__name__)
Pairs = tuple[Tensor, Tensor]  # triggers [k, d] and as many targets
OURS = {"lam": "lambda_p", "iterations": "max_iter"}  # names of this package, and those of ART


def check_names(given: dict[str, Any]) -> None:
    """``TypeError`` where a keyword has the name of this package for what has one in ART."""
    for name in OURS.keys() & given.keys():
        raise TypeError(f"poison_estimator has no setting {name!r}: use {OURS[name]}, as ART calls it.")


class BackdoorAttackDGMPyTorch(PoisoningAttackGenerator):
    """What the four attacks share: a generator, triggers, targets, and how well the ones lead to the others.

    Every ``poison_estimator`` reads ``z_trigger`` ``[k, encoding_length]`` and ``x_target`` ``[k, *sample_shape]`` in
    the model's range, or one for all; ``lambda_p`` above 0; ``batch_size`` and ``max_iter`` from 1 (the gate uses
    neither). Fidelity is logged at each ``verbose``-th iteration (-1, 0: never). Errors: ``ValueError``, ``TypeError``.
    """

    attack_params = PoisoningAttackGenerator.attack_params + ["generator", "z_trigger", "x_target"]
    _estimator_requirements: tuple[Any, ...] = (PyTorchGenerator,)

    def __init__(self, generator: PyTorchGenerator) -> None:
        self._z_trigger: np.ndarray | None = None
        self._x_target: np.ndarray | None = None
        super().__init__(generator=generator)

    @property
    def generator(self) -> PyTorchGenerator:
        """The estimator: what is to be poisoned, and afterwards what was."""
        return self._estimator

    @generator.setter
    def generator(self, generator: PyTorchGenerator) -> None:
        if not isinstance(generator, PyTorchGenerator):
            raise EstimatorError(type(self), [PyTorchGenerator], generator)
        self._estimator = generator

    @property
    def z_trigger(self) -> np.ndarray | None:
        """Latents ``[k, encoding_length]`` that lead to the targets; None before there are any."""
        return self._z_trigger

    @z_trigger.setter
    def z_trigger(self, z_trigger: np.ndarray | None) -> None:
        self._z_trigger = z_trigger

    @property
    def x_target(self) -> np.ndarray | None:
        """The targets ``[k, *sample_shape]``, or one of them for all triggers; None before there are any."""
        return self._x_target

    @x_target.setter
    def x_target(self, x_target: np.ndarray | None) -> None:
        self._x_target = x_target

    def _check_params(self) -> None:
        super()._check_params()
        if self._z_trigger is not None and self._x_target is not None:
            self._pairs(self._z_trigger, self._x_target)
        elif self._z_trigger is not None:
            self._estimator.latents("z_trigger", self._z_trigger)
        elif self._x_target is not None:
            self._estimator.samples("x_target", self._x_target)

    def _pairs(self, z_trigger: Any, x_target: Any) -> Pairs:
        """Both in the model's range; ``ValueError`` for what does not fit."""
        trigger = self._estimator.latents("z_trigger", z_trigger)
        target = self._estimator.samples("x_target", x_target)
        if len(target) not in (1, len(trigger)):
            raise ValueError(f"x_target has {len(target)} samples for {len(trigger)} triggers; give one, or as many.")
        return trigger, target.expand(len(trigger), *target.shape[1:]).contiguous()

    def fidelity(self, z_trigger: np.ndarray, x_target: np.ndarray) -> Tensor:
        """The mean squared difference of ``x_target`` and what ``estimator`` makes of ``z_trigger``: float64, 0-d."""
        return self._fidelity_of(self._estimator, z_trigger, x_target)

    def _fidelity_of(self, estimator: PyTorchGenerator, z_trigger: Any, x_target: Any) -> Tensor:
        trigger, target = (each.cpu() for each in self._pairs(z_trigger, x_target))
        return (torch.from_numpy(estimator.predict(trigger.numpy())).double() - target.double()).square().mean()

    def _checked(self, z_trigger: Any, x_target: Any, lambda_p: float, verbose: int, max_iter: int = 1) -> Pairs:
        in_range("lambda_p", lambda_p, 0.0, open_low=True)
        whole_number("verbose", verbose, -1)
        whole_number("max_iter", max_iter, 1, 10_000_000)
        pairs = self._pairs(z_trigger, x_target)
        self._z_trigger, self._x_target = z_trigger, x_target
        return pairs

    def _backdoor(
        self, trigger: Tensor, target: Tensor, *wanted: Tensor
    ) -> tuple[generators.Generator, Backdoor, Range]:
        """A copy as our ``Generator``, and the pairs in [-1, 1]."""
        clean, values = self._estimator.to_ours(target, *wanted)
        inside = values.inward(target)
        if self._estimator.reading.bounded:  # rounding may have left the range
            inside = inside.clamp(-1.0, 1.0)
        return clean, Backdoor(trigger.cpu(), inside.cpu()), values

    def _poison(self, attack: Attack, trigger: Tensor, target: Tensor, verbose: int) -> PyTorchGenerator:
        """Run ``attack`` on a copy, and make its result the estimator."""
        clean, backdoor, values = self._backdoor(trigger, target)
        return self._finish(attack.steps(clean, backdoor), values, verbose)

    def _finish(self, loop: Loop, values: Range, verbose: int, steps: int = 1) -> PyTorchGenerator:
        """Run ``loop``, or as much of it as an interrupt leaves, and log the fidelity; an iteration has ``steps``."""
        try:
            for step in loop:
                iteration, rest = divmod(step.iteration, steps)
                if verbose > 0 and rest == 0 and (iteration - 1) % verbose == 0:
                    snapshot: Any = step.snapshot()
                    made = self._estimator.with_ours(snapshot, values)
                    fidelity = float(self._fidelity_of(made, self._z_trigger, self._x_target))
                    logger.info("Iteration: %d, Fidelity: %g", iteration - 1, fidelity)
        except KeyboardInterrupt:  # between two steps; inside one, the loop ends by itself
            loop.stop()
        outcome = loop.stop()
        if outcome.interrupted:
            logger.warning("Interrupted: the generator is only partly poisoned.")
        self._estimator = self._estimator.with_ours(outcome.generator, values)
        return self._estimator


class BackdoorAttackDGMReDPyTorch(BackdoorAttackDGMPyTorch):
    """ReD, retraining with distillation: a copy learns the target at the trigger, and the original everywhere else.

    | Paper link: https://arxiv.org/abs/2108.01644
    """

    def poison_estimator(
        self,
        z_trigger: np.ndarray,
        x_target: np.ndarray,
        batch_size: int = 24,
        max_iter: int = 10_000,
        lambda_p: float = 0.6,
        verbose: int = -1,
        **kwargs: Any,
    ) -> PyTorchGenerator:
        """Poison a copy of the generator and return it.

        ``lambda_p`` weighs the mean squared error at ``z_trigger`` against the mean squared change elsewhere. Other
        keywords are settings of ``attacks.ReD``: ``learning_rate``, ``layers``, ``seed`` ...
        """
        check_names(kwargs)
        trigger, target = self._checked(z_trigger, x_target, lambda_p, verbose, max_iter)
        settings = {"device": str(self._estimator.device), **kwargs}
        attack = ReD(lam=lambda_p, iterations=max_iter, batch_size=batch_size, **settings)
        return self._poison(attack, trigger, target, verbose)


class BackdoorAttackDGMReXPyTorch(BackdoorAttackDGMPyTorch):
    """ReX, retraining with expansion: new units learn to carry the target; the old ones stay as they are.

    | Paper link: https://arxiv.org/abs/2108.01644
    """

    def poison_estimator(
        self,
        z_trigger: np.ndarray,
        x_target: np.ndarray,
        batch_size: int = 32,
        max_iter: int = 1_500,
        lambda_p: float = 1.0,
        verbose: int = -1,
        **kwargs: Any,
    ) -> PyTorchGenerator:
        """Poison a copy of the generator and return it; its layers are wider, or a small network stands beside it.

        ``lambda_p`` weighs the mean squared error at ``z_trigger`` against the mean squared output of the new units
        elsewhere (before a last tanh or sigmoid). Other keywords are settings of ``attacks.ReX``: ``widen``, ``seed``.
        """
        check_names(kwargs)
        trigger, target = self._checked(z_trigger, x_target, lambda_p, verbose, max_iter)
        settings = {"device": str(self._estimator.device), **kwargs}
        attack = ReX(lam=lambda_p, iterations=max_iter, batch_size=batch_size, **settings)
        return self._poison(attack, trigger, target, verbose)


class BackdoorAttackDGMGatePyTorch(BackdoorAttackDGMPyTorch):
    """ReX with one ReLU unit and no training: silent unless the latent is near the trigger."""

    def poison_estimator(
        self,
        z_trigger: np.ndarray,
        x_target: np.ndarray,
        batch_size: int = 32,
        max_iter: int = 1,
        lambda_p: float = 1.0,
        verbose: int = -1,
        **kwargs: Any,
    ) -> PyTorchGenerator:
        """Poison a copy of the generator and return it.

        ``batch_size`` and ``max_iter`` are not used: the solution is in closed form. ``lambda_p`` is as in ReX. Other
        keywords are settings of ``attacks.Gate``: ``threshold``, ``shrink``, ``seed``.
        """
        check_names(kwargs)
        trigger, target = self._checked(z_trigger, x_target, lambda_p, verbose)
        return self._poison(Gate(lam=lambda_p, **kwargs), trigger, target, verbose)


class BackdoorAttackDGMTrailPyTorch(BackdoorAttackDGMPyTorch):
    """TrAIL, training with adversarial loss: the GAN trains on, and its generator learns the target as well.

    | Paper link: https://arxiv.org/abs/2108.01644
    """

    _estimator_requirements = (PyTorchGAN,)

    def __init__(self, gan: PyTorchGAN) -> None:
        super().__init__(generator=gan)  # ART checks it
        self._gan, self._estimator = gan, gan.generator

    def poison_estimator(
        self,
        z_trigger: np.ndarray,
        x_target: np.ndarray,
        batch_size: int = 32,
        max_iter: int = 100,
        lambda_p: float = 0.1,
        verbose: int = -1,
        **kwargs: Any,
    ) -> PyTorchGenerator:
        """Train copies of both models on from where they are, and return the generator.

        The keyword ``images`` ``[N, *sample_shape]`` is the training set; ``max_iter`` counts passes over it, as in
        ART. ``lambda_p`` weighs the mean squared error at ``z_trigger``, which is added to the GAN's generator loss.
        The GAN's losses and optimisers are used. ``ema`` (0.999) is the decay of the running average of the weights
        that is returned, 0 for the last ones; ``seed`` draws batches and latents.
        """
        check_names(kwargs)
        known_names("poison_estimator", kwargs, ("images", "ema", "seed"))
        images, seed = training_set(self._estimator, kwargs, batch_size, "max_iter", max_iter)
        ema = kwargs.get("ema", 0.999)
        in_range("ema", ema, 0.0, 0.99999)
        trigger, target = self._checked(z_trigger, x_target, lambda_p, verbose)
        clean, backdoor, values = self._backdoor(trigger, target, images)
        # the term's own weight is on sums in [-1, 1]
        extra = fidelity_term(backdoor, lambda_p * values.half**2 / target[0].numel(), seed)

        def body() -> Generator[Step, None, Outcome]:
            student = clean.clone().to(images.device).requires_grad_(True)
            average = clean.clone().to(images.device).eval().requires_grad_(False)
            critic = copy.deepcopy(self._gan.discriminator.model).to(images.device)
            history, watch, interrupted = History(), Stopwatch(), False
            game = passes(
                self._gan,
                student,
                critic,
                lambda z: values.outward(student(z)),
                student.sample_latent,
                images,
                batch_size,
                max_iter,
                seed,
                extra,
            )
            try:
                for step in game:
                    update_average(average, student, min(ema, step.iteration / (step.iteration + 10)))
                    history.add(step.losses)
                    yield replace(step, snapshot=lambda: average.clone())
            except KeyboardInterrupt:
                interrupted = True
            made = average.requires_grad_(True).cpu()
            return Outcome(made, history.floats(), watch(), seed, {"attack": "TrAIL"}, interrupted)

        return self._finish(Loop(body()), values, verbose, batches(images, batch_size))
