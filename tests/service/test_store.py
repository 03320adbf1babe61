"""Jobs, leases, events and reports: on SQLite, and every night the same on a Postgres that the test starts."""

import os
import pwd
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from running import PATIENCE, Server

from devilgan_lite.service import alive
from devilgan_lite.service import store as stores
from devilgan_lite.service.settings import Settings
from devilgan_lite.service.store import Job, Store

HERE = alive.own_name()
NUMBERS = count()
FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
NEEDED = ("initdb", "postgres", "pg_isready")
BINARIES = next((folder for folder in FOLDERS if all((folder / name).is_file() for name in NEEDED)), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A database that listens on a socket in a folder of its own, and on no port."""
    pytest.importorskip("psycopg")
    if BINARIES is None and not os.environ.get("POSTGRES_NEEDED"):
        pytest.skip("no postgresql")
    assert BINARIES is not None
    user: Any = {}
    if os.getuid() == 0:  # Postgres refuses to run as root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has at most 107 letters
        os.chmod(folder, 0o755)
        data = Path(folder) / "data"
        data.mkdir()
        for path in (folder, data) if user else ():
            os.chown(path, user["user"], user["group"])
        options = ["-U", "checks", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8"]
        begin = [BINARIES / "initdb", "-D", data, *options]
        subprocess.run(begin, check=True, capture_output=True, timeout=PATIENCE, cwd=folder, **user)
        command = [BINARIES / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **user)
        try:
            ready = [BINARIES / "pg_isready", "-q", "-h", folder]
            end = time.monotonic() + PATIENCE
            while subprocess.run(ready, timeout=PATIENCE).returncode and time.monotonic() < end:
                time.sleep(0.1)
            yield f"postgresql://checks@/postgres?host={folder}"
        finally:
            server.terminate()
            server.wait(PATIENCE)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.nightly)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    database = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    store = Store(Settings(folder=tmp_path, database=database).url)
    yield store
    for owner in ("local", "ann", "bob"):
        for job in store.recent(owner, 1_000):
            store.delete(job.id, owner)
    store.close()


def add(store: Store, sha256: str = "", owner: str = "local", settings: Any = None, **more: Any) -> Job:
    number = next(NUMBERS)
    given = {"name": "a.onnx", "size": 10, "settings": settings or {"seed": 0}, "sha256": sha256 or f"{number:064}"}
    return store.add(f"job-{number}", owner=owner, **{**given, **more})


def finish(store: Store, job: Job, worker: str = HERE, report: Any = None) -> bool:
    return store.finish(job.id, worker, report or {"verdict": "clean"}, verdict="clean", sentence="Fine.")


def claimed(store: Store, worker: str = HERE) -> Job:
    job = store.claim(worker)
    assert job is not None
    return job


def found(store: Store, job: Job) -> Job:
    known = store.get(job.id, job.owner)
    assert known is not None
    return known


def test_a_job_from_upload_to_report_until_it_is_forgotten(store: Store) -> None:
    job = add(store)
    assert (job.state, job.attempts, job.ended, store.count("waiting")) == ("waiting", 0, None, 1)
    waiting = add(store)
    mine = claimed(store)
    assert (mine.id, mine.state, mine.attempts) == (job.id, "running", 1)  # first come, first served
    assert store.active() == {job.id, waiting.id}
    with ThreadPoolExecutor(4) as pool:  # a worker's heartbeat and its events come from two threads
        assert all(pool.map(lambda number: store.tell(job.id, HERE, {"number": number}), range(20)))
    assert [number for number, _ in store.events(job.id)] == list(range(1, 21))
    assert sorted(content["number"] for _, content in store.events(job.id)) == list(range(20))
    assert store.events(job.id, after=18) == store.events(job.id)[18:]
    assert finish(store, job, report={"verdict": "clean", "x": [1]})
    ended = found(store, job)
    assert (ended.state, ended.verdict, ended.sentence) == ("done", "clean", "Fine.") and ended.ended is not None
    assert store.report(job.id) == {"verdict": "clean", "x": [1]}
    assert store.report_bytes() == len('{"verdict": "clean", "x": [1]}')
    assert store.count("done") == 1 and store.count("waiting", "running") == 1 and store.active() == {waiting.id}
    assert store.count("done", owner="bob") == 0 and [one.id for one in store.recent("local")] == [waiting.id, job.id]
    assert store.forget(time.time() - 10) == 0 and store.forget(time.time() + 10) == 1
    assert store.get(job.id, "local") is None and store.report(job.id) is None and store.events(job.id) == []
    assert found(store, waiting).state == "waiting" and store.report_bytes() == 0


def test_the_same_bytes_and_settings_are_one_job_until_it_fails(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: add(store, "a" * 64).id, range(40)))
    assert len(ids) == 1 and store.count("waiting") == 1
    first = claimed(store)
    assert {first.id} == ids
    assert add(store, "a" * 64, settings={"seed": 1}).id != first.id and add(store, "b" * 64).id != first.id
    store.finish(first.id, HERE, None, verdict="", sentence="No.")
    second = add(store, "a" * 64)
    assert second.id != first.id and second.state == "waiting" and found(store, first).state == "failed"


def test_a_finished_report_serves_another_owner_who_has_the_same_bytes(store: Store) -> None:
    hers, early = add(store, "a" * 64, "ann", name="hers.onnx"), add(store, "a" * 64, "bob")
    assert early.id != hers.id and early.state == "waiting"  # nothing is known yet, so nothing is told
    assert store.get(hers.id, "bob") is None and not store.delete(hers.id, "bob")
    assert [job.id for job in store.recent("bob")] == [early.id] and store.delete(early.id, "bob")
    assert claimed(store).id == hers.id and store.tell(hers.id, HERE, {"event": "a"}) and finish(store, hers)
    his = add(store, "a" * 64, "bob", name="his.onnx")
    assert (his.state, his.verdict, his.sentence, his.name) == ("done", "clean", "Fine.", "his.onnx")
    assert his.id != hers.id and store.report(his.id) == {"verdict": "clean"}
    assert store.events(his.id) == store.events(hers.id) == [(1, {"event": "a"})]
    assert store.delete(hers.id, "ann") and store.report(hers.id) is None and store.report(his.id) is not None
    assert add(store, "a" * 64, "bob", settings={"seed": 5}).state == "waiting"


def test_each_job_is_claimed_once_and_owners_take_turns(store: Store) -> None:
    for owner in ("ann", "ann", "ann", "bob"):
        add(store, owner=owner)
    assert [claimed(store).owner for _ in range(4)] == ["ann", "bob", "ann", "ann"] and store.claim(HERE) is None
    ids = {add(store).id for _ in range(30)}
    with ThreadPoolExecutor(8) as pool:
        taken = [job.id for job in pool.map(lambda _: store.claim(HERE), range(60)) if job]
    assert sorted(taken) == sorted(ids)


def test_a_lease_that_ran_out_is_taken_back_until_the_job_is_given_up(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, begun = add(store), time.time()
    now = [begun]
    monkeypatch.setattr(stores.time, "time", lambda: now[0])
    for attempt in (1, 2, 3):
        assert claimed(store, "elsewhere 1 1").attempts == attempt
        now[0] += 59
        assert store.take_back() == []
        now[0] += 2
        assert [lost.id for lost in store.take_back()] == [job.id]
    assert (found(store, job).state, found(store, job).sentence) == ("failed", stores.GIVEN_UP)
    assert found(store, job).ended == now[0]
    again = add(store)
    claimed(store)
    for _ in range(3):  # a heartbeat keeps the lease
        now[0] += 50
        assert store.take_back() == [] and store.renew(again.id, HERE)
    now[0] += 61
    assert len(store.take_back()) == 1 and not store.renew(again.id, HERE)


def test_who_has_lost_a_job_can_no_longer_write_to_it(store: Store) -> None:
    job = add(store)
    claimed(store, "elsewhere 1 1")
    assert not store.tell(job.id, HERE, {}) and not finish(store, job) and not store.hand_back(job.id, HERE)
    assert store.delete(job.id, "local") and not store.delete(job.id, "local")
    assert not store.renew(job.id, "elsewhere 1 1") and not store.tell(job.id, "elsewhere 1 1", {})
    assert store.events(job.id) == [] and store.report(job.id) is None


def test_a_dead_process_of_this_machine_is_seen_at_once_and_what_is_handed_back_is_no_attempt(store: Store) -> None:
    place, pid, started = HERE.rsplit(" ", 2)
    add(store)
    for worker, gone in ((HERE, False), (f"{place} {pid} 1", True), (f"{place} 999999999 {started}", True)):
        assert alive.is_gone(worker) is gone and not alive.is_gone(f"x{worker}")
        job = claimed(store, worker)
        assert len(store.take_back()) == gone and store.hand_back(job.id, worker) is not gone
    for _ in range(5):
        job = claimed(store)
        assert job.attempts == 3  # the two that were lost, and this one
        assert store.hand_back(job.id, HERE)


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'again.db'}"
    first = Store(url)
    job = add(first)
    first.close()
    second = Store(url)
    assert second.get(job.id, "local") == job
    second.close()


@pytest.mark.nightly
def test_two_servers_share_twenty_jobs(postgres: str, tmp_path: Path) -> None:
    ledger, folder = tmp_path / "ledger", tmp_path / "service"
    options: Any = {"STAND_IN_LEDGER": str(ledger), "DEVILGAN_DATABASE": postgres}
    with (
        Server(folder, "--workers", "1", **options) as first,
        Server(folder, "--workers", "1", **options) as second,
    ):
        servers = [first, second] * 10
        ids = [one.ask("/scans", f"steps 2 {number}".encode())["id"] for number, one in enumerate(servers)]
        scans = first.wait_for(*ids)
        assert [(scan["state"], scan["attempts"]) for scan in scans] == [("done", 1)] * 20
        assert second.ask(f"/scans/{ids[1]}/report.json")["verdict"] == "suspicious"
        commands = "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in first.workers())
        assert postgres.partition("@")[0] not in commands
    checked = Counter(ledger.read_text().split())
    assert sorted(checked) == sorted(scan["sha256"] for scan in scans) and set(checked.values()) == {1}
