"""The family of variational autoencoders: the decoder is the generator, the encoder its opponent."""

from devilgan_lite.generators.vae.encoder import Encoder
from devilgan_lite.generators.vae.network import VAE

__all__ = ["VAE", "Encoder"]
