"""A game for the end of a workshop: models of unknown status, blue teams that judge them, red teams that make them.

``new_round`` makes the models and seals the key, ``Submission`` holds a blue team's answer, ``check_entry`` a red
team's model, ``score`` opens the key and counts, and ``write_page`` makes the scoreboard.
"""

from devilgan_lite.challenge.board import text, to_rows, write_page
from devilgan_lite.challenge.entries import (
    Submission,
    read_evidence,
    read_submission,
    read_verdicts,
    write_submission,
)
from devilgan_lite.challenge.kit import Kit, new_round, read_kit
from devilgan_lite.challenge.models import FULL, QUICK, Effort
from devilgan_lite.challenge.recipes import HARD, KINDS
from devilgan_lite.challenge.red import Entry, check_entry, read_entries, write_entry
from devilgan_lite.challenge.scoring import Scores, open_key, score

__all__ = [
    "FULL",
    "HARD",
    "KINDS",
    "QUICK",
    "Effort",
    "Entry",
    "Kit",
    "Scores",
    "Submission",
    "check_entry",
    "new_round",
    "open_key",
    "read_entries",
    "read_evidence",
    "read_kit",
    "read_submission",
    "read_verdicts",
    "score",
    "text",
    "to_rows",
    "write_entry",
    "write_page",
    "write_submission",
]
