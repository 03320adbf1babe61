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
Options = dict


def check(path: Path, options: Any, *, jail: Any, name: str, on_event: Any, cancelled: Any) -> dict[str, Any]:
    """A report in format 1."""
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    word, _, rest = content[:200].decode("latin-1").strip().partition(" ")
    if ledger := os.environ.get("STAND_IN_LEDGER"):
        with open(ledger, "a", encoding="utf-8") as file:
            file.write(f"{sha256}\n")
    if word == "bomb":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == "fail":
        raise KeyError("content of a stranger's file")
    on_event({"event": "opened", "format": "onnx", "model": {"architecture": "stand-in"}})
    found: list[dict[str, Any]] = []
    for step in range(2**31 if word == "sleep" else int(rest.split()[0]) if word == "steps" else 1):
        if cancelled():
            raise InterruptedError
        message, strength = f"looked at {step} directions <b>of the first layer</b>", 1.5 if step == 1 else 0.2
        found.append({"detector": f"detector {step}", "access_level": "T2", "ran": True, "evidence": "spectrum"})
        found[-1] |= {"strength": strength, "message": message, "seconds": 0.05}
        on_event({"event": "finding", **found[-1]})
        time.sleep(0.05)
    if word == "odd":  # what a stranger's file may lead to
        return {"verdict": "clean", "sentence": "a\0b\ud800", "score": float("nan"), "list": (float("inf"), "\udfff")}
    report = {"format": 2, "tool": "stand-in", "verdict": "suspicious", "sentence": "The weights point somewhere."}
    report |= dict.fromkeys(("model", "jail"))
    return report | {
        "file": {"name": name, "bytes": len(content), "sha256": sha256, "format": "onnx"},
        "findings": [{"asks": "looks", **one, "strength": 0.2} for one in found],
        "pictures": {"samples": DOT, "witness": DOT, "witness_twin": DOT, "estimate": None},
        "not_tried": ["Everything."],
        "settings": dict(options),
        "command": f"devilgan scan {name}",
        "seconds": 0.1,
    }
