"""What a file is, by its content: size, SHA-256 and the first bytes, which is all that the parent of the jail looks at.

Nothing here imports torch or parses anything. A suffix is what somebody wrote on the box; only the content counts.
"""

import re

from devilgan_lite.checks import cut

MOST_LETTERS = 300  # of a refusal


class Refused(ValueError):
    """Why a file is not accepted, and what would be: one sentence of at most 300 characters, on one line."""

    def __init__(self, sentence: str) -> None:
        super().__init__(cut(printable(sentence), MOST_LETTERS - 3))


def printable(text: str) -> str:
    """``text`` on one line, with ``?`` for every character that is not plain: names in a stranger's file are bytes."""
    return re.sub(r"[^ -~]", "?", " ".join(text.split()))
