"""The jail, from the side of the parent: run a function on a stranger's file in a process that can do no harm.

The parent imports no torch and parses no file. One ``Jail`` holds one zygote (see ``child.py``); each run forks a
child of it behind walls (see ``walls.py``), and ends: a crash, a hang or a lack of memory is an ``Ended``, never ours.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from devilgan_lite.checks import cut, in_range, whole_number
from devilgan_lite.environment import DEFAULTS
from devilgan_lite.files.sniff import FORMATS

How = Literal["finished", "refused", "failed", "killed", "crashed", "cancelled"]
START_SECONDS = 120.0  # the zygote imports torch; a cold disk is slow
LATE_SECONDS = 10.0  # after its limit a supervisor has this long to end its run
MOST_LAST = 4_000  # characters of what a child printed
KEPT = ("PATH", "HOME", "LANG", "TMPDIR", "DEVILGAN_DATA", "DEVILGAN_CACHE")  # of the environment; no secrets
READERS = tuple(one.reader.partition(":")[0] for one in FORMATS.values() if isinstance(one.reader, str))
IMPORTS = (
    "devilgan_lite.files.opening",
    *READERS,
    "devilgan_lite.intake.check",
    "devilgan_lite.detect",
    "onnx",
    "h5py",
)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a run may take: seconds, bytes, and processes and threads together.

    ``file_bytes`` is for each file; all files together may have twice that. ``answer_bytes`` holds for the JSON of
    all events and the answer.
    """

    wall_seconds: float = 1800.0
    cpu_seconds: float = 3600.0
    memory_bytes: int = 8 * 2**30
    file_bytes: int = 2 * 2**30
    processes: int = 64
    answer_bytes: int = 32 * 2**20

    def __post_init__(self) -> None:
        for name in ("wall_seconds", "cpu_seconds"):
            in_range(name, getattr(self, name), 0.0, 1e6, open_low=True)
        for name in ("memory_bytes", "file_bytes", "processes", "answer_bytes"):
            whole_number(name, getattr(self, name), 1, 2**50)


@dataclass(frozen=True)
class Ended:
    """How a run ended. ``sentence`` says why, and is empty when it finished; ``value`` is what the function returned.

    ``walls`` maps each wall to ``"stood"`` or to why it did not. ``peak_bytes`` counts the libraries, too. ``last`` is
    what the process printed last, such as its traceback: up to 4,000 characters, plain ones and ends of lines.
    """

    how: How
    sentence: str = ""
    value: dict[str, Any] | None = None
    walls: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    peak_bytes: int = 0
    last: str = ""


class Jail:
    """Holds the zygote; a context manager, and safe to use from several threads at once.

    ``imports`` are the modules that the zygote loads before its first run; one that is not installed is left out.
    With ``traceback`` an ``Ended`` has its ``last``. ``without`` leaves out walls (``"namespaces"``, ``"landlock"``,
    ``"seccomp"``), so that a test can reach the others. Raises ``OSError`` on Windows.
    """

    def __init__(
        self, *, imports: Sequence[str] = IMPORTS, without: Sequence[str] = (), traceback: bool = False
    ) -> None:
        if not hasattr(os, "fork"):
            raise OSError("a stranger's file is opened in a jail, which Windows lacks: use Linux, macOS or WSL.")
        self.imports, self.without, self.traceback = tuple(imports), tuple(without), traceback
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def start(self) -> socket.socket:
        """Start the zygote if none runs, without waiting for its imports. Returns the socket that it listens to."""
        with self._lock:
            if self._control is not None and self._process is not None and self._process.poll() is None:
                return self._control
            self.close()
            self._control, theirs = socket.socketpair()
            paths = [os.path.abspath(path) for path in sys.path if path and os.path.exists(path)]
            paths.append(str(Path(__file__).resolve().parents[2]))
            kept = {one: text for one, text in os.environ.items() if one in (*KEPT, *DEFAULTS) or one[:4] == "OMP_"}
            threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
            own = {"KERAS_BACKEND": "torch", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": os.pathsep.join(paths)}
            with theirs:
                # -P: else Python would look for modules in the current folder first, which may hold downloads.
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "devilgan_lite.intake.child", str(theirs.fileno()), *self.imports],
                    env=DEFAULTS | kept | threads | own,
                    pass_fds=[theirs.fileno()],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    start_new_session=True,
                    cwd="/",
                )
            return self._control

    def close(self) -> None:
        """End the zygote; runs that are still going end as crashed. The next run would start a new one."""
        with self._lock:
            if self._control is not None:
                with contextlib.suppress(OSError):
                    self._control.shutdown(socket.SHUT_RDWR)  # unlike close, it also counts where a fork holds a copy
                self._control.close()
            if self._process is not None:
                try:
                    self._process.wait(LATE_SECONDS)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
            self._control = self._process = None

    def run(
        self,
        function: str,
        arguments: dict[str, Any],
        *,
        reads: Sequence[Path] = (),
        scratch: Path | None = None,
        limits: Limits | None = None,
        on_event: Callable[[dict[str, Any]], object] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Ended:
        """Call ``function`` (``"module:name"``) in a jailed child as ``name(arguments, tell)`` and wait for its end.

        ``arguments``, what it returns and what it tells are dictionaries that JSON can hold. It can read ``reads`` and
        the libraries, and write below ``scratch``, its current folder; without one, it has a temporary folder that is
        removed. ``on_event`` is called with each event; ``cancelled`` is asked ten times a second. What either raises
        ends the run and is passed on.
        """
        limits = limits or Limits()
        if scratch is not None and not scratch.is_dir():
            raise FileNotFoundError(f"no scratch folder {cut(str(scratch))}; make it first.")
        with contextlib.ExitStack() as stack:
            request = {
                "function": function,
                "arguments": arguments,
                "reads": [str(Path(path).resolve()) for path in reads],
                "scratch": str((scratch or stack.enter_context(temporary("devilgan-jail-"))).resolve()),
                "limits": asdict(limits),
                "without": self.without,
                "traceback": self.traceback,
            }
            text = json.dumps(request).encode() + b"\n"
            for _ in range(2):  # a zygote may have been ended since the last run; then a new one takes it
                with self._line(text) as line:
                    if ended := _listen(line, limits, on_event, cancelled):
                        return ended
        return Ended("crashed", "the process that starts the runs did not start or was ended from outside.")

    @contextlib.contextmanager
    def _line(self, request: bytes) -> Iterator[socket.socket]:
        """A line to a supervisor with ``request``; it ends where there is none. Afterwards the run is ended, too."""
        line, theirs = socket.socketpair()
        with line:
            with theirs, contextlib.suppress(OSError):
                socket.send_fds(self.start(), [b"r"], [theirs.fileno()])
            line.settimeout(START_SECONDS)
            with contextlib.suppress(OSError):
                line.sendall(request)
            try:
                yield line
            finally:
                with contextlib.suppress(OSError):
                    line.settimeout(LATE_SECONDS)
                    line.shutdown(socket.SHUT_WR)  # the supervisor learns that nobody listens
                    while line.recv(2**16):
                        pass


def _listen(
    line: socket.socket,
    limits: Limits,
    on_event: Callable[[dict[str, Any]], object] | None,
    cancelled: Callable[[], bool] | None,
) -> Ended | None:
    """Take what the supervisor sends until it says how the run ended; ``None`` if it never began."""
    supervisor, value, buffer = 0, None, bytearray()
    until, asked = time.monotonic() + START_SECONDS, False
    line.settimeout(0.1)
    while True:
        if cancelled is not None and not asked and cancelled():
            with contextlib.suppress(OSError):  # the supervisor is gone
                line.shutdown(socket.SHUT_WR)
            until, asked = min(until, time.monotonic() + LATE_SECONDS), True
        if time.monotonic() > until:
            if supervisor:  # its end of the line is open, so the number is still its own
                os.kill(supervisor, signal.SIGKILL)
            return Ended("killed", "its supervisor did not answer and was ended.")
        try:
            chunk = line.recv(2**16)
        except TimeoutError:
            continue
        except OSError:
            chunk = b""
        if not chunk:
            return Ended("crashed", "its supervisor was ended from outside.") if supervisor else None
        buffer += chunk
        if b"\n" not in chunk:
            continue
        *texts, rest = buffer.split(b"\n")
        buffer = bytearray(rest)
        for text in texts:
            kind, content = text[:1], json.loads(text[1:])
            if kind == b"P":
                supervisor, until = content, time.monotonic() + limits.wall_seconds + LATE_SECONDS
            elif kind == b"E" and on_event is not None:
                on_event(content)
            elif kind == b"V":
                value = content
            elif kind == b"D":
                content["last"] = escaped(content["last"])
                return Ended(value=value if content["how"] == "finished" else None, **content)


def escaped(text: str) -> str:
    """The last 4,000 characters of what a stranger may have printed: all but plain ones and ends of lines escaped."""
    lines = text.replace("\t", "    ").split("\n")
    return "\n".join(line.encode("unicode_escape").decode() for line in lines)[-MOST_LAST:].strip("\n")


@contextlib.contextmanager
def temporary(prefix: str) -> Iterator[Path]:
    """A new folder that a stranger may fill; it is swept afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    try:
        yield folder
    finally:
        sweep(folder)


def sweep(folder: Path) -> None:
    """Remove a folder that a stranger filled: nested thousands deep, or closed to its owner. Follows no link.

    Where something cannot be removed it tries again for some seconds, then leaves it.
    """
    for _ in range(50):  # a child whose supervisor was killed may write for another moment
        with contextlib.suppress(OSError):
            return _sweep(folder)
        if not folder.exists():
            return
        time.sleep(0.1)


def _sweep(folder: Path) -> None:
    """Lifts each folder to the top before it looks into it, so no path gets long; ``shutil.rmtree`` would recurse."""
    pending = [folder]
    while pending:
        place = pending.pop()
        os.chmod(place, 0o700)
        with os.scandir(place) as entries:
            found = list(entries)
        for entry in found:
            if entry.is_dir(follow_symlinks=False):
                lifted = folder / secrets.token_hex(16)  # a name that nobody could take before
                os.chmod(entry.path, 0o700)
                os.rename(entry.path, lifted)
                pending.append(lifted)
            else:
                os.unlink(entry.path)
        if place != folder:
            os.rmdir(place)
    os.rmdir(folder)
