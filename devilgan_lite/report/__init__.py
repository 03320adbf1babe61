"""What a scan says, once: the verdicts, the report as HTML and as SARIF, and the drawings in it.

It reads plain data that a jailed process made, so every word in it may be an attacker's. Imports neither torch nor
numpy.
"""

from devilgan_lite.report.html import badge, fragment, page
from devilgan_lite.report.plots import strength_words
from devilgan_lite.report.safe import figures, image, mapping, number, sequence, text
from devilgan_lite.report.sarif import sarif
from devilgan_lite.report.verdict import VERDICTS, WORST_FIRST, Verdict, verdict_of

__all__ = [
    "VERDICTS",
    "WORST_FIRST",
    "Verdict",
    "badge",
    "figures",
    "fragment",
    "image",
    "mapping",
    "number",
    "page",
    "sarif",
    "sequence",
    "strength_words",
    "text",
    "verdict_of",
]
