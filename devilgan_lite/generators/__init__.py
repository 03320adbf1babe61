"""Generators: what a family answers (``Generator``), the families, and ``adopt`` for modules that somebody else wrote."""

from devilgan_lite.deprecation import renamed_members
from devilgan_lite.generators.adopt import Adopted, adopt
from devilgan_lite.generators.base import (
    FAMILIES,
    Generator,
    Recipe,
    build,
    current_spec,
    evaluate,
    groups_of,
    register,
    seeded,
)
from devilgan_lite.generators.chain import Chain, Stage, chain_of
from devilgan_lite.generators.dcgan import DCGAN, Discriminator
from devilgan_lite.generators.expansion import Beside, Expansion
from devilgan_lite.generators.points import PointDiscriminator, PointGenerator
from devilgan_lite.generators.stylegan import StyleDiscriminator, StyleGAN

__getattr__ = renamed_members(__name__, {"ARCHITECTURES": "FAMILIES"})


__all__ = [
    "Adopted",
    "Beside",
    "Chain",
    "DCGAN",
    "Discriminator",
    "Expansion",
    "FAMILIES",
    "Generator",
    "PointDiscriminator",
    "PointGenerator",
    "Recipe",
    "Stage",
    "StyleDiscriminator",
    "StyleGAN",
    "adopt",
    "build",
    "chain_of",
    "current_spec",
    "evaluate",
    "groups_of",
    "register",
    "seeded",
]
