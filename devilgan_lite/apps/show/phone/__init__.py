"""A pair of generators as one HTML file, for phones or for a stage: it computes both by itself, in the browser."""

from devilgan_lite.apps.show.phone.building import MOST_BYTES, Pages, page

__all__ = ["MOST_BYTES", "Pages", "page"]
