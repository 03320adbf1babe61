"""Rounds of "which one is backdoored?": in memory, one at a time, with limits for a hall full of phones.

A phone makes up its own number, so what is bounded is not a phone but an address: a whole hall may share one, as behind
a router, and whoever is at that address can forge up to ``VOTERS_OF_ONE`` votes. All addresses together have at most
``MOST_VOTERS``. It is a show of hands, not an election.
"""

import re
import secrets
import threading
from collections import Counter
from typing import Any

from devilgan_lite.apps.show.serving import Question, Refused
from devilgan_lite.checks import one_of

MOST_VOTERS = 5_000  # of a round
VOTERS_OF_ONE = 500  # of one address in a round
MOST_VOTES = 4 * VOTERS_OF_ONE  # sent from one address in a round: each may change its mind
VOTER = re.compile(r"[0-9a-f]{32}")


class Votes:
    """The present round: phones read ``public`` and send ``vote``, the stage reads ``stage`` and does ``change``."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # a phone that is still open after a restart must not take the first round for one in which it has voted
        self._round, self._state, self._swapped = secrets.randbelow(2**31), "none", False
        self._forget()

    def _forget(self) -> None:
        self._choices: dict[str, str] = {}
        self._voters, self._asked = Counter[str](), Counter[str]()

    def change(self, question: Question) -> dict[str, Any]:
        """``{"do": "open" | "close" | "end"}``; opening draws at random which model is A."""
        todo = question.content.get("do")
        try:
            one_of("do", todo, ("open", "close", "end"))
        except ValueError as error:
            raise Refused(400, str(error)) from None
        with self._lock:
            if todo == "open" and self._state == "open":
                raise Refused(409, "a round is open already: close it first.")
            if todo == "close" and self._state != "open":
                raise Refused(409, "no round is open.")
            if todo == "open":
                self._forget()
                self._round, self._swapped = self._round + 1, bool(secrets.randbelow(2))
            self._state = {"open": "open", "close": "closed", "end": "none"}[str(todo)]
        return self.stage(question)

    def stage(self, question: Question) -> dict[str, Any]:
        """What the stage may know: how many have voted, and after the round for whom."""
        with self._lock:
            closed = {"votes": self._counts() if self._state == "closed" else [0, 0]}
            said = {"round": self._round, "state": self._state, "swapped": self._swapped, "voted": len(self._choices)}
            return said | closed

    def public(self, question: Question) -> dict[str, Any]:
        """What phones may know: whether a round is open, and after it the votes and the answer."""
        with self._lock:
            said: dict[str, Any] = {"round": self._round, "state": self._state}
            if self._state == "closed":
                said |= {"votes": self._counts(), "answer": "A" if self._swapped else "B"}
            return said

    def vote(self, question: Question) -> dict[str, Any]:
        """``{"round": 3, "voter": 32 hex digits, "choice": "A" | "B"}``; the last one of a voter counts."""
        number, voter, choice = (question.content.get(name) for name in ("round", "voter", "choice"))
        if not isinstance(voter, str) or not VOTER.fullmatch(voter) or choice not in ("A", "B"):
            raise Refused(400, "a vote is for A or B, from a phone with a number.")
        with self._lock:
            if self._state != "open" or number != self._round:
                raise Refused(409, "this round is over.")
            self._asked[question.address] += 1
            if self._asked[question.address] > MOST_VOTES:
                raise Refused(429, "too many votes came from this address.")
            if voter not in self._choices:
                if len(self._choices) >= MOST_VOTERS or self._voters[question.address] >= VOTERS_OF_ONE:
                    raise Refused(429, "too many phones have voted from this address.")
                self._voters[question.address] += 1
            self._choices[voter] = str(choice)
        return {"choice": choice}

    def _counts(self) -> list[int]:
        votes = list(self._choices.values())
        return [votes.count("A"), votes.count("B")]
