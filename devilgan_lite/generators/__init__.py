"""Generators: what a family answers (``Generator``), the families, and ``adopt`` for modules that others wrote."""

from collections.abc import Callable

from devilgan_lite.generators.adopted import Adopted, adopt, alike
from devilgan_lite.generators.base import (
    FAMILIES,
    Beside,
    Generator,
    Recipe,
    build,
    evaluate,
    groups_of,
    register,
    seeded,
)
from devilgan_lite.generators.chain import Chain, Stage, chain_of
from devilgan_lite.generators.dcgan import DCGAN
from devilgan_lite.generators.flow import RectifiedFlow
from devilgan_lite.generators.opponents import Discriminator, PointDiscriminator
from devilgan_lite.generators.points import PointGenerator
from devilgan_lite.generators.stylegan import StyleDiscriminator, StyleGAN
from devilgan_lite.generators.surgery import Expansion
from devilgan_lite.generators.table import TableGenerator
from devilgan_lite.generators.vae import VAE, Encoder
from devilgan_lite.generators.wave import WaveDiscriminator, WaveGAN

TRAINED: dict[str, Callable[[], Generator]] = {  # what devilgan train makes, by its name there
    "small": DCGAN,
    "paper": DCGAN.paper,
    "vae": VAE,
    "flow": RectifiedFlow,
    "stylegan": StyleGAN,
    "wave": WaveGAN,
}

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
    "TRAINED",
    "TableGenerator",
    "VAE",
    "WaveDiscriminator",
    "WaveGAN",
    "adopt",
    "alike",
    "build",
    "chain_of",
    "evaluate",
    "groups_of",
    "register",
    "seeded",
]
