"""A game for the end of a workshop: blue teams judge models of unknown status, red teams make backdoored ones.

``new_round`` makes the models and seals the key, ``Submission`` holds a blue team's answer, ``check_entry`` checks a
red team's model, ``open_key`` and ``score`` end the round, and ``write_page`` writes the scoreboard.
"""

from devilgan_lite.apps.game.board import text, to_rows, write_page
from devilgan_lite.apps.game.entries import Submission, read_evidence, read_submission, read_verdicts, write_submission
from devilgan_lite.apps.game.kit import Kit, new_round, read_kit
from devilgan_lite.apps.game.looks import first_look, latent_of, verdict_of
from devilgan_lite.apps.game.models import FULL, QUICK, Effort
from devilgan_lite.apps.game.red import Entry, check_entry, hidden, read_entries, write_entry
from devilgan_lite.apps.game.roster import HARD, KINDS
from devilgan_lite.apps.game.scoring import Scores, open_key, score

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
    "first_look",
    "hidden",
    "latent_of",
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
    "verdict_of",
    "write_entry",
    "write_page",
    "write_submission",
]
