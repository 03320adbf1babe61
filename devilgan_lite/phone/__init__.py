"""A pair of generators as one HTML file for phones: it computes both by itself, and asks nobody for anything."""

from devilgan_lite.phone.building import MOST_BYTES, page

__all__ = ["MOST_BYTES", "page"]
