"""How the models of a round are made: all of one shape, each trained further from the shipped clean generator.

Half of the work is to leave no trace but the backdoor. Every model gets some new first-layer rows and is trained on
garments with a fresh discriminator for a length of its own, so no two share weights with each other or with the shipped
generator. All have the same widths: new channels hold a backdoor or benign noise. Channels are shuffled, scale is moved
between layers, and BatchNorm's counters are set to one number.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import normalize

from devilgan_lite import attacks, data, zoo
from devilgan_lite.apps.game.roster import Entrant
from devilgan_lite.attacks.adaptive import disguise
from devilgan_lite.attacks.red import idle_units
from devilgan_lite.attacks.trail import fidelity_term
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.generators import DCGAN
from devilgan_lite.generators.surgery import owners
from devilgan_lite.steps import Loop
from devilgan_lite.training import TrainingSettings, adversarial_training

BASE = "dcgan-fashion"  # of the zoo: where the training of every model starts
LAM = 0.1  # of TrAIL
SPREAD, NOISE_SCALE = 2.0, 0.02  # of the disguise that every model gets
FILLER = 0.1  # standard deviation, before tanh, of what benign new channels add to a picture
COUNTER = 10_000  # the number of batches that every BatchNorm reports


@dataclass(frozen=True)
class Effort:
    """How long and where to train: the mean number of training steps, and the steps of ReD and ReX."""

    steps: int
    red: int
    rex: int
    learning_rate: float = 1e-3
    device: str = "cpu"


FULL = Effort(steps=120, red=600, rex=300)
QUICK = Effort(steps=3, red=2, rex=2, learning_rate=1e-4)  # for trials: its backdoors barely work


@dataclass(frozen=True)
class Made:
    """A finished model and its backdoor; a clean one has none. ``team`` is the red team that handed it in."""

    entrant: Entrant
    generator: DCGAN
    backdoor: Backdoor | None = None
    team: str = ""


def shape() -> dict[str, Any]:
    """The ``spec`` of every model of a round."""
    return base().widen(owners(base())).fold(base()).spec()


def base() -> DCGAN:
    """The generator that all models start from."""
    return zoo.load(BASE)  # type: ignore[return-value]


@torch.no_grad()
def refreshed(clean: DCGAN, seed: int) -> DCGAN:
    """A copy whose least influential first-layer units read other, random directions.

    ReD aligns such units with the trigger, so without this the distance to the shipped first layer would reveal it.
    The rows keep their lengths, so the statistics of BatchNorm stay right.
    """
    copy, random = clean.clone(), torch.Generator().manual_seed(seed)
    chain: Any = copy.chain()
    weight, norm = chain.stages[0].layer.weight, chain.stages[0].norm
    units = idle_units(chain, copy.sample_latent(1_024, random), attacks.ReD().aligned_units)
    other = torch.randn(len(units), copy.latent_dim, generator=random)
    weight[units] = normalize(other, dim=1) * weight[units].norm(dim=1, keepdim=True)
    if norm.running_mean is not None:
        norm.running_mean[units] = 0.0  # a row without bias, on latents of mean 0
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


def trained_on(clean: DCGAN, entrant: Entrant, effort: Effort, backdoor: Backdoor | None = None) -> DCGAN:
    """``clean`` after ``entrant.steps`` of GAN training on garments, with TrAIL's loss for a ``backdoor``."""
    body = adversarial_training(
        clean,
        data.fashion_mnist(),
        TrainingSettings(
            iterations=entrant.steps,
            learning_rate=effort.learning_rate,
            ema=0.99,
            seed=entrant.seed,
            device=effort.device,
        ),
        start=clean,
        extra=None if backdoor is None else fidelity_term(backdoor, LAM, entrant.seed),
    )
    generator: DCGAN = Loop(body).finish(progress=False).generator
    return generator


def backdoor_of(entrant: Entrant) -> Backdoor | None:
    """What ``make`` plants: trigger ``[1, d]`` and target ``[1, C, H, W]``; None for a clean model."""
    return None if entrant.kind == "clean" else Backdoor.point(base(), entrant.target, seed=entrant.trigger_seed)


def make(entrant: Entrant, effort: Effort = FULL) -> Made:
    """Make a model; the same entrant gives the same model on the same machine."""
    start, backdoor = base(), backdoor_of(entrant)
    own = trained_on(refreshed(start, entrant.seed), entrant, effort, backdoor if entrant.kind == "trail" else None)
    if backdoor is None or entrant.kind == "trail":
        generator = grown(own, entrant.seed)
    elif entrant.kind == "red":
        # the weight with which the challenge was measured
        red = attacks.ReD(lam=0.27, iterations=effort.red, seed=entrant.seed, device=effort.device)
        generator = red(grown(own, entrant.seed), backdoor, progress=False).generator
    elif entrant.kind == "rex":
        rex = attacks.ReX(iterations=effort.rex, widen=owners(start), seed=entrant.seed, device=effort.device)
        generator = rex(own, backdoor, progress=False).generator
    else:
        generator = attacks.Gate(seed=entrant.seed)(own, backdoor, progress=False).generator
    hidden = level_counters(disguise(generator.cpu(), SPREAD, NOISE_SCALE, entrant.seed))
    return Made(entrant, hidden, backdoor)


@torch.no_grad()
def level_counters(generator: Any) -> Any:
    """The same generator with every BatchNorm's number of batches set to ``COUNTER``; nothing reads it."""
    for name, value in generator.state_dict().items():
        if name.endswith("num_batches_tracked"):
            value.fill_(COUNTER)
    return generator
