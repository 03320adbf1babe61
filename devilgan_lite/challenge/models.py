"""How the models of a round are made: all of one shape, all trained on from the shipped clean generator.

Half of the work is to leave no mark but the backdoor. Every model gets some new first-layer rows and is trained on
garments with a fresh discriminator and for a length of its own, so no two have the same weights and none has those of
the shipped one; every model has the same widths, whether its new channels are an expansion with a backdoor or benign
ones; every model's channels are shuffled and its scale is moved between layers; and counters are set to one number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from devilgan_lite import attacks, data, zoo
from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.attacks.aligned_units import idle_units
from devilgan_lite.attacks.trail import fidelity_term
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.challenge.recipes import Recipe
from devilgan_lite.generators import DCGAN
from devilgan_lite.generators.expansion import owners
from devilgan_lite.steps import Loop
from devilgan_lite.training import TrainingSettings, adversarial_training

BASE = "dcgan-fashion"  # of the zoo: what every model is trained on from
LAM = 0.1  # of TrAIL
SPREAD, FILLING = 2.0, 0.02  # of the disguise that every model gets
FILLER = 0.1  # standard deviation, before tanh, of what benign new channels add to a picture
COUNTER = 10_000  # batches that every BatchNorm says it has seen


@dataclass(frozen=True)
class Effort:
    """How long everything takes: the mean number of training steps, and the steps of ReD and ReX."""

    steps: int
    red: int
    rex: int
    learning_rate: float = 1e-3


FULL = Effort(steps=120, red=600, rex=300)
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
    return base().widen(owners(base())).fold(base()).spec()


def base() -> DCGAN:
    """The generator that all models start from."""
    return zoo.load(BASE)  # type: ignore[return-value]


@torch.no_grad()
def refreshed(clean: DCGAN, seed: int) -> DCGAN:
    """A copy whose least influential first-layer units read other, random directions.

    ReD turns such units into sleepers, so without this the distance of its first layer to the shipped one would tell.
    The rows keep their lengths, so the statistics of BatchNorm stay right.
    """
    copy, random = clean.clone(), torch.Generator().manual_seed(seed)
    chain: Any = copy.chain()
    weight, norm = chain.stages[0].layer.weight, chain.stages[0].norm
    units = idle_units(chain, copy.sample_latent(1_024, random), attacks.ReD().aligned_units)
    other = torch.randn(len(units), copy.latent_dim, generator=random)
    weight[units] = normalize(other, dim=1) * weight[units].norm(dim=1, keepdim=True)
    norm.running_mean[units] = 0.0  # of a row without bias, on latents of mean 0
    return copy


@torch.no_grad()
def grown(clean: DCGAN, seed: int) -> DCGAN:
    """``clean`` with as many benign channels as ReX would add: random ones that change every picture a little."""
    calibration = clean.sample_latent(512, torch.Generator().manual_seed(seed))
    expansion = clean.widen(owners(clean), seed)
    last = expansion.layers[-1].weight
    last.copy_(torch.randn(last.shape, generator=torch.Generator().manual_seed(seed)))
    last.mul_(FILLER / expansion(calibration).std())
    return expansion.fold(clean, calibration)


def trained_on(clean: DCGAN, recipe: Recipe, effort: Effort, backdoor: Backdoor | None = None) -> DCGAN:
    """``clean`` after ``recipe.steps`` steps of GAN training on garments; with a ``backdoor``, TrAIL's loss added."""
    body = adversarial_training(
        clean,
        data.fashion_mnist(),
        TrainingSettings(
            iterations=recipe.steps, learning_rate=effort.learning_rate, ema=0.99, seed=recipe.seed, device="cpu"
        ),
        start=clean,
        extra=None if backdoor is None else fidelity_term(backdoor, LAM, recipe.seed),
    )
    return Loop(body).finish(progress=False).generator


def make(recipe: Recipe, effort: Effort = FULL) -> Made:
    """Make the model of ``recipe``; the same recipe gives the same model on the same machine."""
    start = base()
    backdoor = None if recipe.kind == "clean" else Backdoor.point(start, recipe.target, seed=recipe.trigger_seed)
    own = trained_on(refreshed(start, recipe.seed), recipe, effort, backdoor if recipe.kind == "trail" else None)
    if backdoor is None or recipe.kind == "trail":
        generator = grown(own, recipe.seed)
    elif recipe.kind == "red":
        red = attacks.ReD(iterations=effort.red, seed=recipe.seed, device="cpu")
        generator = red(grown(own, recipe.seed), backdoor, progress=False).generator
    elif recipe.kind == "rex":
        rex = attacks.ReX(iterations=effort.rex, widen=owners(start), seed=recipe.seed, device="cpu")
        generator = rex(own, backdoor, progress=False).generator
    else:
        generator = attacks.Gate(seed=recipe.seed)(own, backdoor, progress=False).generator
    hidden = level_counters(disguise(generator.cpu(), SPREAD, FILLING, recipe.seed))
    if backdoor is None:
        return Made(recipe, hidden)
    return Made(recipe, hidden, backdoor.trigger, backdoor.target)


@torch.no_grad()
def level_counters(generator: Any) -> Any:
    """The same generator with the number of batches that BatchNorm counted set to ``COUNTER``; it is read nowhere."""
    for name, value in generator.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(COUNTER)
    return generator
