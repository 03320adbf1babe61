"""The process that imports torch once and forks for each run; the jailed child that calls the function.

The zygote never sees a stranger's byte and starts no thread. ``jail.Jail`` starts it and asks it; each fork of it
becomes a ``supervisor.Supervisor``, which forks the child.
"""

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, NoReturn

from devilgan_lite.intake import walls
from devilgan_lite.intake.processes import close_others
from devilgan_lite.intake.supervisor import Supervisor


def main() -> None:
    """Import ``sys.argv[2:]``; fork a supervisor for each connection that comes over the socket ``sys.argv[1]``."""
    control, zygote = socket.socket(fileno=int(sys.argv[1])), os.getpid()
    for name in sys.argv[2:]:
        with contextlib.suppress(ModuleNotFoundError):  # an optional format; the function that needs it says so
            importlib.import_module(name)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
        torch.set_num_interop_threads(1)
    sys.dont_write_bytecode = True
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # supervisors are reaped by the kernel
    gc.collect()
    gc.freeze()
    while (message := socket.recv_fds(control, 1, 1))[0]:  # nothing: the parent is gone
        for line in message[1]:
            with contextlib.suppress(OSError):  # no process to be had: the parent sees its line end
                if os.fork() == 0:
                    try:
                        Supervisor(line, zygote, jailed).run()
                    except BaseException:
                        traceback.print_exc()
                    finally:
                        os._exit(0)
            os.close(line)


def jailed(request: dict[str, Any], apart: str, tells: int, prints: int) -> NoReturn:
    """Raise the walls, call the function of ``request``, tell its answer over the pipe ``tells``, end the process.

    ``apart`` is what ``walls.namespaces()`` said; ``prints`` takes what the function prints.
    """

    def tell(kind: bytes, what: object) -> None:
        text = memoryview(kind + json.dumps(what).encode() + b"\n")
        while text:
            text = text[os.write(tells, text) :]

    try:
        os.setsid()
        if walls.LINUX:
            walls.prctl(walls.PDEATHSIG, signal.SIGKILL)
            with contextlib.suppress(OSError):
                Path("/proc/self/oom_score_adj").write_text("1000")  # short of memory, the system ends this first
        null = os.open(os.devnull, os.O_RDONLY)
        for file, number in ((null, 0), (prints, 1), (prints, 2)):
            os.dup2(file, number)
        close_others(tells)
        scratch = Path(request["scratch"])
        os.chdir(scratch)
        os.environ["HOME"] = os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        module, _, name = request["function"].partition(":")
        function = getattr(importlib.import_module(module), name)
        reads = [Path(path) for path in request["reads"]]
        limits = request["limits"]
        tell(b"W", walls.raise_all(reads, scratch, limits, apart=apart, without=request["without"]))
        value = function(request["arguments"], lambda event: tell(b"E", event))
        sys.stdout.flush()
        tell(b"V", value)
    except ValueError as error:
        tell(b"R", str(error))
    except BaseException as error:
        traceback.print_exc()
        short = isinstance(error, MemoryError) or "allocate memory" in str(error)
        tell(b"M" if short else b"F", f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
