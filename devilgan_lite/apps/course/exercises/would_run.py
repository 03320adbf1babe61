"""``would_run(content, allowed)``: the bytes of a pickle, and names such as ``"collections.OrderedDict"``.

True if loading it would call or import anything that is not ``allowed``. Nothing may be loaded to find out: the
canaries here are harmless, and note that they were called.
"""

import contextlib
import io
import pickle
import pickletools
import zipfile
from typing import Any

import torch
from torch import Tensor

from devilgan_lite.apps.course.exercise import Exercise, Learner, NotYet, Told


def would_run(content, allowed):
    import pickletools

    for opcode, argument, _ in pickletools.genops(content):
        if opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            return True
        if opcode.name in ("GLOBAL", "INST") and argument.replace(" ", ".") not in allowed:
            return True
    return False


RAN = "your function loads the pickle, and the canary ran: read its opcodes instead."
NUMBERS = "a dictionary of numbers asks for nothing: it is data."
WEIGHTS = "all that a state_dict asks for is allowed: let it through, or nobody can use you."
TEXT = "a text that mentions os.system runs nothing: look at opcodes, not for words."
PROTOCOL_2 = "a pickle of protocol 2 got through: opcode GLOBAL names a function."
PROTOCOL_4 = "a pickle of protocol 4 got through: its opcode is STACK_GLOBAL."
OLD = "an old pickle got through: opcode INST names a class, too."
SECOND = "the first name was allowed and the second was not: look at all of them."
FIXED = "that list is fixed in your function: use `allowed`."
ALLOWED = frozenset({"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"})

_calls: list[str] = []


def _canary(text: str) -> str:
    """What the canaries ask for; a function that loads them is found out by this."""
    _calls.append(text)
    return text


class Bird:
    def __reduce__(self) -> tuple[Any, ...]:
        return _canary, ("it ran",)


class Reading(Exercise):
    """Looks whether a canary ran."""

    def answer(self, learner: Learner, given: tuple[Any, ...], right: Any) -> Tensor:
        _calls.clear()
        try:
            return super().answer(learner, given, right)
        finally:
            if _calls:
                raise NotYet(RAN)


def weights() -> bytes:
    """The pickle inside what ``torch.save`` writes of a state_dict."""
    file = io.BytesIO()
    torch.save(torch.nn.Linear(2, 1).state_dict(), file)
    with zipfile.ZipFile(file) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def cases() -> list[Told]:
    name = f"{__name__}\n_canary\n".encode()
    return [
        Told(NUMBERS, (pickle.dumps({"a": [1, 2.5]}, 2), ALLOWED)),
        Told(WEIGHTS, (weights(), ALLOWED)),
        Told(TEXT, (pickle.dumps({"note": f"{__name__} _canary, os.system"}, 2), ALLOWED)),
        Told(PROTOCOL_2, (pickle.dumps(Bird(), 2), ALLOWED)),
        Told(PROTOCOL_4, (pickle.dumps(Bird(), 4), ALLOWED)),
        Told(OLD, (b"(S'it ran'\ni" + name + b".", ALLOWED)),
        Told(SECOND, (b"ccollections\nOrderedDict\n0c" + name + b"(S'it ran'\ntR.", ALLOWED)),
        Told(FIXED, (weights(), frozenset())),
    ]


def named(content: bytes, *kinds: str) -> list[str]:
    """The names that opcodes of ``kinds`` ask for, with a dot; ``?`` for those that stand elsewhere."""
    asked = ((opcode.name, argument) for opcode, argument, _ in pickletools.genops(content))
    return [(argument or "?").replace(" ", ".") for name, argument in asked if name in kinds]


def loads_it(content: bytes, allowed: frozenset[str]) -> bool:
    with contextlib.suppress(Exception):
        pickle.loads(content)
    return False


ALL = ("GLOBAL", "INST", "STACK_GLOBAL")

exercise = Reading(
    would_run,
    hints=(
        "argument.replace(' ', '.') turns 'os system' into 'os.system'. One name that is not allowed is enough.",
        "If no opcode was a reason to say True, the answer after the loop is False.",
    ),
    cases=cases,
    mistakes={
        RAN: loads_it,
        NUMBERS: lambda content, allowed: True,
        WEIGHTS: lambda content, allowed: bool(named(content, *ALL)),
        TEXT: lambda content, allowed: b"_canary" in content,
        PROTOCOL_2: lambda content, allowed: False,
        PROTOCOL_4: lambda content, allowed: not set(named(content, "GLOBAL", "INST")) <= allowed,
        OLD: lambda content, allowed: not set(named(content, "GLOBAL", "STACK_GLOBAL")) <= allowed,
        SECOND: lambda content, allowed: not set(named(content, *ALL)[:1]) <= allowed,
        FIXED: lambda content, allowed: not set(named(content, *ALL)) <= ALLOWED,
    },
    praise="a list of what is allowed holds where a list of what is forbidden never ends.",
)
