"""Sweeps: whatever is killed when, the table is that of an undisturbed study, and no run is done twice."""

import contextlib
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from devilgan_lite import runs
from devilgan_lite.runs.collect import tidy

from .conftest import TINY

SIX = "notebook: tiny.py\ngrid: {lam: [0.1, 1.0]}\nseeds: 3\nparameters: {seconds: 0.7}\n"
PROJECT = Path(__file__).resolve().parents[2]
SWEEP: Any = importlib.import_module("devilgan_lite.runs.sweep")  # the package has a function of this name
Numbers = list[tuple[object, ...]]


def write(folder: Path, text: str = SIX, name: str = "study") -> Path:
    path = folder / f"{name}.yml"
    path.write_text(text)
    return path


def numbers(folder: Path) -> Numbers:
    table = tidy(folder)
    return list(table[["id", "lam", "seed", "status", "tardis_mean", "expdis_mean"]].itertuples(index=False, name=None))


def ended(folder: Path) -> Counter[str]:
    """How often each run has ended, by the journal."""
    return Counter(line.split()[1] for line in (folder / "journal.txt").read_text().splitlines())


def quickly(task: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """In the place of ``perform``: no kernel, but what one would hand back; each call leaves a mark."""
    asked, folder = task["parameters"], Path(os.environ["DEVILGAN_MARKS"])
    lam, mode = asked.get("lam", 0.1), asked.get("mode", "fine")
    before = len(list(folder.glob(f"{lam} {mode} *")))
    (folder / f"{lam} {mode} {before} {task['threads']}").touch()
    if mode == "die" or (mode == "die once" and not before):
        return {"status": "failed", "failure": "kernel", "reason": "the kernel died.", "seconds": 0.1}, {}
    if mode == "eat":
        raise MemoryError("this worker is gone")
    if mode == "raise":
        return {"status": "failed", "failure": "exception", "reason": "cell 1", "seconds": 0.1}, {}
    return {"status": "finished", "seconds": 0.1, "numbers": {"value": lam}}, {"log.txt": b"done"}


@pytest.fixture
def quick(studies: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The studies' folder; sweeps work in threads of this process, without kernels."""
    from distributed import Client

    @contextlib.contextmanager
    def threads(*_: object) -> Iterator[tuple[Any, int]]:
        settings: dict[str, Any] = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
        with Client(**settings, dashboard_address=None, host="127.0.0.1", protocol="tcp://") as client:
            yield client, 1

    monkeypatch.setattr(SWEEP, "AHEAD", 1)  # so nothing has been begun when a sweep is interrupted
    monkeypatch.setattr(SWEEP, "perform", quickly)
    monkeypatch.setattr(SWEEP, "_client", threads)
    monkeypatch.setenv("DEVILGAN_MARKS", str(studies / "marks"))
    (studies / "marks").mkdir()
    return studies


def test_what_is_done_is_kept_what_died_is_tried_again_and_the_rest_goes_on(quick: Path) -> None:
    seen: list[tuple[int, int]] = []
    modes = "{mode: raise}, {mode: die}, {mode: die once}, {mode: eat}"
    text = f"notebook: tiny.py\nruns: [{{lam: 0.1}}, {{lam: 0.2}}, {modes}]\n"

    def stop(row: dict[str, Any], count: int, total: int) -> None:
        seen.append((count, total))
        if count == 2:
            raise KeyboardInterrupt

    half = runs.sweep(write(quick, text), quick / "out", on_row=stop, threads=2)
    assert half.interrupted and not half.complete and (half.found, half.finished, half.failed) == (0, 2, 0)
    assert seen == [(1, 6), (2, 6)] and [row["status"] for row in half.rows] == ["finished"] * 2 + ["waiting"] * 4

    done = runs.sweep(quick / "study.yml", quick / "out", on_row=lambda row, count, total: seen.append((count, total)))
    assert (done.total, done.found, done.finished, done.failed) == (6, 2, 1, 3) and done.complete
    assert seen[2:] == [(3, 6), (4, 6), (5, 6), (6, 6)] and set(ended(done.folder).values()) == {1}
    _, _, bad, dead, once, gone = done.rows
    assert (bad["failure"], bad["attempt"]) == ("exception", 1)  # its own code would raise again
    assert (dead["failure"], dead["attempt"]) == ("kernel", 2)  # the machine's fault, perhaps: tried once more
    assert (once["status"], once["attempt"]) == ("finished", 2)
    assert (gone["failure"], gone["attempt"]) == ("worker", 2) and "this worker is gone" in gone["reason"]
    assert (done.folder / "runs" / done.rows[0]["id"] / "log.txt").read_bytes() == b"done"

    once_more = runs.sweep(quick / "study.yml", quick / "out", retries=0)  # what a machine broke, and nothing else
    assert (once_more.found, once_more.failed) == (4, 2)
    assert [row["attempt"] for row in once_more.rows[3:]] == [1, 2, 1]
    again = runs.sweep(quick / "study.yml", quick / "out", again=True, retries=0)
    assert (again.found, again.failed) == (3, 3)
    grown = runs.sweep(write(quick, text.replace("[{lam: 0.1}", "[{lam: 0.3}, {lam: 0.1}")), quick / "out", retries=0)
    assert (grown.total, grown.found, grown.finished, grown.failed) == (7, 4, 1, 2)
    calls = Counter(" ".join(path.name.split()[:-2]) for path in (quick / "marks").iterdir())
    once_each = {"0.1 fine": 1, "0.2 fine": 1, "0.3 fine": 1}
    assert calls == {**once_each, "0.1 raise": 2, "0.1 die": 5, "0.1 die once": 2, "0.1 eat": 5}
    assert {path.name.split()[-1] for path in (quick / "marks").glob("0.1 fine *")} == {"2"}  # threads


def test_a_sweep_with_kernels_leaves_everything_and_is_not_done_again(studies: Path, call: Any) -> None:
    write(studies, "notebook: tiny.py\nruns: [{lam: 1.0}, {mode: raise}]\n")
    done = call("sweep", "study.yml", "--out", "out", "--workers", 1)
    folder = studies / "out" / "study"
    assert done.exit_code == 1 and "1 finished, 1 failed" in done.stdout, done.output
    assert (folder / "index.html").is_file()
    good, bad = rows = runs.Store(folder).rows()
    for row in rows:
        left = {path.name for path in (folder / "runs" / row["id"]).iterdir()}
        assert left == {"tiny.ipynb", "result.json", "log.txt", "row.json"}
    assert good["status"] == "finished" and good["numbers"]["attacks"][0]["lam"] == 1.0 and good["seconds"] > 0
    assert bad["failure"] == "exception" and bad["reason"].endswith("ZeroDivisionError: the learner divided by zero")
    said = (folder / "runs" / good["id"] / "log.txt").read_text()
    assert "seed 0 done, malloc 4294967296" in said  # a worker of dask gives memory back at once, which is slow
    facts = json.loads(call("sweep", "study.yml", "--out", "out", "--json").stdout)
    assert (facts["found"], facts["finished"], facts["failed"]) == (2, 0, 0) and set(ended(folder).values()) == {1}


def test_what_is_wrong_is_refused_and_nothing_is_lost(studies: Path, refuses: Callable[..., str]) -> None:
    path = write(studies)
    for name, value in (("workers", -1), ("threads", 0), ("retries", "often")):
        refuses(partial(runs.sweep, path, studies / "out", **{name: value}), f"{name}={value!r}")
    with runs.Store(studies / "out" / "study").writing():
        refuses(lambda: runs.sweep(path, studies / "out"), "study", "--out")

    def cluster(seats: dict[str, int], about: str = SWEEP._about(), **offered: int) -> Any:
        workers = {name: {"resources": offered} for name in seats}
        how = {"nthreads": lambda: seats, "run": lambda function: dict.fromkeys(seats, about)}
        return SimpleNamespace(**how, scheduler_info=lambda: {"workers": workers})

    assert SWEEP._checked(cluster({"a": 1, "b": 1}), False) == 2
    assert SWEEP._checked(cluster({"a": 1, "b": 1}, GPU=1), True) == 2
    refuses(lambda: SWEEP._checked(cluster({}), False), "no workers")
    refuses(lambda: SWEEP._checked(cluster({"a": 1, "b": 2}), False), "worker b", "--nthreads 1")
    refuses(lambda: SWEEP._checked(cluster({"a": 1}, "devilgan_lite 0.1"), False), "worker a", "devilgan_lite 0.1")
    refuses(lambda: SWEEP._checked(cluster({"a": 1}), True), "GPU")


def test_a_run_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    store = runs.Store(tmp_path)
    row = {"id": "a", "status": "failed", "attempt": 1, "parameters": {}}
    with store.writing():
        store.keep(row, {"log.txt": b"first"})
        store.keep({**row, "status": "finished"}, {"log.txt": b"second", "../../evil.txt": b"x"})
    assert store.row("a") == {**row, "status": "finished"} and store.row("b") is None
    assert (tmp_path / "runs" / "a" / "log.txt").read_bytes() == b"second"
    assert not (tmp_path.parent / "evil.txt").exists() and (tmp_path / "runs" / "a" / "evil.txt").exists()
    (tmp_path / "runs" / ".new-b").mkdir()  # killed while it wrote
    (tmp_path / "runs" / "a").rename(tmp_path / "runs" / ".old-a")  # killed between two names
    with store.writing():
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a"]
    assert json.loads((tmp_path / "runs" / "a" / "row.json").read_text())["status"] == "finished"


# at night: real kills, a real cluster


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Numbers:
    """The table of the study that the others disturb."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.py").write_text(TINY)
    done = runs.sweep(write(folder), folder / "out")
    assert done.complete and done.finished == 6 and done.failed == 0
    return numbers(done.folder)


def until(condition: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait for a condition."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def kernels_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The kernels below ``process``."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child] if "ipykernel_launcher" in " ".join(child.cmdline()) else []
    return found


@pytest.mark.nightly
@pytest.mark.parametrize("victim", ["worker", "kernel", "whole", "interrupt"])
def test_a_kill_in_mid_study_changes_nothing(studies: Path, undisturbed: Numbers, victim: str) -> None:
    command = [sys.executable, "-c", "from devilgan_lite.cli import app; app()", "sweep", str(write(studies))]
    how: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(PROJECT)}}
    # a shell that starts a test run in the background has it ignore Ctrl-C, and children inherit that
    how["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen([*command, "--out", str(studies / "out")], **how)
    rows = lambda: list(studies.glob("out/study/runs/*/row.json"))  # noqa: E731
    until(lambda: rows() and kernels_of(process))
    if victim in ("whole", "interrupt"):
        process.send_signal(signal.SIGKILL if victim == "whole" else signal.SIGINT)
    else:
        kernel = kernels_of(process)[0]
        chosen = kernel if victim == "kernel" else kernel.parent()
        assert chosen is not None and chosen.pid != process.pid
        chosen.send_signal(signal.SIGKILL)
    process.wait(180)
    if victim == "interrupt":
        assert process.returncode == 130 and (studies / "out" / "study" / "index.html").is_file()
    left = len(rows())
    done = runs.sweep(studies / "study.yml", studies / "out")
    assert done.complete and done.failed == 0 and done.found == left and numbers(done.folder) == undisturbed
    assert victim not in ("whole", "interrupt") or 1 <= left < 6
    assert set(ended(done.folder).values()) == {1} and len(ended(done.folder)) == 6


@pytest.mark.nightly
def test_a_real_cluster(studies: Path, undisturbed: Numbers, refuses: Callable[..., str]) -> None:
    """A scheduler and two workers, started by dask's own commands, on loopback."""
    from distributed import Client

    path = write(studies)
    closed = "tcp://127.0.0.1:9"
    refuses(lambda: runs.sweep(path, studies / "out", scheduler=closed), f"scheduler={closed!r}")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(studies / "dask")]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    quiet["env"] = {**os.environ, "PYTHONPATH": str(PROJECT)}
    processes = [subprocess.Popen([*dask, "--port", str(port)], **quiet)]
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        refuses(lambda: runs.sweep(path, studies / "early", scheduler=address), "no workers")
        processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]
        with Client(address) as client:
            client.wait_for_workers(2, timeout=120)
        done = runs.sweep(path, studies / "out", scheduler=address)
        assert done.complete and done.failed == 0 and numbers(done.folder) == undisturbed
        gpu = write(studies, SIX + "gpu: true\n", "gpu")
        refuses(lambda: runs.sweep(gpu, studies / "out", scheduler=address), "GPU")
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)
