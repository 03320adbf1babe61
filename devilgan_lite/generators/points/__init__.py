"""The family of points in the plane."""

from devilgan_lite.generators.points.network import PointDiscriminator, PointGenerator

__all__ = ["PointDiscriminator", "PointGenerator"]
