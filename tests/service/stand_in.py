"""A check that takes milliseconds, for tests of the service: what is in the file says what it does.

``steps 5``: five findings, 50 ms apart. ``bomb``: it takes its worker along. ``fail``: it raises. ``sleep``: it works
until it is cancelled. ``odd``: text and numbers that no database takes. Whatever it says, its hash is added to the
file that STAND_IN_LEDGER names.
"""

import hashlib
import os
import signal
import time
from pathlib import Path
from typing import Any

DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


class Options(dict):  # type: ignore[type-arg]
    """As given."""


def finding(number: int, strength: float = 0.2) -> dict[str, Any]:
    return {
        "detector": f"detector {number}",
        "access_level": "T2",
        "ran": True,
        "evidence": "spectrum",
        "strength": strength,
        "message": f"looked at {number} directions <b>of the first layer</b>",
        "seconds": 0.05,
    }


def check(path: Path, options: Options, *, jail: Any, name: str, on_event: Any, cancelled: Any) -> dict[str, Any]:
    """A report in format 1."""
    content = path.read_bytes()
    word, _, rest = content[:200].decode("latin-1").strip().partition(" ")
    if ledger := os.environ.get("STAND_IN_LEDGER"):
        with open(ledger, "a", encoding="utf-8") as file:
            file.write(f"{hashlib.sha256(content).hexdigest()}\n")
    if word == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "fail":
        raise KeyError("content of a stranger's file")
    on_event({"event": "opened", "format": "onnx", "model": {"architecture": "stand-in"}})
    steps = 2**31 if word == "sleep" else int(rest.split()[0]) if word == "steps" else 1
    for step in range(steps):
        if cancelled():
            raise InterruptedError
        on_event({"event": "finding", **finding(step, 1.5 if step == 1 else 0.2)})
        time.sleep(0.05)
    if word == "odd":  # what a stranger's file may lead to
        return {"verdict": "clean", "sentence": "a\0b\ud800", "score": float("nan"), "list": (float("inf"), "\udfff")}
    detectors = [{"name": f"detector {step}", "says": "looks", **finding(step)} for step in range(steps)]
    return {
        "format": 1,
        "tool": "stand-in",
        "verdict": "suspicious",
        "sentence": "The weights point somewhere.",
        "file": {
            "name": name,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
            "format": "onnx",
        },
        "model": None,
        "scan": None,
        "detectors": detectors,
        "pictures": {"samples": DOT, "witness": DOT, "witness_twin": DOT, "estimate": None},
        "not_tried": ["Everything."],
        "settings": dict(options),
        "command": f"devilgan scan {name}",
        "seconds": 0.1,
        "jail": None,
    }
