"""What all benches share: rows in a file, work in several processes, the command line.

A row starts with its identity (which model, which settings). A row that is there is not measured again, so a bench that
was cut short goes on where it stopped.
"""

import argparse
import json
import os
import platform
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "results"
Row = dict[str, Any]


class Rows:
    """Measurements in a file of JSON, stored as they come."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content: Row = {"machine": machine(), "rows": []}
        if path.is_file():
            self.content |= json.loads(path.read_text(encoding="utf-8"))
        self.rows: list[Row] = self.content["rows"]

    def add(self, identity: Row, measured: Row) -> None:
        """Store a row with its commit, and print what was measured; rows of another machine say so."""
        if not self.rows:
            self.content["machine"] = machine()
        elif not self.content["machine"].startswith(machine()):
            measured = {**measured, "machine": machine()}
            if machine() not in self.content["machine"]:
                self.content["machine"] += f"; other rows: {machine()}"
        self.rows.append(plain({**identity, **measured, "commit": commit()}))
        write_json(self.path, self.content)
        shown = {key: round(value, 6) for key, value in measured.items() if isinstance(value, float)}
        print(" ".join(str(identity[key]) for key in identity if key != "settings"), shown or measured, flush=True)

    def measure(self, identity: Row, work: Callable[[], Row]) -> None:
        """Do ``work`` here, unless there is a row of this ``identity``."""
        if not where(self.rows, **plain(identity)):
            self.add(identity, work())

    def missing(self, todo: Iterable[tuple[Row, Any]]) -> list[tuple[Row, Any]]:
        """The pairs of an identity and an argument that have no row yet."""
        return [(identity, one) for identity, one in todo if not where(self.rows, **plain(identity))]

    def measure_all(
        self,
        work: Callable[..., Row],
        todo: Iterable[tuple[Row, Any]],
        jobs: int,
        cost: Callable[[Row], float] = lambda identity: 1.0,
    ) -> None:
        """Do ``work(argument)`` for each pair of an identity and an argument, in ``jobs`` processes.

        Prints how long the rest will take; ``cost`` of an identity says how rows compare, in any unit.
        """
        left = self.missing(todo)
        identities = [identity for identity, _ in left]
        start, to_do, done = time.monotonic(), sum(map(cost, identities)), 0.0
        for count, (index, row) in enumerate(side_by_side(work, [one for _, one in left], jobs), start=1):
            self.add(identities[index], row)
            done += cost(identities[index])
            if count < len(left):
                minutes = (time.monotonic() - start) / done * (to_do - done) / 60
                print(f"{count} of {len(left)} rows; about {minutes:.0f} min to go", flush=True)


def side_by_side(work: Callable[..., Any], arguments: Sequence[Any], jobs: int) -> Iterator[tuple[int, Any]]:
    """Index and result of ``work(argument)`` for each argument as they come, from ``jobs`` processes of one thread.

    A failure does not stop the others; the first is raised when all are done.
    """
    failed: BaseException | None = None
    before = set(active_children())
    with ProcessPoolExecutor(jobs, get_context("spawn"), one_thread_while_needed) as pool:
        futures = {pool.submit(work, argument): index for index, argument in enumerate(arguments)}
        try:
            for future in as_completed(futures):
                if (error := future.exception()) is None:
                    yield futures[future], future.result()
                else:
                    print(f"{arguments[futures[future]]} failed: {error}", flush=True)
                    failed = failed or error
        except BaseException:  # nobody waits for the rest, what has begun and what has not
            for process in set(active_children()) - before:
                process.terminate()
            pool.shutdown(cancel_futures=True)
            raise
    if failed is not None:
        raise failed


def one_thread_while_needed() -> None:
    """For a process of ``side_by_side``: one thread, and an end when the bench that started it has ended."""
    torch.set_num_threads(1)
    bench = parent_process()

    def watch() -> None:
        if bench is not None:
            bench.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def where(rows: Iterable[Row], **wanted: Any) -> list[Row]:
    """The rows that have these values; of several (a list or tuple), any; a missing key is None."""

    def fits(found: Any, value: Any) -> bool:
        return found == value or (isinstance(value, list | tuple) and found in value)

    return [row for row in rows if all(fits(row.get(key), value) for key, value in wanted.items())]


def plain(value: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value, default=str))


def write_json(path: Path, content: Any) -> None:
    """Write ``content`` whole or not at all: whoever is cut off while writing keeps the old file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def machine() -> str:
    """The processor, threads and versions; nothing that names the computer."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text().splitlines() if table.is_file() else []
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {torch.get_num_threads()} thread, torch {torch.__version__}, Python {platform.python_version()}"


@cache
def commit() -> str:
    """What stands in this checkout: its commit, with a + where files that git knows have changed; empty without git."""
    words = ["git", "describe", "--always", "--abbrev=12", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """The result, and the CPU-seconds of this process."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def some_of(valid: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads an option's value: names with commas between, each of them one of ``valid``."""
    names = list(valid)

    def read(text: str) -> list[str]:
        found = [part.strip() for part in text.split(",") if part.strip()]
        unknown = [part for part in found if part not in names]
        if unknown or not found:
            raise argparse.ArgumentTypeError(f"{(unknown or [text])[0][:80]!r} is none of {', '.join(names)}.")
        return found

    return read


def options_of(doc: str | None, sections: Iterable[str], *more: tuple[str, Row]) -> argparse.Namespace:
    """The command line of a bench: which sections to measure, where to write, and ``more`` options (name, settings)."""
    parser = argparse.ArgumentParser(description=(doc or "").split("\n")[0])
    names = list(sections)
    if names:
        parser.add_argument("--only", type=some_of(names), default=names, help=f"some of {', '.join(names)}")
    for name, settings in more:
        parser.add_argument(name, **settings)
    options = parser.parse_args()
    if "out" in options and options.out is None:
        options.out = ROOT / "out" / "quick" if getattr(options, "quick", False) else RESULTS
    torch.set_num_threads(1)
    return options


OUT = ("--out", {"type": Path, "help": "folder of rows and tables instead of docs/results"})
QUICK = ("--quick", {"action": "store_true", "help": "tiny settings: tries every path, measures nothing; in out/quick"})
MODELS = ("--models", {"default": "", "help": "regular expression on the names of the models"})
JOBS = ("--jobs", {"type": int, "default": 2, "help": "processes side by side"})
