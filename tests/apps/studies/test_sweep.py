"""Sweeps: whatever is killed when, the table is that of an undisturbed study, and no run is done twice."""

import contextlib
import importlib
import json
import os
import signal
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

from devilgan_lite.apps import studies
from devilgan_lite.apps.studies.collect import tidy

PROJECT = Path(__file__).resolve().parents[3]
SWEEP: Any = importlib.import_module("devilgan_lite.apps.studies.sweep")  # the package has a function of this name


def write(folder: Path, text: str) -> Path:
    (folder / "study.yml").write_text(f"notebook: tiny.py\n{text}\n")
    return folder / "study.yml"


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
def sweep(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """``studies.sweep`` on a cluster that is there already: a thread of this process, which does ``quickly``."""
    from distributed import LocalCluster

    monkeypatch.setattr(SWEEP, "AHEAD", 1)  # so nothing has been begun when a sweep is interrupted
    monkeypatch.setattr(SWEEP, "perform", quickly)
    monkeypatch.setenv("DEVILGAN_MARKS", str(project / "marks"))
    (project / "marks").mkdir()
    settings: dict[str, Any] = {"processes": False, "n_workers": 1, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(**settings, host="127.0.0.1", protocol="tcp://") as cluster:
        yield partial(studies.sweep, out=project / "out", scheduler=cluster.scheduler_address)


def test_what_is_done_is_kept_what_died_is_tried_again_and_the_rest_goes_on(project: Path, sweep: Any) -> None:
    seen: list[tuple[int, int]] = []
    text = "runs: [{lam: 0.1}, {lam: 0.2}, {mode: raise}, {mode: die}, {mode: die once}, {mode: eat}]"

    def stop(row: dict[str, Any], count: int, total: int) -> None:
        seen.append((count, total))
        if count == 2:
            raise KeyboardInterrupt

    half = sweep(write(project, text), on_row=stop, threads=2)
    assert half.interrupted and not half.complete and (half.found, half.finished, half.failed) == (0, 2, 0)
    assert seen == [(1, 6), (2, 6)] and [row["status"] for row in half.rows] == ["finished"] * 2 + ["waiting"] * 4

    done = sweep(project / "study.yml", on_row=lambda row, count, total: seen.append((count, total)))
    assert (done.total, done.found, done.finished, done.failed) == (6, 2, 1, 3) and done.complete
    assert seen[2:] == [(3, 6), (4, 6), (5, 6), (6, 6)] and set(ended(done.folder).values()) == {1}
    _, _, bad, dead, once, gone = done.rows
    assert (bad["failure"], bad["attempt"]) == ("exception", 1)  # its own code would raise again
    assert (dead["failure"], dead["attempt"]) == ("kernel", 2)  # the machine's fault, perhaps: tried once more
    assert (once["status"], once["attempt"]) == ("finished", 2)
    assert (gone["failure"], gone["attempt"]) == ("worker", 2) and "this worker is gone" in gone["reason"]
    assert (done.folder / "runs" / done.rows[0]["id"] / "log.txt").read_bytes() == b"done"

    once_more = sweep(project / "study.yml", retries=0)  # what a machine broke, and nothing else
    assert (once_more.found, once_more.failed) == (4, 2)
    assert [row["attempt"] for row in once_more.rows[3:]] == [1, 2, 1]
    again = sweep(project / "study.yml", again=True, retries=0)
    assert (again.found, again.failed) == (3, 3)
    grown = sweep(write(project, text.replace("[{lam: 0.1}", "[{lam: 0.3}, {lam: 0.1}")), retries=0)
    assert (grown.total, grown.found, grown.finished, grown.failed) == (7, 4, 1, 2)
    calls = Counter(" ".join(path.name.split()[:-2]) for path in (project / "marks").iterdir())
    once_each = {"0.1 fine": 1, "0.2 fine": 1, "0.3 fine": 1}
    assert calls == {**once_each, "0.1 raise": 2, "0.1 die": 5, "0.1 die once": 2, "0.1 eat": 5}
    assert {path.name.split()[-1] for path in (project / "marks").glob("0.1 fine *")} == {"2"}  # threads


def test_a_sweep_with_kernels_leaves_everything_and_is_not_done_again(project: Path, call: Any) -> None:
    write(project, "runs: [{lam: 1.0}, {mode: raise}]")
    done = call("sweep", "study.yml", "--out", "out", "--workers", 1)
    folder = project / "out" / "study"
    assert done.exit_code == 1 and "1 finished, 1 failed" in done.stdout, done.output
    assert (folder / "index.html").is_file()
    good, bad = rows = studies.Store(folder).rows()
    for row in rows:
        left = {path.name for path in (folder / "runs" / row["id"]).iterdir()}
        assert left == {"tiny.ipynb", "result.json", "log.txt", "row.json"}
    assert good["status"] == "finished" and good["numbers"]["attacks"][0]["lam"] == 1.0 and good["seconds"] > 0
    assert bad["failure"] == "exception" and bad["reason"].endswith("ZeroDivisionError: the learner divided by zero")
    said = (folder / "runs" / good["id"] / "log.txt").read_text()
    assert "seed 0 done, malloc 4294967296" in said  # a worker of dask gives memory back at once, which is slow
    facts = json.loads(call("sweep", "study.yml", "--out", "out", "--json").stdout)
    assert (facts["found"], facts["finished"], facts["failed"]) == (2, 0, 0) and set(ended(folder).values()) == {1}


def test_what_is_wrong_is_refused_and_nothing_is_lost(project: Path, refuses: Callable[..., str]) -> None:
    path = write(project, "seeds: 2")
    for name, value in (("workers", -1), ("threads", 0), ("retries", "often"), ("scheduler", "carrier://pigeon")):
        refuses(partial(studies.sweep, path, project / "out", **{name: value}), f"{name}={value!r}")
    with studies.Store(project / "out" / "study").writing():
        refuses(lambda: studies.sweep(path, project / "out"), "study", "--out")

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
    store = studies.Store(tmp_path)
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


@pytest.mark.nightly
def test_a_kill_in_mid_study_changes_nothing(project: Path) -> None:
    path = write(project, "grid: {lam: [0.1, 1.0]}\nseeds: 3\nparameters: {seconds: 0.7}")
    columns = ["id", "lam", "seed", "status", "tardis_mean", "expdis_mean"]
    undisturbed = studies.sweep(path, project / "undisturbed")
    assert undisturbed.complete and (undisturbed.finished, undisturbed.failed) == (6, 0)
    how: dict[str, Any] = {"text": True, "stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONPATH": str(PROJECT)}}
    # a shell that starts a test run in the background has it ignore Ctrl-C, and children inherit that
    how["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)

    def kernels_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
        found = []
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):
                found += [child] if "ipykernel_launcher" in " ".join(child.cmdline()) else []
        return found

    for victim in ("worker", "kernel", "whole", "interrupt"):
        out = project / victim
        command = [sys.executable, "-c", "from devilgan_lite.cli import app; app()", "sweep", path, "--out", out]
        process, end = subprocess.Popen(list(map(str, command)), **how), time.monotonic() + 120
        while not (list(out.glob("study/runs/*/row.json")) and (kernels := kernels_of(process))):
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)
        if victim in ("whole", "interrupt"):
            process.send_signal(signal.SIGKILL if victim == "whole" else signal.SIGINT)
        else:
            chosen = kernels[0] if victim == "kernel" else kernels[0].parent()
            assert chosen is not None and chosen.pid != process.pid
            chosen.send_signal(signal.SIGKILL)
        process.wait(180)
        assert victim != "interrupt" or (process.returncode == 130 and (out / "study" / "index.html").is_file())
        left = len(list(out.glob("study/runs/*/row.json")))
        assert victim not in ("whole", "interrupt") or 1 <= left < 6
        done = studies.sweep(path, out)
        assert done.complete and (done.found, done.failed) == (left, 0), victim
        assert tidy(done.folder)[columns].equals(tidy(undisturbed.folder)[columns]), victim
        assert set(ended(done.folder).values()) == {1} and len(ended(done.folder)) == 6, victim
