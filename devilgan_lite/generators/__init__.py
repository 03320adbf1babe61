"""Generators, and the way back from their plain-data ``spec()`` to a network."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from torch import nn

from devilgan_lite.checks import in_range, known_names, one_of, whole_number
from devilgan_lite.generators.base import Generator, evaluate
from devilgan_lite.generators.dcgan import DCGAN, Discriminator, seeded
from devilgan_lite.generators.stylegan import StyleDiscriminator, StyleGAN
from devilgan_lite.generators.toy import PointDiscriminator, PointGenerator

ARCHITECTURES: dict[str, type[Generator]] = {
    "DCGAN": DCGAN,
    "PointGenerator": PointGenerator,
    "StyleGAN": StyleGAN,
}


@dataclass(frozen=True)
class Recipe:
    """How a generator is trained: Adam's ``betas`` in [0, 1), and the weight of the gradient penalty on real pictures.

    The penalty (0: none) is taken on every ``penalty_every``-th step, as many times as strong. Anything else is a
    ``ValueError``.
    """

    betas: tuple[float, float] = (0.5, 0.999)
    penalty: float = 0.0
    penalty_every: int = 16

    def __post_init__(self) -> None:
        if len(self.betas) != 2:
            raise ValueError(f"betas={self.betas!r} has {len(self.betas)} numbers; expected two in [0, 1).")
        for index, beta in enumerate(self.betas):
            in_range(f"betas[{index}]", beta, 0.0, 0.99999)
        in_range("penalty", self.penalty, 0.0)
        whole_number("penalty_every", self.penalty_every, 1)


def build(spec: dict[str, Any], seed: int = 0) -> Any:
    """Make the generator that ``spec`` describes, with fresh weights drawn from ``seed``.

    An unknown architecture or setting is an error that lists the valid ones.
    """
    settings = dict(spec)
    architecture = settings.pop("architecture", None)
    one_of("architecture", architecture, ARCHITECTURES)
    kind = ARCHITECTURES[architecture]
    known_names(architecture, settings, inspect.signature(kind).parameters)
    settings = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
    return seeded(seed, kind, **settings)


def matching_discriminator(generator: Generator, seed: int = 0) -> nn.Module:
    """A fresh discriminator for the samples of ``generator``."""
    if isinstance(generator, PointGenerator):
        return seeded(seed, PointDiscriminator)
    if isinstance(generator, StyleGAN):
        return seeded(seed, StyleDiscriminator, generator.sample_shape)
    return seeded(seed, Discriminator, generator.sample_shape)


def recipe_of(generator: Generator) -> Recipe:
    """The recipe for ``generator``, found by measurement; that of a ``StyleGAN`` is the one of the zoo's faces.

    With ``learning_rate=0.02`` and ``penalty=1.0`` faces come out much better in the same time (docs/results/faces.md).
    """
    return Recipe(betas=(0.0, 0.99), penalty=0.1) if isinstance(generator, StyleGAN) else Recipe()


def groups_of(network: nn.Module) -> list[dict[str, Any]]:
    """The parameters of ``network`` for an optimiser, in groups of equal ``factor`` on the learning rate."""
    if not isinstance(network, (StyleGAN, StyleDiscriminator)):
        return [{"params": list(network.parameters()), "factor": 1.0}]
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter, factor in network.learning_rate_factors().items():
        groups.setdefault(factor, []).append(parameter)
    return [{"params": parameters, "factor": factor} for factor, parameters in groups.items()]


__all__ = [
    "ARCHITECTURES",
    "DCGAN",
    "Discriminator",
    "Generator",
    "PointDiscriminator",
    "PointGenerator",
    "Recipe",
    "StyleDiscriminator",
    "StyleGAN",
    "build",
    "evaluate",
    "groups_of",
    "matching_discriminator",
    "recipe_of",
]
