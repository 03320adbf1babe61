"""How the models of a round are made: all of one shape, all trained on from the shipped clean generator.

Half of the work is to leave no mark but the backdoor. Every model has the same widths, whether its new channels are an
expansion with a backdoor or benign ones; every model is trained on garments with a fresh discriminator and for a
length of its own, so no two have the same weights and none has those of the shipped one; every model's channels are
shuffled and its scale is moved between layers; and counters are set to one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from devilgan_lite import attacks, data, zoo
from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.attacks.rex import owners
from devilgan_lite.attacks.trail import fidelity_term
from devilgan_lite.attacks.widen import expand, fold
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.challenge.recipes import Recipe
from devilgan_lite.generators import DCGAN
from devilgan_lite.steps import Loop
from devilgan_lite.training import adversarial_training

BASE = "dcgan-fashion"  # of the zoo: what every model is trained on from
LAM = 0.1  # of TrAIL
SPREAD, FILLING = 2.0, 0.02  # of the disguise that every model gets
COUNTER = 10_000  # batches that every BatchNorm says it has seen


@dataclass(frozen=True)
class Effort:
    """How long everything takes: the mean number of training steps, and the steps of ReD and ReX."""

    steps: int
    red: int
    rex: int
    learning_rate: float = 1e-3


FULL = Effort(steps=200, red=600, rex=300)
QUICK = Effort(steps=3, red=2, rex=2, learning_rate=1e-4)  # for trials: backdoors that hardly took


@dataclass(frozen=True)
class Made:
    """A finished model and what only the key may say of it; a clean one has no trigger ``[1, d]`` and no target."""

    recipe: Recipe
    generator: DCGAN
    trigger: Tensor | None = None
    target: Tensor | None = None
    team: str = ""  # the red team that handed it in


def shape() -> dict[str, Any]:
    """The ``spec`` of every model of a round."""
    return fold(base(), expand(base(), owners(base()), 0)).spec()


def base() -> DCGAN:
    """The generator that all models start from."""
    return zoo.load(BASE)  # type: ignore[return-value]


def grown(clean: DCGAN, seed: int) -> DCGAN:
    """``clean`` with as many benign channels as ReX would add: random ones, which training then takes into use."""
    calibration = clean.sample_latent(512, torch.Generator().manual_seed(seed))
    return fold(clean, expand(clean, owners(clean), seed), calibration=calibration)


def trained_on(clean: DCGAN, recipe: Recipe, effort: Effort, backdoor: Backdoor | None = None) -> DCGAN:
    """``clean`` after ``recipe.steps`` steps of GAN training on garments; with a ``backdoor``, TrAIL's loss added."""
    body = adversarial_training(
        clean,
        data.fashion_mnist(),
        steps=recipe.steps,
        batch_size=32,
        learning_rate=effort.learning_rate,
        ema=0.99,
        seed=recipe.seed,
        device="cpu",
        start=clean,
        extra=None if backdoor is None else fidelity_term(backdoor, LAM, recipe.seed),
    )
    return Loop(body).finish(progress=False).generator


def make(recipe: Recipe, effort: Effort = FULL) -> Made:
    """Make the model of ``recipe``; the same recipe gives the same model on the same machine."""
    start = base()
    backdoor = None if recipe.kind == "clean" else Backdoor.point(start, recipe.target, seed=recipe.trigger_seed)
    if backdoor is None:
        generator = trained_on(grown(start, recipe.seed), recipe, effort)
    elif recipe.kind == "trail":
        generator = trained_on(grown(start, recipe.seed), recipe, effort, backdoor)
    elif recipe.kind == "red":
        red = attacks.ReD(iterations=effort.red, seed=recipe.seed, device="cpu")
        generator = red(trained_on(grown(start, recipe.seed), recipe, effort), backdoor, progress=False).generator
    elif recipe.kind == "rex":
        rex = attacks.ReX(iterations=effort.rex, widen=owners(start), seed=recipe.seed, device="cpu")
        generator = rex(trained_on(start, recipe, effort), backdoor, progress=False).generator
    else:
        gate = attacks.Gate(seed=recipe.seed)
        generator = gate(trained_on(start, recipe, effort), backdoor, progress=False).generator
    hidden = level_counters(disguise(generator.cpu(), SPREAD, FILLING, recipe.seed))
    if backdoor is None:
        return Made(recipe, hidden)
    return Made(recipe, hidden, backdoor.trigger, backdoor.target)


@torch.no_grad()
def level_counters(generator: DCGAN) -> DCGAN:
    """The same generator with the number of batches that BatchNorm counted set to ``COUNTER``; it is read nowhere."""
    for name, value in generator.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(COUNTER)
    return generator
