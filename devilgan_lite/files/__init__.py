"""A stranger's file as a module: one door, ``files.open``. A file is read as data; nothing in it is executed."""

import importlib
from typing import Any

_HOME = {
    "Facts": "sniff",
    "FORMATS": "sniff",
    "Format": "sniff",
    "Refused": "sniff",
    "Origin": "opening",
    "export": "exporting",
    "open": "opening",
}

__all__ = ["FORMATS", "Facts", "Format", "Origin", "Refused", "export", "open"]


def __getattr__(name: str) -> Any:
    """Import what is asked for, when it is asked for: the parent of the jail needs no torch."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
