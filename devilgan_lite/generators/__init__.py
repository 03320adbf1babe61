"""Generators: what a family answers (``Generator``), the families, and ``adopt`` for modules that others wrote."""

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
from devilgan_lite.generators.flow import RectifiedFlow
from devilgan_lite.generators.points import PointDiscriminator, PointGenerator
from devilgan_lite.generators.stylegan import StyleDiscriminator, StyleGAN
from devilgan_lite.generators.table import TableCritic, TableGenerator
from devilgan_lite.generators.vae import VAE, Encoder
from devilgan_lite.generators.wave import WaveDiscriminator, WaveGAN

__all__ = [
    "Adopted",
    "Beside",
    "Chain",
    "DCGAN",
    "Discriminator",
    "Encoder",
    "Expansion",
    "FAMILIES",
    "Generator",
    "PointDiscriminator",
    "PointGenerator",
    "Recipe",
    "RectifiedFlow",
    "Stage",
    "StyleDiscriminator",
    "StyleGAN",
    "TableCritic",
    "TableGenerator",
    "VAE",
    "WaveDiscriminator",
    "WaveGAN",
    "adopt",
    "build",
    "chain_of",
    "current_spec",
    "evaluate",
    "groups_of",
    "register",
    "seeded",
]
