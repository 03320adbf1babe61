"""Run a study on dask.distributed: on workers of this machine, or on a cluster that is there already.

Workers execute in folders of their own and hand everything back; only this process writes to the study's folder. So a
worker, a kernel or this process may be killed at any moment: what has finished is kept, and the next call goes on.
"""

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from devilgan_lite.apps.studies.limits import end_processes
from devilgan_lite.apps.studies.notebooks import PROJECT, read_notebook
from devilgan_lite.apps.studies.run import run
from devilgan_lite.apps.studies.store import Row, Store
from devilgan_lite.apps.studies.study import Run, Study, read_study
from devilgan_lite.checks import whole_number
from devilgan_lite.environment import set_defaults

AGAIN = ("kernel", "worker")  # failures that say more about the machine than about the run
AHEAD = 2  # runs handed out for each worker, so that none waits for the next
PATIENCE = 120.0  # seconds without any worker after which a sweep gives up
TICK = 2.0


@dataclass(frozen=True)
class Sweep:
    """What a sweep left in its ``folder``: how many of ``total`` runs it ``found`` there, ``finished``, saw ``failed``.

    ``interrupted`` if somebody pressed Ctrl-C; ``rows`` are those of all runs, in the order of the study.
    """

    folder: Path
    total: int
    found: int
    finished: int
    failed: int
    seconds: float
    interrupted: bool = False
    rows: list[Row] = field(default_factory=list, repr=False)

    @property
    def complete(self) -> bool:
        return not self.interrupted and self.found + self.finished + self.failed == self.total


def sweep(
    study: Study | str | Path,
    out: str | Path = "out/studies",
    *,
    workers: int = 0,
    scheduler: str | None = None,
    threads: int = 1,
    retries: int = 1,
    again: bool = False,
    on_row: Callable[[Row, int, int], object] | None = None,
) -> Sweep:
    """Run the study's remaining runs into ``out/<name>``; rerun to resume.

    ``workers`` processes of this machine (0: two where there are two cores; one if the study needs a GPU), or the
    cluster whose ``scheduler`` has this address. ``threads`` is for each run. A run that failed with its kernel or its
    worker is tried ``retries`` times more, now and in the next call; one whose own code failed, or that took too long
    or too much memory, only if ``again`` says so. ``on_row(row, done, total)`` is called
    after each run.
    """
    start = time.perf_counter()
    study = study if isinstance(study, Study) else read_study(study)
    whole_number("workers", workers, 0, 4_096)
    whole_number("threads", threads, 1, 4 * (os.cpu_count() or 1))
    whole_number("retries", retries, 0, 100)
    store = Store(Path(out) / study.name)
    counts = {"found": 0, "finished": 0, "failed": 0}
    with store.writing():
        store.describe(study)
        todo: list[Run] = []
        for one in study.runs:
            row = store.row(one.id)
            if row is None or (row["status"] == "failed" and (again or row.get("failure") in AGAIN)):
                todo.append(one)
            else:
                counts["found"] += 1
        interrupted = False
        if todo:
            try:
                some = workers or (1 if study.gpu else min(2, os.cpu_count() or 1))
                with _client(scheduler, some, threads, study.gpu) as (client, capacity):
                    for row in _rows(client, capacity, study, todo, retries, threads, store):
                        counts["finished" if row["status"] == "finished" else "failed"] += 1
                        if on_row is not None:
                            on_row(row, sum(counts.values()), len(study))
            except KeyboardInterrupt:
                interrupted = True
    return Sweep(
        store.folder,
        len(study),
        **counts,
        seconds=time.perf_counter() - start,
        interrupted=interrupted,
        rows=store.rows(),
    )


def _rows(
    client: Any, capacity: int, study: Study, todo: list[Run], retries: int, threads: int, store: Store
) -> Iterator[Row]:
    """Hand the runs out, a few at a time, and store and yield each row as it comes."""
    from distributed import TimeoutError as NotYet
    from distributed import wait

    documents: dict[Path, str] = {}
    queue, seen = list(reversed(todo)), time.monotonic()
    flying: dict[Any, Run] = {}
    attempts = dict.fromkeys((one.id for one in todo), 0)
    while queue or flying:
        while queue and len(flying) < AHEAD * capacity:
            one = queue.pop()
            attempts[one.id] += 1
            text = documents.setdefault(one.path, _text(one.path))
            task = {
                "name": one.notebook,
                "document": text,
                "parameters": one.parameters,
                "timeout": study.timeout,
                "memory_mb": study.memory_mb,
                "threads": threads,
            }
            needs = {"GPU": 1} if study.gpu else None
            key = f"run-{one.id}-{attempts[one.id]}-{time.time_ns()}"
            flying[client.submit(perform, task, key=key, pure=False, resources=needs)] = one
        try:
            ready = wait(list(flying), timeout=TICK, return_when="FIRST_COMPLETED").done
        except NotYet:
            seen = time.monotonic() if client.nthreads() else seen
            if time.monotonic() - seen > PATIENCE:
                raise ValueError(
                    f"no worker for {PATIENCE:.0f} s; what has finished is kept in {store.folder}."
                ) from None
            continue
        seen = time.monotonic()
        for future in ready:
            one = flying.pop(future)
            outcome, files = _outcome(future)
            future.release()
            if outcome.get("failure") in AGAIN and attempts[one.id] <= retries:
                queue.append(one)
                continue
            row = {"id": one.id, "notebook": one.notebook, "repeat": one.repeat, "parameters": one.parameters}
            row |= {"attempt": attempts[one.id], **outcome}
            store.keep(row, files)
            yield row


def _outcome(future: Any) -> tuple[Row, dict[str, bytes]]:
    """What a worker handed back, or the row of a run whose worker died with it again and again."""
    try:
        outcome, files = future.result()
        return outcome, files
    except Exception as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        return {"status": "failed", "failure": "worker", "reason": f"{type(error).__name__}: {first}"}, {}


def perform(task: Row) -> tuple[Row, dict[str, bytes]]:
    """One run, on a worker: its row and its files."""
    os.environ["DEVILGAN_THREADS"] = str(task["threads"])
    if os.environ.get("MALLOC_TRIM_THRESHOLD_") == "65536":  # dask's, which costs a kernel a third more time
        del os.environ["MALLOC_TRIM_THRESHOLD_"]
    set_defaults()
    with tempfile.TemporaryDirectory(prefix="devilgan-run-") as temporary:
        source = Path(temporary) / f"{task['name']}.ipynb"
        source.write_text(task["document"], encoding="utf-8")
        result = run(source, task["parameters"], temporary, task["timeout"], task["memory_mb"])
        folder = Path(temporary) / task["name"]
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    row: Row = {"status": "finished" if result.ok else "failed", "seconds": result.seconds}
    if not result.ok:
        row |= {"failure": result.failure, "reason": result.error}
    facts = ("seed", "settings", "numbers", "device", "threads", "versions", "peak_memory_mb", "not_finite")
    return row | {name: result.result[name] for name in facts if name in result.result}, files


def _text(path: Path) -> str:
    """The notebook as JSON."""
    import nbformat

    return str(nbformat.writes(read_notebook(path)))


@contextmanager
def _client(scheduler: str | None, workers: int, threads: int, gpu: bool) -> Iterator[tuple[Any, int]]:
    """A dask client and how many runs its workers take at once."""
    from distributed import Client, LocalCluster

    if scheduler is not None:
        try:
            client = Client(scheduler, timeout=10)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"scheduler={scheduler!r} does not answer: {reason}.") from None
        with client:
            yield client, _checked(client, gpu)
        return
    variables = {"DEVILGAN_THREADS": str(threads), "OMP_NUM_THREADS": str(threads)}
    if "site-packages" not in PROJECT.parts:
        variables["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    with (
        tempfile.TemporaryDirectory(prefix="devilgan-dask-") as temporary,
        LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address=None,
            memory_limit=0,  # each run has a limit of its own
            silence_logs=logging.CRITICAL,
            local_directory=temporary,
            resources={"GPU": 1} if gpu else None,
            env=variables,
        ) as cluster,
        Client(cluster) as client,
    ):
        try:
            yield client, workers
        except BaseException:  # nobody waits for what has been begun
            end_processes([worker.pid for worker in cluster.workers.values()])
            raise


def _checked(client: Any, gpu: bool) -> int:
    """How many workers a cluster has; one that cannot do the work is a ``ValueError``."""
    seats = client.nthreads()
    if not seats:
        raise ValueError("the scheduler has no workers; start some with dask worker ADDRESS --nthreads 1.")
    crowded = [address for address, count in seats.items() if count != 1]
    if crowded:
        raise ValueError(
            f"worker {crowded[0]} takes {seats[crowded[0]]} runs at once in one process; start it with --nthreads 1 "
            "(and --nworkers N for N runs at once)."
        )
    for address, found in client.run(_about).items():
        if found != _about():
            raise ValueError(f"worker {address} has {found}, and this process {_about()}; they must be the same.")
    if gpu:
        equipped = [one for one in client.scheduler_info()["workers"].values() if one.get("resources", {}).get("GPU")]
        if not equipped:
            raise ValueError('the study needs a GPU, and no worker offers one; start some with --resources "GPU=1".')
        return len(equipped)
    return len(seats)


def _about() -> str:
    from importlib import metadata

    return f"devilgan_lite {metadata.version('devilgan_lite')}"
