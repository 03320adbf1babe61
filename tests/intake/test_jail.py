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
from pathlib import Path

import pytest

from devilgan_lite.environment import DEFAULTS
from devilgan_lite.intake.jail import Ended, Jail, Limits, sweep

if sys.platform == "win32":
    with pytest.raises(OSError, match="Windows lacks"):
        Jail()
if sys.platform != "linux":
    pytest.skip("the walls are those of Linux; Windows has no jail, and says so", allow_module_level=True)

from devilgan_lite.intake import walls
from devilgan_lite.intake.processes import processes_below
from devilgan_lite.intake.supervisor import plain

MIB = 2**20
SHORT = Limits(wall_seconds=1.0, cpu_seconds=5, memory_bytes=1024 * MIB, file_bytes=8 * MIB, answer_bytes=2 * MIB)
PATIENT = Limits(wall_seconds=60.0, cpu_seconds=60, memory_bytes=1024 * MIB, file_bytes=8 * MIB, answer_bytes=2 * MIB)
WALLS = {"cpu", "files", "memory", "network", "privileges", "processes", "reading", "signals", "writing"}


@pytest.fixture(scope="module", autouse=True)
def importable():
    """The zygote finds ``hostile`` where the test would."""
    sys.path.append(str(Path(__file__).parent))
    yield
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def jail(importable):
    with Jail() as one:
        yield one


@pytest.fixture(scope="module")
def open_jail(importable):
    """Without the walls that stop a child from forking, so that the killing is what is tested."""
    with Jail(without=("seccomp", "namespaces")) as one:
        yield one


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


def run(
    jail: Jail, name: str, limits: Limits = PATIENT, *, reads=(), scratch=None, on_event=None, cancelled=None, **given
) -> Ended:
    ended = jail.run(
        f"hostile:{name}", given, reads=reads, scratch=scratch, limits=limits, on_event=on_event, cancelled=cancelled
    )
    assert len(ended.sentence) <= 300 and ended.sentence.isprintable()
    assert (ended.how == "finished") == (not ended.sentence)
    return ended


# --- what is fine ---
def test_a_function_gets_its_arguments_and_tells_events(jail, nothing_remains):
    events = []
    ended = run(jail, "fine", on_event=events.append, words=["a", 1, None])
    assert ended.how == "finished" and events == [{"event": "half", "share": 0.5}]
    assert ended.value is not None and ended.value["got"] == {"words": ["a", 1, None]} and ended.value["nan"] is None
    assert ended.value["folder"].startswith(str(nothing_remains))
    assert set(ended.walls) == WALLS and ended.seconds > 0 and ended.peak_bytes > 100 * MIB


def test_torch_trains_inside(jail):
    ended = run(jail, "train")
    assert ended.value is not None and ended.value["gradient"] > 0 and ended.value["threads"] == 1


def test_the_zygote_has_one_thread(jail):
    run(jail, "fine")
    assert len(os.listdir(f"/proc/{jail._process.pid}/task")) == 1


def test_a_scratch_folder_of_the_caller_is_kept_and_holds_what_was_printed(jail, tmp_path):
    assert run(jail, "keep", scratch=tmp_path).how == "finished"
    assert (tmp_path / "kept.txt").read_text() == "kept" and (tmp_path / "printed.txt").read_text() == "printed\n"
    with pytest.raises(FileNotFoundError, match="no scratch folder"):
        run(jail, "keep", scratch=tmp_path / "missing")


def test_it_reads_the_files_that_it_is_given_and_no_secret_beside(jail, tmp_path):
    (tmp_path / "model").write_text("weights")
    (tmp_path / "secret").write_text("secret")
    assert run(jail, "read", path=f"{tmp_path}/model", reads=[tmp_path / "model"]).value == {"text": "weights"}
    ended = run(jail, "read", path=f"{tmp_path}/secret", reads=[tmp_path / "model"])
    assert ended.how == "failed" and "PermissionError" in ended.sentence


def test_eight_runs_at_once_do_not_mix(jail):
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(run, jail, "fine", number=number) for number in range(24)]
        for number, future in enumerate(futures):
            value = future.result().value
            assert value is not None and value["got"] == {"number": number}


def test_a_child_inherits_no_file_no_secret_and_no_privilege(jail, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "9")  # yours counts
    monkeypatch.delenv("MALLOC_MMAP_THRESHOLD_", raising=False)
    with Jail(imports=()) as fresh, ThreadPoolExecutor(2) as pool:
        other = pool.submit(run, fresh, "sleep", SHORT)
        value = run(fresh, "surroundings").value
        assert other.result().how == "killed"
    assert value is not None and len(value["files"]) == 4  # three of its own and the line to its supervisor
    assert "AWS_SECRET_ACCESS_KEY" not in value["environment"]
    memory = {name: text for name, text in value["environment"].items() if name.startswith("MALLOC_")}
    assert memory == {"MALLOC_TRIM_THRESHOLD_": "9", "MALLOC_MMAP_THRESHOLD_": DEFAULTS["MALLOC_MMAP_THRESHOLD_"]}
    assert int(value["CapEff"], 16) == int(value["CapPrm"], 16) == 0
    assert value["NoNewPrivs"] == "1" and value["Seccomp"] == "2" and value["Threads"] == "1"


# --- walls ---
@pytest.mark.parametrize("without", [(), ("landlock",), ("seccomp",), ("namespaces",)])
def test_walls_say_which_of_them_stood(importable, without):
    with Jail(imports=(), without=without) as one:
        found = run(one, "fine").walls
    missing = {(): set(), ("landlock",): {"reading", "writing"}, ("seccomp",): {"processes"}, ("namespaces",): set()}
    down = {name for name, wall in found.items() if wall != walls.STOOD}
    assert down >= missing[without]
    if os.uname().machine in walls.MACHINES and landlock_version() >= 3:
        assert down - missing[without] <= ({"network", "signals"} if without == ("seccomp",) else set())


def landlock_version() -> int:
    try:
        return walls._syscall(walls.CREATE_RULESET, None, 0, 1)
    except OSError:
        return 0


@pytest.mark.parametrize("name", ["shell", "become_shell"])
def test_no_program_starts(jail, tmp_path, name):
    ended = run(jail, name, path=str(tmp_path / "owned"))
    assert ended.how == "failed" and "PermissionError" in ended.sentence and not list(tmp_path.iterdir())


def test_landlock_alone_lets_no_program_start(importable, tmp_path):
    with Jail(imports=(), without=("seccomp", "namespaces")) as one:
        assert run(one, "become_shell", path=str(tmp_path / "owned")).how == "failed"
    assert not list(tmp_path.iterdir())


def test_nothing_outside_is_written(jail, tmp_path, monkeypatch):
    places = [tmp_path / "model", Path("/tmp") / f"devilgan-{os.getpid()}", Path(__file__).with_suffix(".owned")]
    places += [Path.home() / f".devilgan-{os.getpid()}", Path(sys.prefix) / "owned"]
    for place in places[:2]:
        place.write_text("weights")
    before = os.stat(places[0])
    try:
        ended = run(jail, "write", paths=[str(place) for place in places], reads=places[:2])
        assert ended.value == {"done": []}
        assert all(place.read_text() == "weights" for place in places[:2])
        assert not any(place.exists() for place in places[2:])
        after = os.stat(places[0])
        assert (after.st_mode, after.st_mtime_ns) == (before.st_mode, before.st_mtime_ns)
    finally:
        places[1].unlink(missing_ok=True)


def test_no_secret_is_read(jail, tmp_path):
    (tmp_path / "secret").write_text("secret")
    paths = [tmp_path, tmp_path / "secret", Path(__file__), Path.home(), "/etc/passwd", "/etc/hosts", "/root", "/tmp"]
    paths += [f"/proc/{os.getpid()}/environ", f"/proc/{jail._process.pid}/maps", "/proc", "/dev/mem", "/dev/shm", "/"]
    assert run(jail, "look", paths=[str(path) for path in paths]).value == {"found": []}


@pytest.mark.parametrize("without", [(), ("seccomp",), ("namespaces",)])
def test_no_server_is_reached(importable, tmp_path, without):
    path = str(tmp_path / "s")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as local:
        local.bind(path)
        local.listen()
        socket.create_connection(server.getsockname()).close()  # the server is there
        with Jail(imports=(), without=without) as one:
            reached = run(one, "connect", port=server.getsockname()[1], path=path, reads=[Path(path)]).value
    # A Unix socket has a path, which neither a network namespace nor Landlock guards: seccomp does.
    assert reached == {"reached": ["AF_UNIX"] if without == ("seccomp",) else []}


@pytest.mark.parametrize(
    "without", [(), ("seccomp",), ("namespaces",), ("seccomp", "namespaces"), ("namespaces", "landlock")]
)
def test_no_signal_reaches_another_process(importable, without):
    if without == ("seccomp", "namespaces") and landlock_version() < 6:
        pytest.skip("this Landlock does not guard signals")
    with Jail(imports=(), without=without) as one, subprocess.Popen(["sleep", "60"]) as bystander:
        one.start()
        others = [os.getpid(), os.getppid(), one._process.pid]
        limits = SHORT if without == ("seccomp",) else PATIENT  # there a signal to its group may stop itself
        ended = run(one, "kill_others", limits, others=others, bystanders=[bystander.pid])
        assert bystander.poll() is None and one._process.poll() is None
        assert without == ("seccomp",) or ended.value == {"sent": []}
        bystander.kill()


@pytest.mark.skipif(os.uname().machine not in walls.MACHINES, reason="no filter for this machine")
def test_forbidden_calls_are_refused(jail):
    column = walls.MACHINES[os.uname().machine][0]
    forbidden = walls.forbidden(column) | {"clone": walls.CLONE[column]}
    errors = run(
        jail, "calls", numbers=forbidden | {"clone3": walls.CLONE3, "new": walls.NEWEST + 1, "x32": 0x40000000}
    ).value
    assert errors is not None
    assert {
        name: error for name, error in errors["errors"].items() if name not in ("clone3", "new", "x32")
    } == dict.fromkeys(forbidden, walls.EPERM)
    assert {errors["errors"][name] for name in ("clone3", "new", "x32")} == {walls.ENOSYS}


def test_numbers_of_calls_agree_with_the_headers_of_this_system():
    header = Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h")
    if os.uname().machine != "x86_64" or not header.exists():
        pytest.skip("no header of the kernel here")
    lines = [line.split() for line in header.read_text().splitlines() if line.startswith("#define __NR_")]
    known = {name.removeprefix("__NR_"): int(number) for _, name, number in lines}
    ours = walls.forbidden(0) | {"clone": walls.CLONE[0], "kill": walls.KILL[0], "prctl": walls.PRCTL[0]}
    assert {name: known[name] for name in ours if name in known} == {name: ours[name] for name in ours if name in known}
    assert len(set(ours) & set(known)) > 100


# --- limits ---
@pytest.mark.parametrize("name", ["sleep", "ignore_signals", "spin"])
def test_the_clock_ends_it(jail, name):
    ended = run(jail, name, SHORT)
    assert (ended.how, ended.sentence) == ("killed", "it ended after its limit of 1 s.")


def test_the_processor_ends_it(jail):
    limits = Limits(wall_seconds=60, cpu_seconds=0.3)
    ended = run(jail, "spin", limits)
    assert (ended.how, ended.sentence) == ("killed", "it used its 0.3 s of processor time.")


@pytest.mark.parametrize("kind", ["numpy", "torch", "bytearray", "bit by bit"])
def test_memory_ends_it(jail, kind):
    ended = run(jail, "allocate", kind=kind)
    assert (ended.how, ended.sentence) == ("killed", "it used more than 1 GiB of memory.")
    assert ended.peak_bytes < 3 * 1024 * MIB


@pytest.mark.parametrize("name", ["fill", "fill_unseen", "fill_by_map", "big_file", "many_files"])
def test_the_disk_stays_free(jail, name, tmp_path):
    ended = run(jail, name, scratch=tmp_path)
    sentences = ("it wrote more than 16 MiB.", "it made more than 1,000 files.", "OSError: [Errno 27] File too large")
    assert ended.how in ("killed", "failed") and ended.sentence in sentences
    assert sum(file.stat().st_blocks * 512 for file in tmp_path.iterdir()) < 500 * MIB


def test_folders_of_any_depth_are_removed(jail):
    assert run(jail, "deep_folders").how in ("finished", "killed", "failed")


def test_what_it_prints_is_cut(jail, tmp_path):
    ended = run(jail, "print_much", scratch=tmp_path, mib=1024)
    assert (ended.how, ended.sentence) == ("killed", "it wrote more than 16 MiB.")
    assert run(jail, "print_much", scratch=tmp_path, mib=4).how == "finished"
    assert (tmp_path / "printed.txt").stat().st_size == 64 * 1024


def test_threads_end_it(jail):
    ended = run(jail, "threads")
    assert ended.how in ("killed", "failed") and ("more than 64" in ended.sentence or "thread" in ended.sentence)


def test_no_fork(jail):
    ended = run(jail, "fork_bomb")
    assert ended.how == "failed" and "PermissionError" in ended.sentence


@pytest.mark.parametrize("without", [("seccomp",), ("seccomp", "namespaces")])
def test_children_of_the_child_are_ended(importable, without, nothing_remains):
    with Jail(imports=(), without=without) as one:
        made = []
        ended = run(one, "fork_bomb", Limits(wall_seconds=60), on_event=made.append, cancelled=lambda: bool(made))
        assert made == [{"made": 40}] and ended.how == "cancelled"
        ended = run(one, "fork_bomb", Limits(wall_seconds=60), most=100)
        assert "more than 64" in ended.sentence or "unavailable" in ended.sentence
        assert run(one, "escape").value == {"escaped": True}
        assert _soon_nothing_runs(one)


def _soon_nothing_runs(one: Jail) -> bool:
    """A supervisor that has answered may still be on its way out."""
    until = time.monotonic() + 10
    while (left := processes_below(one._process.pid)) and time.monotonic() < until:
        time.sleep(0.01)
    return left == []


# --- what it says ---
def test_events_and_answers_are_bounded(jail):
    seen = []
    ended = run(jail, "endless_events", on_event=seen.append)
    assert (ended.how, ended.sentence) == ("killed", "it sent more than 10,000 events.") and len(seen) <= 10_001
    ended = run(jail, "giant_event", on_event=seen.append)
    assert (ended.how, ended.sentence) == ("killed", "it sent more than 2 MiB.")
    ended = run(jail, "raw_many", line="x" * MIB, times=64)
    assert (ended.how, ended.sentence) == ("killed", "it sent more than 2 MiB.")


MALFORMED = [
    "\n",
    "E\n",
    "Enot json\n",
    "E[1]\n",
    "E1\n",
    'X{"a": 1}\n',
    "V[]\n",
    'E{"a": "\\ud800"}\n',
    "E\xff\xfe\n",
    "W1\n",
]
MALFORMED += [
    'E{"a": 1e999}\n',
    "E" + '{"a":' * 80 + "1" + "}" * 80 + "\n",
    "E" + "[" * 100_000 + "\n",
    'R{"a": 1}\n',
    "D{}\n",
]


@pytest.mark.parametrize("line", MALFORMED, ids=range(len(MALFORMED)))
def test_malformed_lines_end_it(jail, line):
    seen = []
    ended = run(jail, "raw", line=line, on_event=seen.append)
    assert ended.how == "crashed" and ended.sentence == "the process sent a line that is no event and no answer."
    assert seen == [] and ended.value is None


def test_a_line_that_would_be_large_in_memory_is_malformed(jail):
    ended = run(jail, "raw_many", line="[],", times=600_000)
    assert ended.how == "crashed" and "no event" in ended.sentence
    with pytest.raises(ValueError, match="too many items"):
        plain(b"[" + b"[]," * 500_000 + b"1]")


@pytest.mark.parametrize("line", ['R"no\\u0000 \\u202e ' + "x" * 500 + '"\n', 'F"<script>\\n\\n' + "y" * 400 + '"\n'])
def test_a_sentence_of_the_child_is_one_short_printable_line(jail, line):
    ended = run(jail, "raw", line=line)
    assert ended.how in ("refused", "failed") and ended.sentence.isascii() and ended.sentence.endswith("...")


def test_walls_are_what_it_said_before_it_opened_anything(jail):
    ended = run(jail, "raw", line='W{"network": "owned"}\n')
    assert ended.how == "crashed" and ended.walls["network"] != "owned"


def test_no_answer(jail):
    assert run(jail, "no_answer").sentence == "the process ended without an answer (exit status 0)."
    assert run(jail, "no_answer", status=7).sentence == "the process ended without an answer (exit status 7)."
    assert run(jail, "segfault").sentence == "the process crashed (SIGSEGV)."
    assert run(jail, "close_line").sentence == "the process closed its line without an answer."
    assert run(jail, "not_json").how == run(jail, "recurse").how == "failed"
    assert run(jail, "no_dictionary").how == "crashed"
    assert run(jail, "missing").how == jail.run("no.such:thing", {}).how == "failed"


@pytest.mark.parametrize(
    ("kind", "how", "sentence"),
    [
        ("Refused", "refused", "no."),
        ("ValueError", "refused", "no."),
        ("KeyboardInterrupt", "failed", "KeyboardInterrupt: no."),
        ("SystemExit", "failed", "SystemExit: no."),
        ("OSError", "failed", "OSError: no."),
        ("MemoryError", "killed", "it used more than 1 GiB of memory."),
    ],
)
def test_exceptions(jail, kind, how, sentence):
    ended = run(jail, "raises", kind=kind, text="no.")
    assert (ended.how, ended.sentence) == (how, sentence)


# --- the parent ---
def test_cancel(jail):
    asleep = threading.Event()
    ended = run(jail, "sleep", on_event=lambda event: asleep.set(), cancelled=asleep.is_set)
    assert (ended.how, ended.sentence) == ("cancelled", "it was cancelled.")


def test_what_the_caller_raises_ends_the_run_and_is_passed_on(jail):
    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(jail, "sleep", on_event=stop)
    assert _soon_nothing_runs(jail)


def _ended_by(one: Jail, victim) -> Ended:
    """How a sleeping run ends when ``victim()``, a process, is killed."""
    asleep = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(run, one, "sleep", on_event=lambda event: asleep.set())
        assert asleep.wait(60)
        os.kill(victim(), signal.SIGKILL)
        return future.result()


@pytest.mark.parametrize("without", [(), ("namespaces",)])
def test_kill_the_zygote_or_a_supervisor_and_the_next_run_is_fine(importable, without):
    with Jail(imports=(), without=without) as one:
        run(one, "fine")
        first = one._process.pid
        ended = _ended_by(one, lambda: first)
        assert (ended.how, ended.sentence) == ("crashed", "the process that starts the runs was ended from outside.")
        assert run(one, "fine").how == "finished" and one._process.pid != first
        ended = _ended_by(one, lambda: processes_below(one._process.pid)[0])
        assert (ended.how, ended.sentence) == ("crashed", "its supervisor was ended from outside.")
        assert run(one, "fine").how == "finished"


def test_a_supervisor_that_hangs_is_ended(importable, monkeypatch):
    monkeypatch.setattr("devilgan_lite.intake.jail.LATE_SECONDS", 0.5)
    with Jail(imports=()) as one, ThreadPoolExecutor(1) as pool:
        asleep = threading.Event()
        future = pool.submit(run, one, "sleep", Limits(wall_seconds=3), on_event=lambda event: asleep.set())
        assert asleep.wait(60)
        os.kill(processes_below(one._process.pid)[0], signal.SIGSTOP)
        assert future.result().sentence == "its supervisor did not answer and was ended."


def test_a_parent_that_is_killed_takes_its_runs_along(tmp_path):
    code = (
        "import sys; from pathlib import Path; from devilgan_lite.intake.jail import Jail\n"
        "sys.path.append(sys.argv[1])\n"
        "jail = Jail(imports=()); jail.start(); print(jail._process.pid, flush=True)\n"
        "jail.run('hostile:sleep', {}, scratch=Path(sys.argv[2]), on_event=lambda event: print('asleep', flush=True))"
    )
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as parent:
        zygote = int(parent.stdout.readline())
        assert parent.stdout.readline() == "asleep\n"
        family = [zygote, *processes_below(zygote)]
        assert len(family) == 3
        parent.kill()
    until = time.monotonic() + 20
    while (left := [one for one in family if _runs(one)]) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_modules_in_the_current_folder_are_not_imported(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("raise SystemExit('owned')")
    (tmp_path / "json.py").write_text("raise SystemExit('owned')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with Jail(imports=("torch",)) as one:
        assert run(one, "fine").how == "finished"


def test_the_parent_imports_no_torch():
    code = "import sys, devilgan_lite.intake.jail; print([m for m in ('torch', 'numpy', 'ctypes') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.slow
def test_memory_and_files_of_the_parent_stay_flat_over_200_runs(importable):
    def taken() -> tuple[int, int]:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096, len(os.listdir("/proc/self/fd"))

    with Jail(imports=()) as one:
        for _ in range(20):
            run(one, "fine")
        before, start = taken(), time.monotonic()
        for _ in range(180):
            run(one, "fine")
        after = taken()
        print(f"{(time.monotonic() - start) / 180 * 1000:.0f} ms a run")
    assert after[0] - before[0] < 4 * MIB and after[1] == before[1]


def test_sweep_follows_no_link(tmp_path):
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/kept.txt").write_text("kept")
    folder = tmp_path / "folder"
    (folder / "a/b").mkdir(parents=True)
    (folder / "a/link").symlink_to(tmp_path / "outside")
    (folder / "a/b").chmod(0)
    sweep(folder)
    assert not folder.exists() and (tmp_path / "outside/kept.txt").read_text() == "kept"


@pytest.mark.parametrize(
    "wrong", [{"wall_seconds": 0}, {"memory_bytes": 1.5}, {"processes": 0}, {"cpu_seconds": "long"}]
)
def test_limits_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)
