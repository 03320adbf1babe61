"""Jobs, leases, events and reports, on SQLite; test_postgres.py runs the same where two workers share a database."""

import time
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.service import alive
from devilgan_lite.service import store as stores
from devilgan_lite.service.store import Job, Store

HERE = alive.own_name()
NUMBERS = count()


def add(store: Store, sha256: str = "", owner: str = "local", settings: Any = None, **more: Any) -> Job:
    number = next(NUMBERS)
    given = {"name": "a.onnx", "size": 10, "settings": settings or {"seed": 0}, "sha256": sha256 or f"{number:064}"}
    return store.add(f"job-{number}", owner=owner, **{**given, **more})


def finish(store: Store, job: Job, worker: str = HERE, report: Any = None) -> bool:
    return store.finish(job.id, worker, report or {"verdict": "clean"}, verdict="clean", sentence="Fine.")


def test_a_job_from_upload_to_report(store: Store) -> None:
    job = add(store)
    assert (job.state, job.attempts, job.ended) == ("waiting", 0, None)
    claimed = store.claim(HERE)
    assert claimed is not None and (claimed.id, claimed.state, claimed.attempts) == (job.id, "running", 1)
    assert store.claim(HERE) is None
    assert store.tell(job.id, HERE, {"event": "a"}) and store.tell(job.id, HERE, {"event": "b"})
    assert store.events(job.id) == [(1, {"event": "a"}), (2, {"event": "b"})]
    assert store.events(job.id, after=1) == [(2, {"event": "b"})]
    assert finish(store, job, report={"verdict": "clean", "x": [1]})
    ended = store.get(job.id, "local")
    assert ended is not None and (ended.state, ended.verdict, ended.sentence) == ("done", "clean", "Fine.")
    assert store.report(job.id) == {"verdict": "clean", "x": [1]}
    assert store.count("done") == 1 and store.count("waiting", "running") == 0 and store.active() == set()


def test_the_same_bytes_and_settings_are_one_job(store: Store) -> None:
    first = add(store, "a" * 64)
    assert add(store, "a" * 64).id == first.id
    assert add(store, "a" * 64, settings={"seed": 1}).id != first.id
    assert add(store, "b" * 64).id != first.id


def test_the_same_bytes_at_once_are_one_job(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: add(store, "a" * 64).id, range(40)))
    assert len(ids) == 1 and store.count("waiting") == 1


def test_a_failed_job_may_be_tried_anew(store: Store) -> None:
    first = add(store, "a" * 64)
    store.claim(HERE)
    store.finish(first.id, HERE, None, verdict="", sentence="No.")
    second = add(store, "a" * 64)
    assert second.id != first.id and second.state == "waiting"


def test_another_owner_has_a_job_of_his_own(store: Store) -> None:
    hers = add(store, "a" * 64, "ann")
    his = add(store, "a" * 64, "bob")
    assert his.id != hers.id and his.state == "waiting"  # nothing is known yet, so nothing is told
    assert store.get(hers.id, "bob") is None and not store.delete(hers.id, "bob")
    assert [job.id for job in store.recent("bob")] == [his.id]


def test_a_finished_report_serves_another_owner_of_the_same_bytes(store: Store) -> None:
    hers = add(store, "a" * 64, "ann", name="hers.onnx")
    store.claim(HERE)
    store.tell(hers.id, HERE, {"event": "a"})
    finish(store, hers)
    his = add(store, "a" * 64, "bob", name="his.onnx")
    assert (his.state, his.verdict, his.name) == ("done", "clean", "his.onnx") and his.id != hers.id
    assert store.report(his.id) == store.report(hers.id) and store.events(his.id) == store.events(hers.id)
    assert store.delete(hers.id, "ann") and store.report(his.id) is not None
    assert add(store, "a" * 64, "bob", settings={"seed": 5}).state == "waiting"


def test_each_job_is_claimed_once(store: Store) -> None:
    jobs = {add(store).id for _ in range(30)}
    with ThreadPoolExecutor(8) as pool:
        claimed = [job.id for job in pool.map(lambda _: store.claim(HERE), range(40)) if job]
    assert sorted(claimed) == sorted(jobs)


def test_an_owner_of_many_files_does_not_keep_others_waiting(store: Store) -> None:
    for _ in range(3):
        add(store, owner="ann")
    add(store, owner="bob")
    owners = [job.owner for _ in range(4) if (job := store.claim(HERE))]
    assert owners == ["ann", "bob", "ann", "ann"]


def test_a_lease_that_ran_out_is_taken_back(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add(store)
    for attempt in (1, 2, 3):
        claimed = store.claim("elsewhere 1 1")
        assert claimed is not None and claimed.attempts == attempt
        assert store.take_back() == []
        later = time.time() + 61
        with monkeypatch.context() as patch:
            patch.setattr(stores.time, "time", lambda now=later: now)
            assert [lost.id for lost in store.take_back()] == [job.id]
    ended = store.get(job.id, "local")
    assert ended is not None and (ended.state, ended.sentence) == ("failed", stores.GIVEN_UP)


def test_a_heartbeat_keeps_the_lease(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = add(store)
    store.claim(HERE)
    later = time.time() + 50
    monkeypatch.setattr(stores.time, "time", lambda: later)
    assert store.renew(job.id, HERE)
    later += 50
    assert store.take_back() == []
    later += 50
    assert len(store.take_back()) == 1
    assert not store.renew(job.id, HERE)


def test_who_has_lost_a_job_can_no_longer_write_to_it(store: Store) -> None:
    job = add(store)
    store.claim("elsewhere 1 1")
    assert not store.tell(job.id, HERE, {}) and not finish(store, job) and not store.hand_back(job.id, HERE)
    store.delete(job.id, "local")
    assert not store.renew(job.id, "elsewhere 1 1") and not store.tell(job.id, "elsewhere 1 1", {})
    assert store.events(job.id) == [] and store.report(job.id) is None


def test_a_dead_process_of_this_machine_is_seen_at_once(store: Store) -> None:
    place, pid, started = HERE.rsplit(" ", 2)
    add(store)
    for worker, gone in ((HERE, False), (f"{place} {pid} 1", True), (f"{place} 999999999 {started}", True)):
        assert alive.is_gone(worker) is gone and not alive.is_gone(f"x{worker}")
        job = store.claim(worker)
        assert job is not None and len(store.take_back()) == gone
        store.hand_back(job.id, worker)


def test_handed_back_does_not_count_as_an_attempt(store: Store) -> None:
    job = add(store)
    for _ in range(5):
        claimed = store.claim(HERE)
        assert claimed is not None and claimed.attempts == 1
        assert store.hand_back(job.id, HERE)


def test_what_is_old_is_forgotten(store: Store) -> None:
    old, waiting = add(store), add(store)
    store.claim(HERE)
    store.tell(old.id, HERE, {"event": "a"})
    finish(store, old)
    assert store.report_bytes() == len('{"verdict": "clean"}')
    assert store.forget(time.time() - 10) == 0 and store.forget(time.time() + 10) == 1
    assert store.get(old.id, "local") is None and store.report(old.id) is None and store.events(old.id) == []
    assert store.get(waiting.id, "local") is not None and store.report_bytes() == 0


def test_it_is_all_there_after_a_restart(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'again.db'}"
    first = Store(url)
    job = add(first)
    first.close()
    second = Store(url)
    assert second.get(job.id, "local") == job
    second.close()
