"""A stranger's code in the jail: whatever it tries, the run ends with a sentence, and nothing of it remains."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from devilgan_lite.environment import DEFAULTS
from devilgan_lite.intake.jail import Ended, Jail, Limits, escaped, sweep

if sys.platform == "win32":
    with pytest.raises(OSError, match="Windows"):
        Jail()
if sys.platform != "linux":
    pytest.skip("the walls are those of Linux; Windows has no jail, and says so", allow_module_level=True)

from devilgan_lite.intake import walls
from devilgan_lite.intake.child import plain, processes_below

HERE = Path(__file__).parent
sys.path.append(str(HERE))  # where the zygote finds ``attempts``
MIB = 2**20
PATIENT = Limits(wall_seconds=60.0, cpu_seconds=60, memory_bytes=1024 * MIB, file_bytes=8 * MIB, answer_bytes=2 * MIB)
SHORT = replace(PATIENT, wall_seconds=1.0, cpu_seconds=5)
ROOMY = Limits(wall_seconds=60)  # for many processes at once
WALLS = {"cpu", "files", "memory", "network", "privileges", "processes", "reading", "signals", "writing"}
LANDLOCK = walls._LIBC.syscall(walls.CREATE_RULESET, None, 0, 1)  # its version, or -1
LEFT_OUT = [(), ("landlock",), ("seccomp",), ("namespaces",), ("seccomp", "namespaces"), ("namespaces", "landlock")]


@pytest.fixture(scope="module")
def jail():
    with Jail(imports=("torch",)) as one:
        yield one


@pytest.fixture(scope="module")
def without():
    """``without("seccomp")`` is a jail without that wall, so that another one is what is tested."""
    with contextlib.ExitStack() as stack:
        made = {left: stack.enter_context(Jail(imports=(), without=left)) for left in LEFT_OUT}
        yield lambda *left: made[left]


@pytest.fixture(autouse=True)
def nothing_remains(monkeypatch, tmp_path_factory):
    """After each test: no folder of a run, and no process that works in one."""
    folder = tmp_path_factory.mktemp("runs")
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            assert not os.readlink(link).startswith(str(folder)), link


def run(jail, name, limits=PATIENT, *, reads=(), scratch=None, on_event=None, cancelled=None, **given) -> Ended:
    how = {"reads": reads, "scratch": scratch, "limits": limits, "on_event": on_event, "cancelled": cancelled}
    ended = jail.run(f"attempts:{name}", given, **how)
    assert len(ended.sentence) <= 300 and ended.sentence.isprintable()
    assert (ended.how == "finished") == (not ended.sentence)
    return ended


def ends(ended: Ended, how: str, *words: str) -> None:
    assert ended.how == how and all(word in ended.sentence for word in words), (ended, words)


def soon_none(left, seconds: float = 10) -> bool:
    """A supervisor that has answered may still be on its way out."""
    until = time.monotonic() + seconds
    while left() and time.monotonic() < until:
        time.sleep(0.01)
    return not left()


# --- what is fine ---
def test_a_function_gets_its_arguments_tells_events_trains_and_several_at_once_do_not_mix(jail, nothing_remains):
    events = []
    ended = run(jail, "fine", on_event=events.append, words=["a", 1, None])
    assert ended.how == "finished" and events == [{"event": "half", "share": 0.5}]
    assert ended.value["got"] == {"words": ["a", 1, None]} and ended.value["nan"] is None
    assert ended.value["folder"].startswith(str(nothing_remains))
    assert set(ended.walls) == WALLS and ended.seconds > 0 and ended.peak_bytes > 100 * MIB
    assert len(os.listdir(f"/proc/{jail._process.pid}/task")) == 1  # the zygote has one thread
    assert run(jail, "train").value["gradient"] > 0
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(run, jail, "fine", number=number) for number in range(16)]
        assert [future.result().value["got"] for future in futures] == [{"number": number} for number in range(16)]


def test_a_scratch_folder_of_the_caller_is_kept_and_what_was_printed_is_cut(jail, tmp_path):
    assert run(jail, "keep", scratch=tmp_path).how == "finished"
    assert (tmp_path / "kept.txt").read_text() == "kept"
    with pytest.raises(FileNotFoundError):
        run(jail, "keep", scratch=tmp_path / "missing")
    ends(run(jail, "print_much", scratch=tmp_path, mib=1024), "killed", "16 MiB")
    with Jail(imports=(), traceback=True) as heard:
        assert run(heard, "keep").last == "printed" and run(heard, "print_much", mib=4).last == "x" * 4_000
        for name, how in {"complain": "failed", "print_much": "killed"}.items():
            ended = run(heard, name, mib=1024)
            assert (
                ended.how == how and len(ended.last) <= 4_000 and set(ended.last) <= {"\n", *map(chr, range(32, 127))}
            )
        first, *_, last = run(heard, "complain").last.split("\n")
    assert first == r"\x1b[2J\u202e    could not\r" and last == rf"RuntimeError: no\x07 {'y' * 500}."
    assert run(jail, "complain").last == run(jail, "keep").last == "" and len(escaped("\a" * 4_000)) == 4_000


def test_a_child_inherits_no_file_no_secret_and_no_privilege(monkeypatch, tmp_path):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "9")  # yours counts
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    for name in ("torch", "json"):  # modules in the current folder are not imported
        (tmp_path / f"{name}.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with Jail(imports=("torch",)) as fresh, ThreadPoolExecutor(2) as pool:
        other = pool.submit(run, fresh, "sleep", SHORT)
        value = run(fresh, "surroundings").value
        assert other.result().how == "killed"
    assert len(value["files"]) == 4  # three of its own and the line to its supervisor
    assert "AWS_SECRET_ACCESS_KEY" not in value["environment"]
    memory = {name: text for name, text in value["environment"].items() if name.startswith("MALLOC_")}
    assert memory == {"MALLOC_TRIM_THRESHOLD_": "9", "MALLOC_MMAP_THRESHOLD_": DEFAULTS["MALLOC_MMAP_THRESHOLD_"]}
    assert int(value["CapEff"], 16) == int(value["CapPrm"], 16) == 0
    assert value["NoNewPrivs"] == "1" and value["Seccomp"] == "2" and value["Threads"] == "1" and value["torch"] == 1


# --- walls ---
def test_walls_say_which_of_them_stood(without):
    missing = {(): set(), ("landlock",): {"reading", "writing"}, ("seccomp",): {"processes"}, ("namespaces",): set()}
    for left, gone in missing.items():
        down = {name for name, wall in run(without(*left), "fine").walls.items() if wall != walls.STOOD}
        assert down >= gone
        if os.uname().machine in walls.MACHINES and LANDLOCK >= 3:
            assert down - gone <= ({"network", "signals"} if left == ("seccomp",) else set())


def test_no_program_starts_by_either_wall(jail, without, tmp_path):
    for name in ("become_shell", "fork_bomb"):
        ends(run(jail, name, path=str(tmp_path / "owned")), "failed", "PermissionError")
    for left in (("landlock",), ("seccomp", "namespaces")):  # seccomp alone, Landlock alone
        assert run(without(*left), "become_shell", path=str(tmp_path / "owned")).how == "failed"
    assert not list(tmp_path.iterdir())


def test_nothing_outside_is_written(jail, tmp_path):
    there = [tmp_path / "model", Path("/tmp") / f"devilgan-{os.getpid()}"]
    nowhere = [HERE / "test_jail.owned", Path.home() / f".devilgan-{os.getpid()}", Path(sys.prefix) / "owned"]
    for place in there:
        place.write_text("weights")
    before = os.stat(there[0])
    try:
        assert run(jail, "write", paths=[*map(str, there + nowhere)], reads=there).value == {"done": []}
        assert all(place.read_text() == "weights" for place in there) and not any(place.exists() for place in nowhere)
        after = os.stat(there[0])
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    finally:
        there[1].unlink(missing_ok=True)


def test_it_reads_the_file_that_it_is_given_and_no_secret(jail, tmp_path):
    model, secret = tmp_path / "model", tmp_path / "secret"
    model.write_text("weights")
    secret.write_text("secret")
    paths = [model, tmp_path, secret, HERE / "attempts.py", Path.home(), "/etc/passwd", "/etc/hosts", "/root", "/tmp"]
    paths += ["/", "/proc", f"/proc/{os.getpid()}/environ", f"/proc/{jail._process.pid}/maps", "/dev/mem", "/dev/shm"]
    value = run(jail, "look", paths=[*map(str, paths)], reads=[model]).value
    assert value["found"] == {str(model): "weights"} and value["errors"][str(secret)] == "PermissionError"


@pytest.mark.parametrize("left", [(), ("seccomp",), ("namespaces",)])
def test_no_server_is_reached(without, tmp_path, left):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(path)
        local.listen()
        socket.create_connection(server.getsockname()).close()  # the server is there
        reached = run(without(*left), "connect", port=server.getsockname()[1], path=path, reads=[Path(path)]).value
    # A Unix socket has a path, which neither a network namespace nor Landlock guards: seccomp does.
    assert reached == {"reached": ["AF_UNIX"] if left == ("seccomp",) else []}


@pytest.mark.parametrize("left", [(), ("seccomp",), ("namespaces",), ("seccomp", "namespaces"), LEFT_OUT[-1]])
def test_no_signal_reaches_another_process(without, left):
    if left == ("seccomp", "namespaces") and LANDLOCK < 6:
        pytest.skip("this Landlock does not guard signals")
    one = without(*left)
    with subprocess.Popen(["sleep", "60"]) as bystander:
        others = [os.getpid(), os.getppid(), one._process.pid]
        limits = SHORT if left == ("seccomp",) else PATIENT  # there a signal to its group may stop itself
        ended = run(one, "kill_others", limits, others=others, bystanders=[bystander.pid])
        assert bystander.poll() is None and one._process.poll() is None
        assert left == ("seccomp",) or ended.value == {"sent": []}
        bystander.kill()


@pytest.mark.skipif(os.uname().machine not in walls.MACHINES, reason="no filter for this machine")
def test_forbidden_calls_are_refused_and_their_numbers_are_those_of_this_system(jail):
    column = walls.MACHINES[os.uname().machine][0]
    forbidden = walls.forbidden(column) | {"clone": walls.CLONE[column]}
    assert {"socket", "connect", "bind", "execve", "execveat", "ptrace", "unshare", "mount", "bpf"} <= set(forbidden)
    assert {"io_uring_setup", "process_vm_readv", "fallocate", "utimensat", "tkill", "keyctl"} <= set(forbidden)
    assert len(forbidden) >= (119, 107)[column]
    unknown = {"clone3": walls.CLONE3, "new": walls.NEWEST + 1, "x32": 0x40000000}
    errors = run(jail, "calls", numbers=forbidden | unknown).value["errors"]
    assert errors == dict.fromkeys(forbidden, walls.EPERM) | dict.fromkeys(unknown, walls.ENOSYS)
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if os.uname().machine == "x86_64" and header.exists():
        lines = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
        known = {name.removeprefix("__NR_"): int(number) for _, name, number in lines}
        ours = forbidden | {"kill": walls.KILL[0], "prctl": walls.PRCTL[0]}
        assert {name: known.get(name, number) for name, number in ours.items()} == ours
        assert len(set(ours) & set(known)) > 100


# --- limits ---
def test_clock_processor_and_memory_end_it(jail):
    for name in ("sleep", "spin"):
        ends(run(jail, name, SHORT), "killed", "limit of 1 s")
    ends(run(jail, "spin", Limits(wall_seconds=60, cpu_seconds=0.3)), "killed", "0.3 s", "processor")
    for kind in ("at once", "bit by bit"):
        ended = run(jail, "allocate", kind=kind)
        ends(ended, "killed", "1 GiB", "memory")
        assert ended.peak_bytes < 3 * 1024 * MIB


def test_the_disk_stays_free(jail, tmp_path):
    for name in ("fill named", "fill nameless", "fill mapped", "big_file", "many_files"):
        (scratch := tmp_path / name).mkdir()
        ended = run(jail, name.split()[0], scratch=scratch, how=name.split()[-1])
        assert ended.how in ("killed", "failed"), name
        assert any(words in ended.sentence for words in ("16 MiB", "1,000 files", "Errno 27")), ended
        assert sum(file.stat().st_blocks * 512 for file in scratch.iterdir()) < 500 * MIB


def test_threads_and_children_of_the_child_are_ended(jail, without):
    ended = run(jail, "threads")
    assert ended.how in ("killed", "failed") and ("64" in ended.sentence or "thread" in ended.sentence)
    for left in (("seccomp",), ("seccomp", "namespaces")):
        one, made = without(*left), []
        ended = run(one, "fork_bomb", ROOMY, on_event=made.append, cancelled=lambda made=made: bool(made))
        assert made == [{"made": 40}] and ended.how == "cancelled"
        ended = run(one, "fork_bomb", ROOMY, most=100)
        assert "64" in ended.sentence or "unavailable" in ended.sentence
        assert run(one, "escape").value == {"escaped": True}
        assert soon_none(lambda one=one: processes_below(one._process.pid))


# --- what it says ---
MALFORMED = ["\n", "E\n", "Enot json\n", "E[1]\n", 'X{"a": 1}\n', "V[]\n", 'E{"a": "\\ud800"}\n', "E\xff\xfe\n"]
MALFORMED += ["W1\n", 'E{"a": 1e999}\n', "E" + '{"a":' * 80 + "1" + "}" * 80 + "\n", "E" + "[" * 100_000 + "\n"]
MALFORMED += ['R{"a": 1}\n', "D{}\n", 'W{"network": "owned"}\n', "[]," * 600_000 + "\n"]


def test_what_it_says_is_bounded_and_malformed_lines_end_it(jail):
    seen = []
    ends(run(jail, "raw", line="E{}\n", times=20_000, on_event=seen.append), "killed", "10,000 events")
    assert 9_000 < len(seen) <= 10_001
    ends(run(jail, "raw", line="x" * MIB, times=64), "killed", "2 MiB")
    for line in MALFORMED:  # the last would be large in memory; walls are what it said before it opened anything
        seen = []
        ended = run(jail, "raw", line=line, on_event=seen.append)
        ends(ended, "crashed", "line")
        assert seen == [] and ended.value is None and ended.walls["network"] != "owned", line[:20]
    for text in (b"[" + b"[]," * 500_000 + b"1]", b"[" * 65 + b"]" * 65):
        with pytest.raises(ValueError):
            plain(text)
    assert plain(b'{"a": [NaN, 1]}') == {"a": [None, 1]}
    for line in ('R"no\\u0000 \\u202e ' + "x" * 500 + '"\n', 'F"<script>\\n\\n' + "y" * 400 + '"\n'):
        ended = run(jail, "raw", line=line)
        assert ended.how in ("refused", "failed") and ended.sentence.isascii() and ended.sentence.endswith("...")


def test_no_answer_and_exceptions(jail):
    assert run(jail, "missing").how == jail.run("no.such:thing", {}).how == "failed"
    for bad, how, words in (
        (0, "crashed", "status 0"),
        (7, "crashed", "status 7"),
        ("segfault", "crashed", "SIGSEGV"),
        ("line", "crashed", "line"),
        ("not JSON", "failed", ""),
        ("recursion", "failed", ""),
        ("no dictionary", "crashed", ""),
        ("Refused", "refused", "no."),
        ("ValueError", "refused", "no."),
        ("KeyboardInterrupt", "failed", "KeyboardInterrupt: no."),
        ("SystemExit", "failed", "SystemExit: no."),
        ("OSError", "failed", "OSError: no."),
        ("MemoryError", "killed", "1 GiB"),
    ):
        ends(run(jail, "ends", how=bad), how, words)


# --- the parent ---
def test_cancel_and_what_the_caller_raises_end_the_run(jail):
    asleep = threading.Event()
    ended = run(jail, "sleep", on_event=lambda event: asleep.set(), cancelled=asleep.is_set)
    ends(ended, "cancelled", "cancelled")

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jail, "sleep", on_event=stop)
    assert soon_none(lambda: processes_below(jail._process.pid))


def test_kill_the_zygote_or_a_supervisor_and_the_next_run_is_fine(monkeypatch):
    def ended_by(victim, number=signal.SIGKILL, limits=PATIENT) -> Ended:
        asleep = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(run, one, "sleep", limits, on_event=lambda event: asleep.set())
            assert asleep.wait(60)
            os.kill(victim(), number)
            return future.result()

    def supervisor() -> int:
        return processes_below(one._process.pid)[0]

    with Jail(imports=()) as one:
        one.start()
        first = one._process.pid
        ends(ended_by(lambda: first), "crashed", "starts the runs")
        assert run(one, "fine").how == "finished" and one._process.pid != first
        ends(ended_by(supervisor), "crashed", "supervisor")
        assert run(one, "fine").how == "finished"
        monkeypatch.setattr("devilgan_lite.intake.jail.LATE_SECONDS", 0.5)  # one that hangs
        ends(ended_by(supervisor, signal.SIGSTOP, Limits(wall_seconds=3)), "killed", "supervisor")


def test_a_parent_that_is_killed_takes_its_runs_along(tmp_path):
    code = (
        "import sys; from pathlib import Path; from devilgan_lite.files import Facts, Refused\n"
        "from devilgan_lite import report\nfrom devilgan_lite.intake import jail\n"
        "print([name for name in ('torch', 'numpy', 'onnx', 'PIL', 'ctypes') if name in sys.modules])\n"
        "sys.path.append(sys.argv[1])\n"
        "one = jail.Jail(imports=()); one.start(); print(one._process.pid, flush=True)\n"
        "one.run('attempts:sleep', {}, scratch=Path(sys.argv[2]), on_event=lambda event: print('asleep', flush=True))"
    )
    command = [sys.executable, "-c", code, str(HERE), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(HERE.parents[1])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout.readline() == "[]\n"  # the parent imports no torch
        zygote = int(parent.stdout.readline())
        assert parent.stdout.readline() == "asleep\n"
        family = [zygote, *processes_below(zygote)]
        assert len(family) == 3
        parent.kill()

    def left() -> list[object]:
        found = psutil.process_iter(["status"])
        return [one for one in found if one.pid in family and one.info["status"] != psutil.STATUS_ZOMBIE]

    assert soon_none(left, 20)


def test_memory_and_files_of_the_parent_stay_flat(without):
    def taken(more: int) -> tuple[int, int]:
        for _ in range(more):
            run(without(), "fine")
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096, len(os.listdir("/proc/self/fd"))

    (memory, files), (later, more) = taken(10), taken(20)
    assert later - memory < 4 * MIB and more == files


def test_sweep_follows_no_link_and_removes_folders_of_any_depth(jail, tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept.txt").write_text("kept")
    folder = tmp_path / "folder"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/link").symlink_to(tmp_path / "outside")
    (folder / "a/b").chmod(0)
    sweep(folder)
    assert not folder.exists() and (tmp_path / "outside/kept.txt").read_text() == "kept"
    assert run(jail, "deep_folders").how in ("finished", "killed", "failed")  # and nothing remains


def test_limits_are_checked(refuses):
    for wrong in ({"wall_seconds": 0}, {"memory_bytes": 1.5}, {"processes": 0}, {"cpu_seconds": "long"}):
        refuses(lambda wrong=wrong: Limits(**wrong), next(iter(wrong)))
