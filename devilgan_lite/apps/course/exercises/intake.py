"""The exercises of notebook 11: would reading this file run code, and may it enter the repository?

The canaries are harmless: what they would call notes that it was called.
"""

import io
import pickle
import zipfile
from typing import Any

import torch

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, attempt

ALLOWED = frozenset({"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"})
_calls: list[str] = []


def _canary(text: str) -> str:
    """What the canaries ask for; a function that loads them is found out by this."""
    _calls.append(text)
    return text


class _Bird:
    def __reduce__(self) -> tuple[Any, ...]:
        return _canary, ("it ran",)


def _weights() -> bytes:
    """The pickle inside what ``torch.save`` writes of a state_dict."""
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 1).state_dict(), file)
    with zipfile.ZipFile(file) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def _yes_or_no(learner: Learner, *given: Any) -> bool:
    answer = attempt(learner, *given)
    if not isinstance(answer, bool):
        raise NotYet(f"your function returns a {type(answer).__name__}; it must return True or False.")
    return answer


def would_run(learner: Learner) -> str:
    """``would_run(content, allowed)``: the bytes of a pickle, and names such as ``"collections.OrderedDict"``.

    True if loading it would call or import anything that is not ``allowed``. Nothing may be loaded to find out.
    """
    weights, name = _weights(), f"{__name__}\n_canary\n".encode()
    cases = [
        (pickle.dumps({"a": [1, 2.5]}, 2), ALLOWED, False, "a dictionary of numbers asks for nothing: it is data."),
        (weights, ALLOWED, False, "all that a state_dict asks for is allowed: let it through, or nobody can use you."),
        (
            pickle.dumps({"note": f"{__name__} _canary, os.system"}, 2),
            ALLOWED,
            False,
            "a text that mentions os.system runs nothing: look at opcodes, not for words.",
        ),
        (
            pickle.dumps(_Bird(), 2),
            ALLOWED,
            True,
            "a pickle of protocol 2 got through: opcode GLOBAL names a function.",
        ),
        (pickle.dumps(_Bird(), 4), ALLOWED, True, "a pickle of protocol 4 got through: its opcode is STACK_GLOBAL."),
        (b"(S'it ran'\ni" + name + b".", ALLOWED, True, "an old pickle got through: opcode INST names a class, too."),
        (
            b"ccollections\nOrderedDict\n0c" + name + b"(S'it ran'\ntR.",
            ALLOWED,
            True,
            "the first name was allowed and the second was not: look at all of them.",
        ),
        (weights, frozenset(), True, "that list is fixed in your function: use `allowed`."),
    ]
    for content, allowed, right, sentence in cases:
        _calls.clear()
        answer = _yes_or_no(learner, content, allowed)
        if _calls:
            raise NotYet("your function loads the pickle, and the canary ran: read its opcodes instead.")
        if answer != right:
            raise NotYet(sentence)
    return "a list of what is allowed holds where a list of what is forbidden never ends."


def may_enter(learner: Learner) -> str:
    """``may_enter(report, accept)``: a report as a dictionary, and the verdicts that a team accepts, to True or False.

    Only ``clean`` and ``suspicious`` can be accepted at all; a report that is not of format 1, or has no verdict, is
    none.
    """
    clean, careful, bold = {"clean"}, {"clean", "suspicious"}, {"clean", "suspicious", "refused", "inconclusive"}
    cases: list[tuple[dict[str, Any], set[str], bool, str]] = [
        ({"format": 2, "verdict": "clean"}, clean, True, "a clean report is accepted where clean is."),
        ({"format": 2, "verdict": "backdoored"}, careful, False, "a backdoored one must never enter."),
        (
            {"format": 2, "verdict": "suspicious"},
            clean,
            False,
            "suspicious is not in `accept` here: this team wants clean.",
        ),
        (
            {"format": 2, "verdict": "suspicious"},
            careful,
            True,
            "suspicious is in `accept` here: that is the team's choice.",
        ),
        ({"format": 2, "verdict": "refused"}, bold, False, "nothing is known of a refused file, whoever accepts it."),
        (
            {"format": 2, "verdict": "inconclusive"},
            bold,
            False,
            "inconclusive means that a detector had no answer: fail closed.",
        ),
        ({"format": 2}, clean, False, "a report without a verdict is no clean one."),
        ({"verdict": "clean"}, clean, False, "a report without format 2 is none that you can read."),
        ({"format": 3, "verdict": "clean"}, clean, False, "you do not know what clean means in format 3."),
        ({"format": 2, "verdict": "harmless"}, {"harmless"}, False, "harmless is no verdict, whoever accepts it."),
    ]
    for report, accept, right, sentence in cases:
        if _yes_or_no(learner, dict(report), set(accept)) != right:
            raise NotYet(sentence)
    return "whatever the rule does not know stays outside."
