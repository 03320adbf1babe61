"""Who works on a job: a name of this process that no other has had, and whether such a process is gone.

A process id comes again, so the name also holds when the process started; and it holds the machine and its space of
process ids, so that nobody judges a process that he cannot see. Without ``/proc`` only a lease's end tells.
"""

import os
import socket
from pathlib import Path


def _place() -> str:
    try:
        return f"{socket.gethostname()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def _started(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()  # a name may hold spaces
    except OSError:
        return ""
    return "" if words[0] in "ZX" else words[19]  # a zombie works no more


def own_name() -> str:
    """The name of this process as a worker."""
    return f"{_place()} {os.getpid()} {_started(os.getpid())}"


def is_gone(worker: str) -> bool:
    """Whether ``worker`` was a process of this machine and is gone; False where that cannot be known."""
    place, _, rest = worker.partition(" ")
    pid, _, started = rest.partition(" ")
    return place == _place() and bool(started) and _started(int(pid)) != started
