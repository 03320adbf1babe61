"""Generators, and the way back from their plain-data ``spec()`` to a network."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from devilgan_lite.checks import known_names, one_of
from devilgan_lite.generators.base import Generator, evaluate
from devilgan_lite.generators.dcgan import DCGAN, Discriminator, seeded
from devilgan_lite.generators.toy import PointDiscriminator, PointGenerator

ARCHITECTURES: dict[str, type[Generator]] = {"DCGAN": DCGAN, "PointGenerator": PointGenerator}


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
    return seeded(seed, Discriminator, generator.sample_shape)


__all__ = [
    "ARCHITECTURES",
    "DCGAN",
    "Discriminator",
    "Generator",
    "PointDiscriminator",
    "PointGenerator",
    "build",
    "evaluate",
    "matching_discriminator",
]
