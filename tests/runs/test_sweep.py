"""Sweeps: whatever is killed when, the table is that of an undisturbed study, and no run is done twice."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from devilgan_lite import runs
from devilgan_lite.runs.collect import tidy

SIX = "notebook: tiny.py\ngrid: {lam: [0.1, 1.0]}\nseeds: 3\nparameters: {seconds: 0.7}\n"
PROJECT = Path(__file__).resolve().parents[2]


def write(folder: Path, text: str = SIX, name: str = "study") -> Path:
    path = folder / f"{name}.yml"
    path.write_text(text)
    return path


def numbers(folder: Path) -> list[tuple[object, ...]]:
    table = tidy(folder)
    return list(table[["id", "lam", "seed", "status", "tardis_mean", "expdis_mean"]].itertuples(index=False, name=None))


def ended(folder: Path) -> Counter[str]:
    """How often each run has ended, by the journal."""
    return Counter(line.split()[1] for line in (folder / "journal.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[object, ...]]:
    """The table of the study that the others disturb."""
    from .conftest import TINY

    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.py").write_text(TINY)
    done = runs.sweep(write(folder), folder / "out")
    assert done.complete and done.finished == 6 and done.failed == 0
    return numbers(done.folder)


@pytest.mark.slow
def test_a_sweep_leaves_everything_and_is_not_done_again(studies: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = write(studies, "notebook: tiny.py\ngrid: {lam: [0.1, 1.0]}\nruns: [{mode: raise}]\n")
    done = runs.sweep(path, studies / "out", on_row=lambda row, count, total: seen.append((count, total)))
    assert (done.total, done.finished, done.failed, done.found) == (3, 2, 1, 0) and done.complete
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for row in done.rows:
        folder = done.folder / "runs" / row["id"]
        assert {path.name for path in folder.iterdir()} == {"tiny.ipynb", "result.json", "log.txt", "row.json"}
    good, bad = done.rows[0], done.rows[2]
    assert good["status"] == "finished" and good["numbers"]["attacks"][0]["lam"] == 0.1
    assert bad["failure"] == "exception" and bad["reason"].endswith("ZeroDivisionError: the learner divided by zero")
    said = (done.folder / "runs" / good["id"] / "log.txt").read_text()
    assert "seed 0 done, malloc 4294967296" in said  # a worker of dask gives memory back at once, which is slow
    again = runs.sweep(path, studies / "out")
    assert (again.found, again.finished, again.failed) == (3, 0, 0)
    grown = write(studies, "notebook: tiny.py\ngrid: {lam: [0.1, 1.0, 2.0]}\nruns: [{mode: raise}]\n")
    more = runs.sweep(grown, studies / "out")
    assert (more.found, more.finished) == (3, 1)
    assert set(ended(more.folder).values()) == {1}
    retried = runs.sweep(grown, studies / "out", again=True)
    assert (retried.found, retried.failed) == (3, 1)


@pytest.mark.slow
def test_limits_and_dead_kernels_are_rows_with_their_reason(studies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVILGAN_MARK", str(studies / "mark"))
    text = "notebook: tiny.py\nruns: [{mode: sleep}, {mode: eat}, {mode: die}, {mode: die once}]\ntimeout: 6\n"
    done = runs.sweep(write(studies, text + "memory_mb: 300\n"), studies / "out")
    slow, hungry, dead, once = done.rows
    assert slow["failure"] == "time" and slow["reason"] == "not finished after 6 s." and slow["attempt"] == 1
    assert hungry["failure"] == "memory" and "more than 300 MB" in hungry["reason"]
    assert dead["failure"] == "kernel" and dead["attempt"] == 2  # the machine's fault, perhaps: tried once more
    assert once["status"] == "finished" and once["attempt"] == 2
    assert set(ended(done.folder).values()) == {1}


def hear_interrupts() -> None:
    """A shell that starts a test run in the background has it ignore Ctrl-C, and children inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    program = "from devilgan_lite.cli import app; app()"
    words = [sys.executable, "-c", program, "sweep", str(folder / "study.yml"), "--out", str(folder / "out")]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    quiet = {"text": True, "stdout": subprocess.PIPE, "env": environment}
    return subprocess.Popen([*words, *more], preexec_fn=hear_interrupts, **quiet)  # type: ignore[call-overload]


def until(condition: object, seconds: float = 60.0) -> None:
    """Wait for a condition."""
    limit = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.05)


def family(process: subprocess.Popen[str], word: str) -> list[psutil.Process]:
    """Processes below ``process`` with ``word`` in their command line."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if word in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            pass
    return found


def finished(folder: Path) -> int:
    return len(list(folder.glob("out/study/runs/*/row.json")))


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "kernel", "whole"])
def test_a_kill_in_mid_study_changes_nothing(studies: Path, undisturbed: list[tuple[object, ...]], victim: str) -> None:
    write(studies)
    process = start(studies)
    until(lambda: finished(studies) >= 1 and family(process, "ipykernel_launcher"))
    if victim == "whole":
        process.send_signal(signal.SIGKILL)
    else:
        kernels = family(process, "ipykernel_launcher")
        chosen = kernels[0] if victim == "kernel" else kernels[0].parent()
        assert chosen is not None and chosen.pid != process.pid
        chosen.send_signal(signal.SIGKILL)
    process.wait(120)
    done = runs.sweep(studies / "study.yml", studies / "out")
    assert done.complete and done.failed == 0
    if victim == "whole":
        assert 1 <= done.found < 6
    assert numbers(done.folder) == undisturbed
    assert set(ended(done.folder).values()) == {1} and len(ended(done.folder)) == 6


@pytest.mark.slow
def test_an_interrupt_leaves_a_consistent_folder(studies: Path, undisturbed: list[tuple[object, ...]]) -> None:
    write(studies)
    process = start(studies)
    until(lambda: finished(studies) >= 1)
    process.send_signal(signal.SIGINT)
    process.wait(60)
    assert process.returncode == 130
    kept = finished(studies)
    assert 1 <= kept < 6 and (studies / "out" / "study" / "index.html").is_file()
    done = runs.sweep(studies / "study.yml", studies / "out")
    assert done.found == kept and numbers(done.folder) == undisturbed


@pytest.mark.slow
def test_a_real_cluster(studies: Path, undisturbed: list[tuple[object, ...]]) -> None:
    """A scheduler and two workers, started by dask's own commands, on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    dask = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--no-dashboard"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(studies / "dask")]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    processes = [subprocess.Popen([*dask, "--port", str(port)], **quiet)]  # type: ignore[call-overload]
    path = write(studies)
    try:
        until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0)
        with pytest.raises(ValueError, match="the scheduler has no workers; start some with"):
            runs.sweep(path, studies / "early", scheduler=address)
        processes += [subprocess.Popen(worker, **quiet) for _ in range(2)]  # type: ignore[call-overload]
        from distributed import Client

        with Client(address) as client:
            client.wait_for_workers(2, timeout=60)
        done = runs.sweep(path, studies / "out", scheduler=address)
        assert done.complete and done.failed == 0 and numbers(done.folder) == undisturbed
        gpu = write(studies, SIX + "gpu: true\n", "gpu")
        with pytest.raises(ValueError, match="needs a GPU, and no worker offers one"):
            runs.sweep(gpu, studies / "out", scheduler=address)
    finally:
        for process in reversed(processes):
            process.terminate()
            process.wait(30)


@pytest.mark.slow
def test_what_is_wrong_is_one_sentence_and_nothing_is_lost(studies: Path) -> None:
    path = write(studies)
    for settings, message in (
        ({"workers": -1}, "workers=-1"),
        ({"threads": 0}, "threads=0"),
        ({"retries": "often"}, "retries='often'"),
    ):
        with pytest.raises(ValueError, match=message):
            runs.sweep(path, studies / "out", **settings)
    with pytest.raises(ValueError, match="scheduler='tcp://127.0.0.1:9' does not answer"):
        runs.sweep(path, studies / "out", scheduler="tcp://127.0.0.1:9")
    store = runs.Store(studies / "out" / "study")
    with store.writing(), pytest.raises(ValueError, match="another sweep is at work in"):
        runs.sweep(path, studies / "out")


def test_a_run_is_stored_whole_or_not_at_all(tmp_path: Path) -> None:
    store = runs.Store(tmp_path)
    row = {"id": "a", "status": "failed", "attempt": 1, "parameters": {}}
    with store.writing():
        store.keep(row, {"log.txt": b"first"})
        store.keep({**row, "status": "finished"}, {"log.txt": b"second", "../../evil.txt": b"x"})
    assert store.row("a") == {**row, "status": "finished"}
    assert (tmp_path / "runs" / "a" / "log.txt").read_bytes() == b"second"
    assert not (tmp_path.parent / "evil.txt").exists() and (tmp_path / "runs" / "a" / "evil.txt").exists()
    (tmp_path / "runs" / ".new-b").mkdir()  # killed while it wrote
    (tmp_path / "runs" / "a").rename(tmp_path / "runs" / ".old-a")  # killed between two names
    with store.writing():
        assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["a"]
    assert json.loads((tmp_path / "runs" / "a" / "row.json").read_text())["status"] == "finished"
