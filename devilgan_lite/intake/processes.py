"""Processes and open files as /proc shows them, for the supervisor of a jailed run."""

import contextlib
import os
import sys
from pathlib import Path

LINUX = sys.platform == "linux"


def close_others(*kept: int) -> None:
    """Close every file of this process but 0, 1, 2 and ``kept``: a fork inherits those of other runs."""
    for name in os.listdir("/proc/self/fd" if LINUX else "/dev/fd"):  # not up to a limit, which may be 2**30
        if int(name) not in (0, 1, 2, *kept):
            with contextlib.suppress(OSError):  # the list's own
                os.close(int(name))


def processes_below(root: int) -> list[int]:
    """All descendants of a process, by /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if LINUX else ():
        if name.isdigit():
            with contextlib.suppress(OSError):
                children.setdefault(int(stat_of(int(name))[1]), []).append(int(name))
    found, pending = [], [root]
    while pending:
        pending += (more := children.get(pending.pop(), []))
        found += more
    return found


def stat_of(process: int) -> list[str]:
    """/proc/PID/stat from the state on: 1 parent, 11 and 12 ticks, 17 threads, 21 resident pages; ``OSError``."""
    return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()
