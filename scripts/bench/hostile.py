"""Ten thousand hostile and broken files through the jail: make bench NAME=hostile.

    hostile.py [--count 10000] [--seed 0] [--every 25] [--out DIR]

Every file is opened behind the walls, as ``devilgan scan`` does; every 25th that opens is scanned as well. Canaries
that sing, hangs, refusals that are no short sentence and the memory of the parent are counted.
"""

import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import hostile_files
from page import write_page
from row_store import OUT, options_of, write_json

from devilgan_lite.files.sniff import Refused, facts
from devilgan_lite.intake.check import Options, scanned
from devilgan_lite.intake.jail import Ended, Jail, Limits

VERDICTS = ("clean", "suspicious", "inconclusive", "backdoored")  # of the scan of one that opens
BATCH = 250  # files that are made at once
LIMITS = Limits(wall_seconds=60, cpu_seconds=60, memory_bytes=3 * 2**30, file_bytes=2**26, answer_bytes=2**22)


def probe(arguments: dict[str, Any], tell: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    """In the jail: open the file, perhaps scan it; and say whether a canary sang, whatever else happens."""
    from devilgan_lite import files

    verdict, sentence = "opened", ""
    try:
        stranger = files.open(arguments["path"])
        if arguments["scan"]:
            verdict = scanned(stranger, Options(twin=False), "cpu", lambda event: None)["verdict"]
    except ValueError as error:
        verdict, sentence = "refused" if isinstance(error, Refused) else "no subject", str(error)
    return {"verdict": verdict, "sentence": sentence, "sang": os.path.exists("canary")}


def resident() -> float:
    """MiB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def judged(jail: Jail, path: Path, scan: bool) -> dict[str, Any]:
    """What became of one file: how it ended, and what is wrong with that."""
    start = time.perf_counter()
    try:
        facts(path)
    except Refused as error:  # the parent's own look
        found: dict[str, Any] = {"how": "refused", "verdict": "refused", "sentence": str(error), "sang": False}
        return {**found, "seconds": time.perf_counter() - start}
    ended: Ended = jail.run("hostile:probe", {"path": str(path), "scan": scan}, reads=[path], limits=LIMITS)
    value = ended.value or {"verdict": ended.how, "sentence": ended.sentence, "sang": False}
    return {"how": ended.how, **value, "seconds": time.perf_counter() - start}


def made(count: int, seed: int, folder: Path) -> Iterator[tuple[str, Path]]:
    """Names and paths of the files, made by another process, so that the memory of this one is that of a parent."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        honest = pool.submit(hostile_files.specimens, folder).result()
        for start in range(0, count, BATCH):
            wanted = range(start, min(start + BATCH, count))
            yield from pool.submit(hostile_files.write, honest, wanted, seed, folder).result()


def trial(count: int, seed: int, every: int, folder: Path) -> dict[str, Any]:
    """Run ``count`` files, two at a time; the counts as plain data."""
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong: list[dict[str, Any]] = []
    longest, slowest, memory = 0, 0.0, []
    pending: list[tuple[int, str, Path, Future[dict[str, Any]]]] = []

    def finish() -> None:
        nonlocal longest, slowest
        index, name, path, future = pending.pop(0)
        row = future.result()
        said = row["sentence"]
        outcomes[name, row["verdict"]] += 1
        longest, slowest = max(longest, len(said)), max(slowest, row["seconds"])
        fine = row["how"] in ("finished", "refused") and len(said) <= 300 and said.isprintable()
        if row["sang"] or not fine:
            wrong.append({"index": index, "name": name, **row})
        path.unlink()
        if index % 500 == 0:
            memory.append(round(resident(), 1))
            print(f"{index:6d}  {memory[-1]:.0f} MiB  wrong: {len(wrong)}", flush=True)

    with Jail() as jail, ThreadPoolExecutor(2) as pool:
        for index, (name, path) in enumerate(made(count, seed, folder)):
            pending.append((index, name, path, pool.submit(judged, jail, path, index % every == 0)))
            if len(pending) > 4:
                finish()
        while pending:
            finish()
    table = [
        {"name": name, "verdict": verdict, "count": number} for (name, verdict), number in sorted(outcomes.items())
    ]
    return {
        "count": count, "seed": seed, "outcomes": table, "wrong": wrong, "longest": longest,
        "slowest": round(slowest, 1), "memory": memory,
    }  # fmt: skip


def write_tables(found: dict[str, Any], path: Path) -> None:
    """The page of results."""
    ends = Counter({"canaries that sang": 0, "killed": 0, "crashed": 0, "failed": 0})
    for row in found["wrong"]:
        ends["canaries that sang" if row["sang"] else row["how"]] += 1
    write_page(path, found, ends=ends)


def main() -> None:
    options = options_of(
        __doc__, (), ("--count", {"type": int, "default": 10_000}), ("--seed", {"type": int, "default": 0}),
        ("--every", {"type": int, "default": 25, "help": "scan each so-manieth file that opens"}), OUT,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        found = trial(options.count, options.seed, options.every, Path(folder))
    write_json(options.out / "hostile.json", found)
    write_tables(found, options.out / "hostile.md")
    print(json.dumps(found["wrong"][:20], indent=1))


if __name__ == "__main__":
    main()
