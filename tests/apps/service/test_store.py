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

from devilgan_lite.apps.service import alive
from devilgan_lite.apps.service import store as stores
from devilgan_lite.apps.service.settings import Settings
from devilgan_lite.apps.service.store import Job, Store

HERE, ELSEWHERE = alive.own_name(), "elsewhere 1 1"
NUMBERS = count()
FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
BINARIES = next((folder for folder in FOLDERS if (folder / "initdb").is_file()), None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A database that listens on a socket in a folder of its own, and on no port."""
    pytest.importorskip("psycopg")
    if BINARIES is None and not os.environ.get("POSTGRES_NEEDED"):
        pytest.skip("no postgresql")
    assert BINARIES is not None
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has at most 107 letters
        user: Any = {}
        if os.getuid() == 0:  # Postgres refuses to run as root
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        os.chmod(folder, 0o755)

        def run(*words: object) -> None:
            command, quiet = [BINARIES / str(words[0]), "-D", f"{folder}/data", *words[1:]], subprocess.DEVNULL
            subprocess.run(command, check=True, timeout=PATIENCE, cwd=folder, stdout=quiet, stderr=quiet, **user)

        run("initdb", "-U", "checks", "-A", "trust", "--no-sync", "--locale=C", "-E", "UTF8")
        run("pg_ctl", "-w", "-o", f"-k {folder} -c listen_addresses= -c fsync=off", "start")
        try:
            yield f"postgresql://checks@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-w", "-m", "fast", "stop")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.nightly)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    database = request.getfixturevalue("postgres") if request.param == "postgres" else ""
    store = Store(Settings(folder=tmp_path, database=database).url)
    yield store
    for owner in ("local", "ann", "bob"):
        for job in store.recent(owner, 1_000):
            store.delete(job.id, owner)
    store.close()


def add(store: Store, sha256: str = "", owner: str = "local", seed: int = 0, name: str = "a.onnx") -> Job:
    number = next(NUMBERS)
    given: Any = {"name": name, "size": 10, "settings": {"seed": seed}, "sha256": sha256 or f"{number:064}"}
    return store.add(f"job-{number}", owner=owner, **given)


def finish(store: Store, job: Job, worker: str = HERE) -> bool:
    return store.finish(job.id, worker, {"verdict": "clean", "x": [1]}, verdict="clean", sentence="Fine.")


def claimed(store: Store, worker: str = HERE) -> Job:
    job = store.claim(worker)
    assert job is not None
    return job


def found(store: Store, job: Job) -> Any:
    return store.get(job.id, job.owner)


def test_a_job_from_upload_to_report_until_it_is_forgotten(store: Store) -> None:
    job, waiting = add(store), add(store)
    assert (job.state, job.attempts, job.ended, store.count("waiting")) == ("waiting", 0, None, 2)
    again = Store(store.engine.url.render_as_string(hide_password=False))  # it is all there after a restart
    assert again.get(job.id, "local") == job
    again.close()
    mine = claimed(store)
    assert (mine.id, mine.state, mine.attempts) == (job.id, "running", 1)  # first come, first served
    assert store.active() == {job.id, waiting.id}
    with ThreadPoolExecutor(4) as pool:  # a worker's heartbeat and its events come from two threads
        assert all(pool.map(lambda number: store.tell(job.id, HERE, {"number": number}), range(20)))
    assert [number for number, _ in store.events(job.id)] == list(range(1, 21))
    assert sorted(content["number"] for _, content in store.events(job.id)) == list(range(20))
    assert store.events(job.id, after=18) == store.events(job.id)[18:]
    assert finish(store, job)
    ended = found(store, job)
    assert (ended.state, ended.verdict, ended.sentence) == ("done", "clean", "Fine.") and ended.ended is not None
    assert store.report(job.id) == {"verdict": "clean", "x": [1]}
    assert store.report_bytes() == len('{"verdict": "clean", "x": [1]}')
    assert store.count("done") == 1 and store.count("waiting", "running") == 1 and store.active() == {waiting.id}
    assert store.count("done", owner="bob") == 0 and [one.id for one in store.recent("local")] == [waiting.id, job.id]
    assert store.forget(time.time() - 10) == 0 and store.forget(time.time() + 10) == 1
    assert store.get(job.id, "local") is None and store.report(job.id) is None and store.events(job.id) == []
    assert found(store, waiting).state == "waiting" and store.report_bytes() == 0


def test_the_same_bytes_and_settings_are_one_job_until_it_fails_and_serve_another_owner(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: add(store, "a" * 64, "ann", name="hers.onnx").id, range(40)))
    assert len(ids) == 1 and store.count("waiting") == 1
    early = add(store, "a" * 64, "bob")
    assert early.id not in ids and early.state == "waiting"  # nothing is known yet, so nothing is told
    hers = claimed(store)
    assert {hers.id} == ids and store.get(hers.id, "bob") is None and not store.delete(hers.id, "bob")
    assert [job.id for job in store.recent("bob")] == [early.id] and store.delete(early.id, "bob")
    assert store.tell(hers.id, HERE, {"event": "a"}) and finish(store, hers)
    his = add(store, "a" * 64, "bob", name="his.onnx")
    assert (his.state, his.verdict, his.sentence, his.name) == ("done", "clean", "Fine.", "his.onnx")
    assert his.id != hers.id and store.report(his.id) == {"verdict": "clean", "x": [1]}
    assert store.events(his.id) == store.events(hers.id) == [(1, {"event": "a"})]
    assert store.delete(hers.id, "ann") and store.report(hers.id) is None and store.report(his.id) is not None
    first = add(store, "a" * 64, "bob", seed=5)
    assert first.state == "waiting" and add(store, "b" * 64, "bob", seed=5).id != first.id == claimed(store).id
    store.finish(first.id, HERE, None, verdict="", sentence="No.")
    second = add(store, "a" * 64, "bob", seed=5)
    assert second.id != first.id and second.state == "waiting" and found(store, first).state == "failed"


def test_each_job_is_claimed_once_and_owners_take_turns(store: Store) -> None:
    for owner in ("ann", "ann", "ann", "bob"):
        add(store, owner=owner)
    assert [claimed(store).owner for _ in range(4)] == ["ann", "bob", "ann", "ann"] and store.claim(HERE) is None
    ids = {add(store).id for _ in range(30)}
    with ThreadPoolExecutor(8) as pool:
        taken = [job.id for job in pool.map(lambda _: store.claim(HERE), range(60)) if job]
    assert sorted(taken) == sorted(ids)


def test_a_lease_that_ran_out_is_taken_back_until_the_job_is_given_up(store: Store, monkeypatch: Any) -> None:
    job, now = add(store), [time.time()]
    monkeypatch.setattr(stores.time, "time", lambda: now[0])
    for attempt in (1, 2, 3):
        assert claimed(store, ELSEWHERE).attempts == attempt
        now[0] += 59
        assert store.take_back() == []
        now[0] += 2
        assert [lost.id for lost in store.take_back()] == [job.id]
    given_up = found(store, job)
    assert (given_up.state, given_up.sentence, given_up.ended) == ("failed", stores.GIVEN_UP, now[0])
    again = add(store)
    claimed(store)
    for _ in range(3):  # a heartbeat keeps the lease
        now[0] += 50
        assert store.take_back() == [] and store.renew(again.id, HERE)
    now[0] += 61
    assert len(store.take_back()) == 1 and not store.renew(again.id, HERE)


def test_who_has_lost_a_job_writes_nothing_and_a_dead_process_of_this_machine_is_seen_at_once(store: Store) -> None:
    job = add(store)
    claimed(store, ELSEWHERE)
    assert not store.tell(job.id, HERE, {}) and not finish(store, job) and not store.hand_back(job.id, HERE)
    assert store.delete(job.id, "local") and not store.delete(job.id, "local")
    assert not store.renew(job.id, ELSEWHERE) and not store.tell(job.id, ELSEWHERE, {})
    assert store.events(job.id) == [] and store.report(job.id) is None

    place, pid, started = HERE.rsplit(" ", 2)
    add(store)
    for worker, gone in ((HERE, False), (f"{place} {pid} 1", True), (f"{place} 999999999 {started}", True)):
        assert alive.is_gone(worker) is gone and not alive.is_gone(f"x{worker}")
        job = claimed(store, worker)
        assert len(store.take_back()) == gone and store.hand_back(job.id, worker) is not gone
    for _ in range(5):  # what is handed back is no attempt
        job = claimed(store)
        assert job.attempts == 3  # the two that were lost, and this one
        assert store.hand_back(job.id, HERE)


@pytest.mark.nightly
def test_two_servers_share_twenty_jobs(postgres: str, tmp_path: Path) -> None:
    ledger, folder = tmp_path / "ledger", tmp_path / "service"
    words: Any = (folder, "--workers", "1")
    options: Any = {"STAND_IN_LEDGER": str(ledger), "DEVILGAN_DATABASE": postgres}
    with Server(*words, **options) as first, Server(*words, **options) as second:
        servers = [first, second] * 10
        ids = [one.ask("/scans", f"steps 2 {number}".encode())["id"] for number, one in enumerate(servers)]
        scans = first.wait_for(*ids)
        assert [(scan["state"], scan["attempts"]) for scan in scans] == [("done", 1)] * 20
        assert second.ask(f"/scans/{ids[1]}/report.json")["verdict"] == "suspicious"
    checked = Counter(ledger.read_text().split())
    assert sorted(checked) == sorted(scan["sha256"] for scan in scans) and set(checked.values()) == {1}
