"""The checking service under load and under kill -9: ``make bench NAME=service``, about ten minutes.

With a check that takes milliseconds, because the service is measured and not the scan; the last section does one real
scan. Rows: docs/results/service.json; page: service.md.
"""

import os
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
from page import sections, write_page
from row_store import OUT, QUICK, ROOT, Row, Rows, options_of

sys.path.insert(0, str(ROOT / "tests/apps/service"))
import running  # noqa: E402

MIB = 2**20
MANY = "queue=100000 queue_per_key=100000 uploads_per_minute=1000000"
TIMES = f"heartbeat_seconds=0.3 lease_seconds=2 poll_seconds=0.05 sweep_seconds=0.5 {MANY}"
SECTIONS = ("start", "uploads", "again", "kills", "memory", "scan")


def post(server: running.Server, content: bytes, query: str = "") -> tuple[str, float]:
    """The id of the scan, and the seconds until the answer."""
    start = time.perf_counter()
    answer = server.ask(f"/scans{query}", content)
    return answer["id"], time.perf_counter() - start


def measure_start(folder: Path, quick: bool) -> Row:
    seconds = []
    for number in range(1 if quick else 5):
        start = time.perf_counter()
        with running.Server(folder / str(number), "--workers", "1"):
            seconds.append(time.perf_counter() - start)
    return {"seconds": statistics.median(seconds)}


def measure_uploads(folder: Path, quick: bool) -> Row:
    count = 6 if quick else 30
    contents = [b"steps 1 " + os.urandom(2 * MIB) for _ in range(count)]
    with running.Server(folder / "service", "--workers", "2", times=TIMES) as server, ThreadPoolExecutor(count) as pool:
        server.wait_for(post(server, b"steps 1")[0])  # the workers are up
        answers = list(pool.map(lambda content: post(server, content), contents))
        scans = server.wait_for(*(id for id, _ in answers))
    seconds = sorted(seconds for _, seconds in answers)
    lost = count - len({scan["id"] for scan in scans if scan["state"] == "done"})
    return {"p95": statistics.quantiles(seconds, n=20, method="inclusive")[-1], "slowest": seconds[-1], "lost": lost}


def measure_again(folder: Path, quick: bool) -> Row:
    content = b"steps 1 " + os.urandom((1 if quick else 50) * MIB)
    with running.Server(folder / "service", "--workers", "1", times=TIMES) as server:
        id, first = post(server, content)
        server.wait_for(id)
        seconds = [again for _, again in (post(server, content) for _ in range(3 if quick else 20))]
    return {"milliseconds": 1000 * statistics.median(seconds), "first": 1000 * first}


def measure_kills(folder: Path, quick: bool) -> Row:
    """Each round: a few scans of a second, a kill in the middle of one, a new server where there is none."""
    kills = 3 if quick else 30
    ids: list[str] = []
    server = running.Server(folder / "service", "--workers", "2", times=TIMES).__enter__()
    for number in range(kills):
        new = [post(server, f"steps 20 {number} {k}".encode())[0] for k in range(3)]
        ids += new
        server.wait_for(new[0], states=("running", "done", "failed"))
        kind = ("worker", "server", "both")[number % 3]
        victims = [*(server.workers() if kind != "server" else []), *([] if kind == "worker" else [server.process.pid])]
        for pid in victims[:1] if kind == "worker" else victims:
            os.kill(pid, signal.SIGKILL)
        if kind != "worker":
            server.process.wait(running.PATIENCE)
            server.__exit__(None, None, None)
            server = running.Server(folder / "service", "--workers", "2", times=TIMES).__enter__()
    try:
        end = time.monotonic() + 5 * running.PATIENCE
        scans: list[Any] = []
        while time.monotonic() < end:
            scans = [server.ask(f"/scans/{id}") for id in ids]
            if all(scan["state"] in ("done", "failed") for scan in scans):
                break
            time.sleep(0.5)
    finally:
        server.__exit__(None, None, None)
    states = [scan["state"] for scan in scans]
    return {
        "kills": kills,
        "jobs": len(ids),
        "lost": len(ids) - states.count("done") - states.count("failed"),
        "failed": states.count("failed"),
        "again": sum(scan["attempts"] > 1 for scan in scans),
    }


def measure_memory(folder: Path, quick: bool) -> Row:
    few, many = (5, 20) if quick else (1_000, 1_000)
    with running.Server(folder / "service", "--workers", "2", times=TIMES) as server, ThreadPoolExecutor(4) as pool:
        process = psutil.Process(server.process.pid)

        def work(first: int, count: int) -> float:
            start = time.perf_counter()
            ids = [id for id, _ in pool.map(lambda k: post(server, f"steps 0 {first + k}".encode()), range(count))]
            for id in ids:
                server.wait_for(id)
                with urllib.request.urlopen(f"{server.address}/scans/{id}/events", timeout=running.PATIENCE) as answer:
                    answer.read()
                server.ask(f"/scans/{id}/report.json")
            return count / (time.perf_counter() - start)

        work(0, few)
        before = process.memory_info().rss / MIB
        rate = work(few, many)
        return {"before": before, "after": process.memory_info().rss / MIB, "rate": rate}


def measure_scan(folder: Path, quick: bool) -> Row:
    garments = (ROOT / "data" / "zoo" / "dcgan-fashion.safetensors").read_bytes()
    with running.Server(folder / "service", "--workers", "1", check="") as server:
        id, _ = post(server, b"no model at all")
        server.wait_for(id)  # the zygote has imported torch
        start = time.perf_counter()
        id, _ = post(server, garments, "?twin=false")
        (scan,) = server.wait_for(id)
        return {"seconds": time.perf_counter() - start, "verdict": scan["verdict"]}


def write_tables(content: Row, path: Path) -> None:
    """The page of results."""
    write_page(path, content, found=sections(content["rows"]))


def main() -> None:
    work = {name: globals()[f"measure_{name}"] for name in SECTIONS}
    options = options_of(__doc__, work, OUT, QUICK)
    rows = Rows(options.out / "service.json")
    for name in options.only:
        with tempfile.TemporaryDirectory() as folder:
            rows.measure({"section": name}, lambda: work[name](Path(folder), options.quick))  # noqa: B023
    write_tables(rows.content, options.out / "service.md")


if __name__ == "__main__":
    main()
