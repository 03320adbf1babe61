"""The report of a scan as HTML: one design for the notebook, the command line and the service.

It reads plain data that a jailed process made, so every word in it may be an attacker's: text is escaped, a number
must be a number, a picture must be a PNG. No script, no link, nothing is loaded. Imports neither torch nor numpy.
"""

from devilgan_lite.markup.parts import band, cards, fragment, pair, scrolling, sentences, table, tiles, verdict_of
from devilgan_lite.markup.safe import figures, image, mapping, number, sequence, text
from devilgan_lite.markup.style import STYLE

__all__ = [
    "STYLE",
    "band",
    "cards",
    "figures",
    "fragment",
    "image",
    "mapping",
    "number",
    "pair",
    "scrolling",
    "sentences",
    "sequence",
    "table",
    "text",
    "tiles",
    "verdict_of",
]
