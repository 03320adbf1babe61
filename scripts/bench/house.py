"""Print how large and how quick the house is: lines by folder, longest files, notebooks, imports, the test suite.

    house.py [--tests] [--runs 5]

Budgets, not tests: a clock and a size say nothing on somebody else's busy machine. ``--tests`` also runs the tests of
``make test`` in one process and lists the slowest (minutes).
"""

import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from row_store import ROOT, markdown, options_of

FOLDERS = ("devilgan_lite", "scripts", "tests", "notebooks/src", "studies")
LONG = 250  # lines: from here on a file may be worth a split
LARGE = 400_000  # bytes of a notebook that GitHub still shows in good time
STARTS = {"import devilgan_lite": 0.3, "import devilgan_lite.cli": 0.3, "devilgan --help": 0.3, "import torch": None}


def lines_of(folder: Path) -> dict[Path, int]:
    return {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sorted(folder.rglob("*.py"))}


def folders() -> Iterator[tuple[str, str, str]]:
    """Files and lines of every folder and of what lies in it."""
    for name in FOLDERS:
        lines = lines_of(ROOT / name)
        yield f"**{name}**", str(len(lines)), f"{sum(lines.values()):,}"
        for inner in sorted({path.relative_to(ROOT / name).parts[0] for path in lines}):
            if (ROOT / name / inner).is_dir():
                some = [count for path, count in lines.items() if path.is_relative_to(ROOT / name / inner)]
                yield f"{name}/{inner}", str(len(some)), f"{sum(some):,}"
    package = lines_of(ROOT / FOLDERS[0])
    core = [count for path, count in package.items() if path.relative_to(ROOT).parts[1] != "apps"]
    yield "**the core**, without applications", str(len(core)), f"{sum(core):,}"


def start(what: str, runs: int) -> list[float]:
    """Seconds of a fresh Python that does this, for each of some runs."""
    code = "from devilgan_lite.cli import app; app(['--help'])" if what.startswith("devilgan") else what
    found = []
    for _ in range(runs):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        found.append(time.perf_counter() - began)
    return found


def main() -> None:
    tests = ("--tests", {"action": "store_true", "help": "run the tests of make test as well, and list the slowest"})
    runs = ("--runs", {"type": int, "default": 5, "help": "starts of each command"})
    options = options_of(__doc__, (), tests, runs)
    print(markdown(("folder", "files", "lines of Python"), folders()), "\n")
    every = {path: count for name in FOLDERS for path, count in lines_of(ROOT / name).items()}
    longest = sorted(every.items(), key=lambda pair: -pair[1])
    shown = [(path.relative_to(ROOT).as_posix(), str(count)) for path, count in longest if count >= LONG]
    print(markdown((f"files of {LONG} lines or more", "lines"), shown), "\n")
    sizes = {path.name: path.stat().st_size for path in sorted(ROOT.glob("notebooks/*.ipynb"))}
    notebooks = [(name, f"{size / 1000:,.0f}", "large" if size > LARGE else "") for name, size in sizes.items()]
    print(markdown(("notebook", "kB", ""), notebooks), "\n")
    lines = []
    for what, goal in STARTS.items():
        seconds = start(what, options.runs)
        values = (f"{min(seconds):.2f}", f"{statistics.median(seconds):.2f}", "-" if goal is None else f"{goal:g}")
        lines.append((what, *values))
    print(markdown(("start", "least s", "median s", "goal"), lines), flush=True)
    if options.tests:
        began, before = time.perf_counter(), os.times()
        command = [sys.executable, "-m", "pytest", "-q", "-m", "not nightly", "--durations=25", "tests"]
        done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        after, seconds = os.times(), time.perf_counter() - began
        busy = after.children_user + after.children_system - before.children_user - before.children_system
        slowest = re.findall(r"^\s*([\d.]+)s (call|setup) +(\S+)", done.stdout, re.MULTILINE)
        print("\n" + markdown(("seconds", "what", "test"), slowest))
        print(f"\n{done.stdout.strip().splitlines()[-1]}\n{busy:.0f} CPU-s, {seconds:.0f} s")


if __name__ == "__main__":
    main()
