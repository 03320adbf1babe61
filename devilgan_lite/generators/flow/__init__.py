"""The family of rectified flows: a latent of the picture's size moves, in a few steps, to a picture."""

from devilgan_lite.generators.flow.network import RectifiedFlow

__all__ = ["RectifiedFlow"]
