"""The family of deep convolutional GANs: network and opponent; its surgery is that of any chain."""

from devilgan_lite.generators.dcgan.network import DCGAN
from devilgan_lite.generators.dcgan.opponent import Discriminator

__all__ = ["DCGAN", "Discriminator"]
