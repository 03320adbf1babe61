"""What a stranger's file might do once it runs: functions for ``Jail.run``, each of which tries one thing."""

import builtins
import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path

from devilgan_lite.files.sniff import Refused

MIB = 2**20


def open_files():
    """The last one is the pipe to the supervisor: hostile code finds it, as it finds everything in its own process."""
    return [number for number in range(256) if ctypes.CDLL(None).fcntl(number, fcntl.F_GETFD) >= 0]


def fine(arguments, tell):
    tell({"event": "half", "share": 0.5})
    return {"got": arguments, "folder": os.getcwd(), "nan": float("nan")}


def keep(arguments, tell):
    Path("folder").mkdir()
    Path("folder/kept.txt").write_text("kept")
    os.rename("folder/kept.txt", "kept.txt")
    print("printed")
    return {}


def surroundings(arguments, tell):
    import torch

    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = {name: status[name] for name in ("CapEff", "CapPrm", "NoNewPrivs", "Seccomp", "Threads")}
    return {"files": open_files(), "environment": dict(os.environ), "torch": torch.get_num_threads(), **kept}


def train(arguments, tell):
    import torch

    net = torch.nn.Sequential(torch.nn.ConvTranspose2d(8, 4, 4), torch.nn.ReLU(), torch.nn.Flatten())
    net(torch.randn(16, 8, 4, 4)).square().mean().backward()
    torch.linalg.svd(torch.randn(64, 64))
    return {"gradient": sum(float(p.grad.abs().sum()) for p in net.parameters())}


def fork_bomb(arguments, tell):
    most = arguments.get("most", 40)
    for _ in range(most):
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    tell({"made": most})
    time.sleep(60)


def escape(arguments, tell):
    """A grandchild with a session of its own, whose parent ends at once."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
            Path("escaped").write_text("x")
            time.sleep(60)
        os._exit(0)
    while not Path("escaped").exists():
        time.sleep(0.01)
    return {"escaped": True}


def threads(arguments, tell):
    for _ in range(200):
        threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    time.sleep(60)


def become_shell(arguments, tell):
    os.execv("/bin/sh", ["sh", "-c", f"echo owned > {arguments['path']}"])


def kill_others(arguments, tell):
    """Kills bystanders, asks whether it could kill others; returns those where it could."""
    targets = [(process, signal.SIGKILL) for process in arguments["bystanders"]]
    targets += [(process, 0) for process in arguments["others"]]
    if os.getpid() == 1:  # all that it can see, and its group; anywhere else a hole in the wall would be a disaster
        targets += [(-1, signal.SIGKILL), (0, signal.SIGSTOP)]
    sent = []
    for process, number in targets:
        with contextlib.suppress(OSError):
            os.kill(process, number)
            sent.append(process)
    for process in arguments["bystanders"]:
        with contextlib.suppress(OSError):  # the kernel would send it, when the pipe can be read
            there, here = os.pipe()
            fcntl.fcntl(there, 10, signal.SIGKILL)  # F_SETSIG
            fcntl.fcntl(there, fcntl.F_SETOWN, process)
            fcntl.fcntl(there, fcntl.F_SETFL, os.O_ASYNC)
            os.write(here, b"x")
    return {"sent": sent}


def allocate(arguments, tell):
    if arguments["kind"] == "at once":
        import torch

        return {"sum": float(torch.ones(100 * 2**28).sum())}
    held = []
    while True:  # bit by bit
        held.append(b"x" * 16 * MIB)


def sleep(arguments, tell):
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    tell({"event": "asleep"})
    time.sleep(60)


def spin(arguments, tell):
    while True:
        pass


def fill(arguments, tell):
    """Files ``"named"``, without a name (they still take room), or ``"mapped"`` and written through memory."""
    held = []
    for number in range(200):
        held.append(open(f"file-{number}", "w+b", buffering=0))  # noqa: SIM115
        if arguments["how"] != "named":
            os.unlink(f"file-{number}")
        if arguments["how"] == "mapped":
            held[-1].truncate(4 * MIB)
            held.append(mmap.mmap(held[-1].fileno(), 4 * MIB))
            for page in range(0, 4 * MIB, 4096):
                held[-1][page] = 1
        else:
            for _ in range(4):
                held[-1].write(bytes(MIB))
    time.sleep(60)


def big_file(arguments, tell):
    with open("big", "wb") as file:
        for _ in range(1000):
            file.write(bytes(MIB))


def many_files(arguments, tell):
    for number in range(100_000):
        open(f"{number}", "wb").close()
    time.sleep(60)


def deep_folders(arguments, tell):
    for _ in range(3000):
        os.mkdir("d", 0o000 if os.geteuid() == 0 else 0o700)
        os.chdir("d")
    return {}


def print_much(arguments, tell):
    for _ in range(arguments["mib"]):
        sys.stdout.write("x" * MIB)
    return {}


def complain(arguments, tell):
    print("\x1b[2J\u202e\tcould not\r", file=sys.stderr)
    raise RuntimeError(f"no\x07 {'y' * 500}.")


WAYS = {
    "write": lambda path: Path(path).write_text("owned"),
    "append": lambda path: open(path, "a").close(),
    "truncate": lambda path: os.truncate(path, 0),
    "cut": lambda path: os.close(os.open(path, os.O_RDONLY | os.O_TRUNC)),
    "unlink": os.unlink,
    "rename": lambda path: os.rename(path, f"{path}.moved"),
    "take": lambda path: os.rename(path, "taken"),
    "link": lambda path: os.link(path, "linked"),
    "put": lambda path: os.rename("own", path),
    "mkdir": lambda path: os.mkdir(f"{path}.folder"),
    "chmod": lambda path: os.chmod(path, 0o777),
    "utime": lambda path: os.utime(path, (0, 0)),
    "xattr": lambda path: os.setxattr(path, "user.owned", b"1"),
    "symlink": lambda path: os.symlink(path, "symbolic"),
    "device": lambda path: os.mkfifo("pipe"),
}


def write(arguments, tell):
    """Tries each way to change each path; returns those that worked."""
    done = []
    Path("own").write_text("own")
    for path in arguments["paths"]:
        for name, way in WAYS.items():
            with contextlib.suppress(OSError):
                way(path)
                done.append(f"{name} {path}")
    return {"done": done}


def connect(arguments, tell):
    """Tries to reach servers; returns those that it reached."""
    reached = []
    for family, address in ((socket.AF_INET, ("127.0.0.1", arguments["port"])), (socket.AF_UNIX, arguments["path"])):
        with contextlib.suppress(OSError), socket.socket(family) as one:
            one.settimeout(2)
            one.connect(address)
            reached.append(family.name)
    return {"reached": reached}


def look(arguments, tell):
    """Tries to read what it should not; returns what it could, and what it was told of the rest."""
    found, errors = {}, {}
    for path in arguments["paths"]:
        try:
            found[path] = os.listdir(path) if os.path.isdir(path) else Path(path).read_bytes()[:10].decode("latin-1")
        except (PermissionError, FileNotFoundError) as error:
            errors[path] = type(error).__name__
    return {"found": found, "errors": errors}


def calls(arguments, tell):
    """The error of each system call by its number, with all arguments 0; 0 where it was let through."""
    libc, errors = ctypes.CDLL(None, use_errno=True), {}
    for name, number in arguments["numbers"].items():
        ctypes.set_errno(0)
        result = libc.syscall(ctypes.c_long(number), 0, 0, 0, 0, 0, 0)
        errors[name] = ctypes.get_errno() if result < 0 else 0
    return {"errors": errors}


def raw(arguments, tell):
    """Any line, ``times`` over; then it goes on as if nothing had happened."""
    text = arguments["line"].encode("latin-1") * arguments.get("times", 1)
    while text:
        text = text[os.write(open_files()[-1], text) :]
    time.sleep(60)


def ends(arguments, tell):
    """Ends without an answer: by a status, in another way, or by an exception of that name."""
    match arguments["how"]:
        case "line":
            os.close(open_files()[-1])
            time.sleep(60)
        case "segfault":
            ctypes.string_at(0)
        case "not JSON":
            return {"x": object()}
        case "no dictionary":
            return [1]
        case "recursion":
            return ends(arguments, tell)
        case int(status):
            os._exit(status)
        case kind:
            raise (Refused if kind == "Refused" else getattr(builtins, kind))("no.")
