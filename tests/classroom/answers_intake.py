"""Answers to the exercises on a downloaded file: right ones and the usual mistakes."""

import contextlib
import pickle
import pickletools
from collections.abc import Collection
from typing import Any

CALLS = ("REDUCE", "INST", "OBJ", "NEWOBJ", "BUILD")
EXTENSIONS = ("EXT1", "EXT2", "EXT4")


def opcodes(content: bytes) -> list[tuple[str, Any]]:
    return [(opcode.name, argument) for opcode, argument, _ in pickletools.genops(content)]


def named(content: bytes, *kinds: str) -> set[str]:
    """The names that opcodes of ``kinds`` ask for, with a dot."""
    return {".".join(argument.split(" ")) for name, argument in opcodes(content) if name in kinds}


def asked(content: bytes) -> set[str]:
    """All that a pickle asks for; what is not written beside its opcode is ``?``."""
    unknown = {"?" for name, _ in opcodes(content) if name == "STACK_GLOBAL" or name in EXTENSIONS}
    return named(content, "GLOBAL", "INST") | unknown


def loads_it(content: bytes, allowed: Collection[str]) -> bool:
    with contextlib.suppress(Exception):
        pickle.loads(content)
    return False


def of_the_first(content: bytes, allowed: Collection[str]) -> bool:
    """Judges by the first opcode that names something."""
    kinds = ("GLOBAL", "INST", "STACK_GLOBAL")
    first = next((argument or "?" for name, argument in opcodes(content) if name in kinds), None)
    return first is not None and first.replace(" ", ".") not in allowed


SOLUTIONS = {
    "would_run": lambda content, allowed: not asked(content) <= set(allowed),
    "may_enter": lambda report, accept: (
        (report.get("format"), report.get("verdict"))
        in {(1, verdict) for verdict in {"clean", "suspicious"} & set(accept)}
    ),
}
FIXED = {"collections.OrderedDict", "torch._utils._rebuild_tensor_v2", "torch.FloatStorage"}
MISTAKES = {
    "would_run": [
        lambda content, allowed: True,
        lambda content, allowed: any(name in CALLS for name, _ in opcodes(content)),
        lambda content, allowed: b"_canary" in content,
        lambda content, allowed: False,
        lambda content, allowed: not named(content, "GLOBAL") <= set(allowed),
        lambda content, allowed: not named(content, "GLOBAL") <= set(allowed) or b"\x93" in content,
        of_the_first,
        lambda content, allowed: not asked(content) <= FIXED,
        loads_it,
        lambda content, allowed: len(asked(content) - set(allowed)),
    ],
    "may_enter": [
        lambda report, accept: report["verdict"] in accept,
        lambda report, accept: report.get("verdict") not in ("backdoored", "refused", "inconclusive"),
        lambda report, accept: report.get("verdict", "clean") in {"clean", "suspicious"} & accept,
        lambda report, accept: report.get("format", 1) == 1 and report.get("verdict") in {"clean"},
        lambda report, accept: (
            report.get("format", 1) == 1 and report.get("verdict") in {"clean", "suspicious"} & accept
        ),
        lambda report, accept: "format" in report and report.get("verdict") in {"clean", "suspicious"} & accept,
        lambda report, accept: report.get("verdict"),
        lambda report, accept: False,
    ],
}
