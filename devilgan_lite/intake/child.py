"""The jail, from the side of the child: three kinds of process, each of them a fork of the one before.

The zygote imports torch once, never sees a stranger's byte and starts no thread. Each fork of it is a supervisor, which
relays what one jailed child tells, watches clock, memory, processes and files, and ends it. The supervisor trusts
nothing that the child says and leaves nothing of it behind. It is a process of its own, so even a stranger who took it
over would not be in the parent. The child raises the walls (see ``walls.py``) and calls the function.
"""

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from devilgan_lite.files.sniff import Refused
from devilgan_lite.intake import walls
from devilgan_lite.intake.jail import MOST_LAST

POLL_SECONDS, GRACE_SECONDS, SEND_SECONDS = 0.05, 0.5, 600.0
MOST_EVENTS, MOST_FILES = 10_000, 1_000
MOST_ITEMS, MOST_DEPTH = 500_000, 64  # in one line of JSON: 32 MiB of "[]," would be a GiB of lists
PAGE, TICK = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


# --- the zygote ---------------------------------------------------------------------------------------------------
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
                        Supervisor(line, zygote).run()
                    except BaseException:
                        traceback.print_exc()
                    finally:
                        os._exit(0)
            os.close(line)


# --- the supervisor -----------------------------------------------------------------------------------------------
class Supervisor:
    """One run: forks the child, relays, watches, ends it. It trusts its request and nothing that the child says."""

    def __init__(self, line: int, zygote: int) -> None:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        close_others(line)
        self.zygote, self.line = zygote, socket.socket(fileno=line)
        self.line.sendall(b"P%d\n" % os.getpid())
        with self.line.makefile("rb") as reader:
            self.request: dict[str, Any] = json.loads(reader.readline())
        self.limits: dict[str, Any] = self.request["limits"]
        self.too_large = f"it used more than {size(self.limits['memory_bytes'])} of memory."
        self.scratch = Path(self.request["scratch"])
        self.start, self.walls = time.monotonic(), dict[str, str]()
        self.incoming, self.outgoing = bytearray(), bytearray()
        self.answered, self.received, self.events, self.peak = False, 0, 0, 0
        self.last = b""  # of what was printed
        self.ended: tuple[str, str] | None = None  # how, and the sentence

    def run(self) -> None:
        without, apart = self.request["without"], "left out"
        if walls.LINUX:
            walls.prctl(walls.CHILD_SUBREAPER, 1)
        if "namespaces" not in without:
            apart = walls.namespaces()
        self.before = self._walk()
        (told, tells), (printed, prints) = os.pipe(), os.pipe()
        self.child = self.group = os.fork()
        if self.child == 0:
            jailed(self.request, apart, tells, prints)
        os.close(tells)
        os.close(prints)
        try:
            self._watch(told, printed)
        except Exception as error:
            traceback.print_exc()
            self.ended = ("crashed", f"its supervisor failed: {type(error).__name__}.")
        finally:
            self._end_all()
        with contextlib.suppress(BlockingIOError):
            self._keep(printed)
        how, sentence = self.ended or ("finished", "")
        done = {"how": how, "sentence": sentence, "walls": self.walls, "peak_bytes": self.peak}
        last = self.last if self.request["traceback"] else b""
        done |= {"seconds": time.monotonic() - self.start, "last": last.decode("utf-8", "replace")}
        self._relay(b"D", done)
        self.line.settimeout(SEND_SECONDS)
        with contextlib.suppress(OSError):  # nobody listens any more
            self.line.sendall(self.outgoing)

    # --- what the child tells ---
    def _watch(self, told: int, printed: int) -> None:
        """Relay until the run has an answer or is over; sets ``ended`` unless it finished."""
        open_until, next_poll = float("inf"), 0.0
        poller = select.poll()
        for file in (told, printed):
            os.set_blocking(file, False)
            poller.register(file, select.POLLIN)
        self.line.setblocking(False)
        while not (self.answered or self.ended):
            poller.register(self.line, select.POLLIN | (select.POLLOUT if self.outgoing else 0))
            ready = dict(poller.poll(1000 * POLL_SECONDS))
            now = time.monotonic()
            if told in ready and not self._receive(told):
                poller.unregister(told)  # it ended, or closed its line and goes on: it gets a moment to end
                open_until = now + GRACE_SECONDS
            if printed in ready and not self._keep(printed):
                poller.unregister(printed)
            events = ready.get(self.line.fileno(), 0)
            try:
                if events & select.POLLOUT:
                    del self.outgoing[: self.line.send(self.outgoing)]
                gone = events & ~select.POLLOUT and not self.line.recv(1)
            except OSError:
                gone = True
            if gone:  # the parent hung up, or ended
                self.ended = ("cancelled", "it was cancelled.")
            if now >= next_poll and not (self.answered or self.ended):
                next_poll = now + POLL_SECONDS
                self._poll(now, told)
                if now > open_until and not (self.answered or self.ended):
                    self.ended = ("crashed", "the process closed its line without an answer.")

    def _receive(self, told: int) -> int:
        """Take what is in the pipe; returns how many bytes came."""
        chunk = os.read(told, 2**16)
        self.incoming += chunk
        self.received += len(chunk)
        if self.received > self.limits["answer_bytes"]:
            self.ended = ("killed", f"it sent more than {size(self.limits['answer_bytes'])}.")
        elif b"\n" in chunk:
            *lines, self.incoming = self.incoming.split(b"\n")
            for line in lines:
                self._take(bytes(line))
        return len(chunk)

    def _keep(self, printed: int) -> int:
        """Keep the last of what the child prints; returns how many bytes came."""
        text = os.read(printed, 2**16)
        self.last = (self.last + text)[-MOST_LAST:]
        return len(text)

    def _take(self, line: bytes) -> None:
        """One line of the child: W walls (the first one, before it opens anything), E event, or its answer."""
        if self.ended or self.answered:
            return
        kind, text = line[:1], line[1:]
        try:
            found = plain(text)
            if kind == b"W" and not self.walls:
                self.walls = {str(name): str(wall) for name, wall in found.items()}
            elif kind == b"E" and isinstance(found, dict):
                self.events += 1
                self._relay(kind, found)
                if self.events > MOST_EVENTS:
                    self.ended = ("killed", f"it sent more than {MOST_EVENTS:,} events.")
            elif kind == b"V" and isinstance(found, dict):
                self.answered = True
                self._relay(kind, found)
            elif kind in (b"R", b"F") and isinstance(found, str):
                self.ended = ("refused" if kind == b"R" else "failed", str(Refused(found)))
            elif kind == b"M":
                self.ended = ("killed", self.too_large)
            else:
                raise ValueError("unknown")
        except (AttributeError, ValueError):
            self.ended = ("crashed", "the process sent a line that is no event and no answer.")

    def _relay(self, kind: bytes, what: Any) -> None:
        self.outgoing += kind + json.dumps(what).encode() + b"\n"

    # --- what it takes ---
    def _poll(self, now: float, told: int) -> None:
        """Look at clock, processor, memory, processes and files; sets ``ended`` where a limit is passed."""
        limits = self.limits
        seconds = resident = threads = written = 0.0
        alone = self.walls.get("processes") == walls.STOOD
        for process in [self.child, *(() if alone else processes_below(self.child))]:
            with contextlib.suppress(OSError, IndexError, ValueError):
                stat = stat_of(process)
                seconds += (int(stat[11]) + int(stat[12])) / TICK
                threads += int(stat[17])
                resident += int(stat[21]) * PAGE
                counts = dict(row.split(b": ") for row in Path(f"/proc/{process}/io").read_bytes().splitlines())
                written += max(int(counts[b"wchar"]), int(counts[b"write_bytes"])) - self.received
        self.peak = max(self.peak, int(resident))
        (files, stored), most_bytes = self._walk(), 2 * limits["file_bytes"]
        finished, status, usage = os.wait4(self.child, os.WNOHANG)
        if finished:
            with contextlib.suppress(BlockingIOError):  # what it said before it ended
                while self._receive(told):
                    pass
            self._exited(status, usage.ru_maxrss)
            return
        passed = {
            f"it ended after its limit of {limits['wall_seconds']:,g} s.": now - self.start > limits["wall_seconds"],
            f"it used its {limits['cpu_seconds']:,g} s of processor time.": seconds > limits["cpu_seconds"],
            self.too_large: resident > limits["memory_bytes"],
            f"it started more than {limits['processes']} processes or threads.": threads > limits["processes"],
            f"it wrote more than {size(most_bytes)}.": max(written, stored - self.before[1]) > most_bytes,
            f"it made more than {MOST_FILES:,} files.": files - self.before[0] > MOST_FILES,
        }
        for sentence, over in passed.items():
            if over:
                self.ended = ("killed", sentence)
                return
        if os.getppid() != self.zygote:
            self.ended = ("crashed", "the process that starts the runs was ended from outside.")

    def _exited(self, status: int, resident: int) -> None:
        self.child = 0
        self.peak = max(self.peak, resident * (1024 if walls.LINUX else 1))
        if self.answered or self.ended:
            return
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
            outside = ", perhaps by the system for lack of memory" if number == signal.SIGKILL else ""
            self.ended = ("crashed", f"the process crashed ({name}{outside}).")
        else:
            self.ended = ("crashed", f"the process ended without an answer (exit status {os.WEXITSTATUS(status)}).")

    def _walk(self) -> tuple[int, int]:
        """Files and bytes below the scratch folder; stops when there are too many."""
        files = stored = 0
        pending = [str(self.scratch)]
        while pending and files <= 2 * MOST_FILES:
            try:
                with os.scandir(pending.pop()) as entries:
                    for entry in entries:
                        files += 1
                        with contextlib.suppress(FileNotFoundError):
                            stored += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
            except FileNotFoundError:
                continue
            except OSError:  # a path too long or a folder closed to us: nothing that a check makes
                return 2 * MOST_FILES, stored
        return files, stored

    def _end_all(self) -> None:
        """Kill the child and all that it started, until none is left; orphans come to us, the subreaper."""
        until = time.monotonic() + 10
        doomed = [self.child] if self.child else []
        if not walls.LINUX:  # no subreaper: its group is what we can reach
            with contextlib.suppress(OSError):
                os.killpg(self.group, signal.SIGKILL)
        while time.monotonic() < until:
            for process in doomed:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(process, signal.SIGKILL)
            try:
                finished, _, usage = os.wait4(-1, os.WNOHANG)
                while finished:
                    if finished == self.child:
                        self.peak = max(self.peak, usage.ru_maxrss * (1024 if walls.LINUX else 1))
                    finished, _, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            time.sleep(0.001)
            doomed = processes_below(os.getpid()) or doomed


def size(number: float) -> str:
    """A number of bytes for a sentence, such as ``8 GiB``."""
    return f"{number / 2**30:.3g} GiB" if number >= 2**30 else f"{number / 2**20:.3g} MiB"


def plain(text: bytes) -> Any:
    """JSON of a child that may be hostile; ``ValueError`` if it is malformed, deep, or much larger in memory.

    NaN and infinity become null, so that whoever passes it on has valid JSON.
    """
    if sum(map(text.count, (b",", b"[", b"{"))) > MOST_ITEMS:
        raise ValueError("too many items")
    try:
        found = json.loads(text, parse_constant=lambda name: None)
        json.dumps(found, ensure_ascii=False, allow_nan=False).encode()  # lone surrogates and 1e999 end here
    except (RecursionError, MemoryError, ValueError):
        raise ValueError("malformed") from None
    level = [found]
    for _ in range(MOST_DEPTH):
        parents = [list(one.values()) if isinstance(one, dict) else one for one in level]
        if not (level := [one for parent in parents if isinstance(parent, list) for one in parent]):
            return found
    raise ValueError("too deep")


def close_others(*kept: int) -> None:
    """Close every file of this process but 0, 1, 2 and ``kept``: a fork inherits those of other runs."""
    for name in os.listdir("/proc/self/fd" if walls.LINUX else "/dev/fd"):  # not up to a limit, which may be 2**30
        if int(name) not in (0, 1, 2, *kept):
            with contextlib.suppress(OSError):  # the list's own
                os.close(int(name))


def processes_below(root: int) -> list[int]:
    """All descendants of a process, by /proc; empty where there is none."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if walls.LINUX else ():
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


# --- the child ----------------------------------------------------------------------------------------------------
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
        function, reads = pkgutil.resolve_name(request["function"]), [Path(path) for path in request["reads"]]
        tell(b"W", walls.raise_all(reads, scratch, request["limits"], apart=apart, without=request["without"]))
        value = function(request["arguments"], lambda event: tell(b"E", event))
        sys.stdout.flush()
        tell(b"V", value)
    except BaseException as error:
        traceback.print_exc()
        short = isinstance(error, MemoryError) or "allocate memory" in str(error)
        if isinstance(error, ValueError):
            tell(b"R", str(error))
        else:
            tell(b"M" if short else b"F", f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()
