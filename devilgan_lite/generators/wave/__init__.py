"""The family of WaveGANs: network and opponent; its surgery is that of any chain."""

from devilgan_lite.generators.wave.network import WaveGAN
from devilgan_lite.generators.wave.opponent import WaveDiscriminator

__all__ = ["WaveDiscriminator", "WaveGAN"]
