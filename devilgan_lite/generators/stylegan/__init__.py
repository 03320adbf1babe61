"""The family of style-based generators: network, layers, opponent, surgery."""

from devilgan_lite.generators.stylegan.network import StyleGAN
from devilgan_lite.generators.stylegan.opponent import StyleDiscriminator

__all__ = ["StyleDiscriminator", "StyleGAN"]
