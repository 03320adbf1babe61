"""Several workers and two servers against one Postgres, which the test starts as an ordinary user."""

import os
import pwd
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from running import PATIENCE, Server
from test_store import HERE, add, finish

from devilgan_lite.service.settings import Settings
from devilgan_lite.service.store import Store

pytest.importorskip("psycopg")
FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *map(Path, os.get_exec_path())]
NEEDED = ("initdb", "postgres", "pg_isready")
BINARIES = next((folder for folder in FOLDERS if all((folder / name).is_file() for name in NEEDED)), None)
pytestmark = pytest.mark.skipif(BINARIES is None and not os.environ.get("POSTGRES_NEEDED"), reason="no postgresql")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A database that listens on a socket in a folder of its own, and on no port."""
    assert BINARIES is not None
    user: Any = {}
    if os.getuid() == 0:  # Postgres refuses to run as root
        nobody = pwd.getpwnam("nobody")
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has at most 107 letters
        os.chmod(folder, 0o755)
        data = Path(folder) / "data"
        data.mkdir()
        if user:
            os.chown(folder, user["user"], user["group"])
            os.chown(data, user["user"], user["group"])
        begin = [
            BINARIES / "initdb",
            "-D",
            data,
            "-U",
            "checks",
            "-A",
            "trust",
            "--no-sync",
            "--locale=C",
            "-E",
            "UTF8",
        ]
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


@pytest.fixture
def store(url: str, tmp_path: Path) -> Iterator[Store]:
    store = Store(Settings(folder=tmp_path, database=url).url)
    yield store
    for owner in ("local", "ann", "bob"):
        for job in store.recent(owner, 1_000):
            store.delete(job.id, owner)
    store.close()


def test_each_job_is_claimed_once(store: Store) -> None:
    jobs = {add(store).id for _ in range(30)}
    with ThreadPoolExecutor(8) as pool:
        claimed = [job.id for job in pool.map(lambda _: store.claim(HERE), range(60)) if job]
    assert sorted(claimed) == sorted(jobs)


def test_the_same_bytes_at_once_are_one_job(store: Store) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: add(store, "a" * 64).id, range(40)))
    assert len(ids) == 1 and store.count("waiting") == 1


def test_events_reports_and_other_owners(store: Store) -> None:
    hers = add(store, "b" * 64, "ann")
    assert store.claim(HERE) is not None
    with ThreadPoolExecutor(4) as pool:  # a worker's heartbeat and its events come from two threads
        assert all(pool.map(lambda number: store.tell(hers.id, HERE, {"number": number}), range(20)))
    assert [number for number, _ in store.events(hers.id)] == list(range(1, 21))
    assert finish(store, hers)
    his = add(store, "b" * 64, "bob")
    assert his.state == "done" and store.report(his.id) == {"verdict": "clean"} and len(store.events(his.id)) == 20
    assert store.report_bytes() > 0 and store.forget(time.time() + 1) == 2 and store.events(his.id) == []


@pytest.mark.slow
def test_two_servers_share_twenty_jobs(url: str, tmp_path: Path) -> None:
    ledger, folder = tmp_path / "ledger", tmp_path / "service"
    options: Any = {"STAND_IN_LEDGER": str(ledger), "DEVILGAN_DATABASE": url}
    with (
        Server(folder, "--workers", "1", **options) as first,
        Server(folder, "--workers", "1", **options) as second,
    ):
        ids = []
        for number in range(20):
            server = first if number % 2 else second
            ids.append(server.ask("/scans", f"steps 2 {number}".encode())["id"])
        scans = first.wait_for(*ids)
        assert [(scan["state"], scan["attempts"]) for scan in scans] == [("done", 1)] * 20
        assert second.ask(f"/scans/{ids[1]}/report.json")["verdict"] == "suspicious"
        assert url.partition("@")[0] not in "".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in first.workers())
    checked = Counter(ledger.read_text().split())
    assert sorted(checked) == sorted(scan["sha256"] for scan in scans) and set(checked.values()) == {1}
