"""Planted bugs: which mistakes would the tests let through? One at a time, in a copy of the checkout.

    planted.py [--only TEXT ...] [--jobs 1] [--limit SECONDS] [--whole] [--root FOLDER] [--out FILE]

Each bug is a small change of the kind that a refactor makes, and a user would see it. The tests of its
room are tried first; with ``--whole`` the rest of ``make test`` (without lint) follows, if they let it through. In the
end the tests that failed run once more on the copy as it is: a test that fails anyway has caught nothing. Rows are kept
in docs/results/planted.json; a bug that has one is not planted again. Exit code 1 if a bug no longer fits the code.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

import yaml
from page import table
from row_store import RESULTS, ROOT, Row, Rows, options_of, where

Edit = tuple[str, str, str]  # file, old text, new text


@dataclass(frozen=True)
class Bug:
    """``name`` says what is wrong for the user. The old text of each edit occurs once in its file."""

    name: str
    room: str
    edits: tuple[Edit, ...]


ROOMS = {  # the tests that are tried first; a path below scripts/ is run as a program
    "attacks": ("tests/attacks", "tests/contracts/test_attacks.py"),
    "backdoor": ("tests/test_backdoor.py", "tests/contracts/test_attacks.py"),
    "training": ("tests/test_training.py", "tests/contracts/test_families.py"),
    "metrics": ("tests/test_metrics.py",),
    "detect": ("tests/detect", "tests/contracts/test_detectors.py"),
    "sanitize": ("tests/sanitize", "tests/contracts/test_sanitizers.py"),
    "generators": ("tests/generators", "tests/contracts/test_families.py", "tests/files/test_opening.py"),
    "data": ("tests/data", "tests/generators"),
    "files": ("tests/files", "tests/contracts/test_formats.py"),
    "intake": ("tests/intake",),
    "report": ("tests/intake",),
    "service": ("tests/apps/service",),
    "course": ("tests/apps/course",),
    "notebooks": ("scripts/build/notebooks.py --check", "tests/apps/course"),
    "cli": ("tests/cli", "tests/contracts/test_commands.py"),
    "phone": ("tests/apps/show", "tests/browser"),
    "game": ("tests/apps/game",),
    "pipeline": ("tests/apps/pipeline",),
    "studies": ("tests/apps/studies",),
    "art": ("tests/apps/art",),
    "README": ("scripts/build/pages.py",),
}
BUGS = tuple(
    Bug(one["bug"], one["room"], tuple((edit["file"], edit["old"], edit["new"]) for edit in one.get("edits", [one])))
    for one in yaml.safe_load(Path(__file__).with_suffix(".yml").read_text(encoding="utf-8"))
)

PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2", "--dist", "worksteal")
REST = ("scripts/build/pages.py", "scripts/build/notebooks.py --check")  # of make test, beside pytest and lint
WHOLE = ("--doctest-modules", "tests", "devilgan_lite")
FAILED = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
LATE = "not within the limit"


def pytest_in(folder: Path) -> tuple[str, ...]:
    """The words that run tests; those of the night are left out where there are any."""
    known = '"nightly:' in (folder / "pyproject.toml").read_text(encoding="utf-8")
    return (*PYTEST, "-m", "not nightly") if known else PYTEST


def misfits(bugs: Sequence[Bug], root: Path) -> list[str]:
    """A line for each edit whose old text does not occur exactly once, or that changes nothing."""
    found = []
    for bug in bugs:
        for name, old, new in bug.edits:
            path = root / name
            times = path.read_bytes().decode().count(old) if path.is_file() else 0
            if times != 1 or old == new:
                found.append(f"{bug.name}: its text stands {times} times in {name}.")
    return found


def copied(root: Path, folder: Path) -> Path:
    """The files of the checkout ``root`` that git does not ignore, in ``folder``, which is a repository, too."""
    listed = subprocess.run(
        ["git", "ls-files", "-coz", "--exclude-standard"], cwd=root, capture_output=True, text=True, check=True
    )
    for name in sorted(set(listed.stdout.split("\0")) - {""}):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, folder / name)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    code, text = run(folder, ("-c", "import devilgan_lite; print(devilgan_lite.__file__)"), 300)
    where = (text.strip().splitlines() or [""])[-1]
    if code or not Path(where).is_relative_to(folder):
        raise RuntimeError(f"Python imports {where or 'nothing'} instead of the copy in {folder}.")
    return folder


def run(folder: Path, words: Sequence[str], limit: float) -> tuple[int | None, str]:
    """Exit code and output of Python with these ``words`` in a copy; None where the ``limit`` in seconds ended it."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    own = {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "0"}
    with (
        tempfile.TemporaryFile("w+", errors="replace") as said,
        subprocess.Popen(
            [sys.executable, *words],
            cwd=folder,
            env=kept | own,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process,
    ):
        code: int | None = None
        try:
            with suppress(subprocess.TimeoutExpired):
                code = process.wait(limit)
        finally:
            with suppress(ProcessLookupError):  # the workers of pytest, and what tests have left behind
                os.killpg(process.pid, signal.SIGKILL)
        said.seek(0)
        return code, said.read()


@contextmanager
def planted(folder: Path, bug: Bug) -> Iterator[None]:
    """The copy with the bug; afterwards as it was."""
    before = {name: (folder / name).read_bytes() for name, _, _ in bug.edits}
    changed = dict(before)
    for name, old, new in bug.edits:
        changed[name] = changed[name].decode().replace(old, new).encode()
    try:
        write(folder, changed)
        yield
    finally:
        write(folder, before)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write ``files``, and forget what Python has compiled of them: it looks at whole seconds and at the size only."""
    for name, content in files.items():
        path = folder / name
        path.write_bytes(content)
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*.pyc"):
            compiled.unlink()


def first_failure(folder: Path, tests: Sequence[str], until: float) -> str:
    """The first test, or program below scripts/, that fails: its name; empty if none does, ``LATE`` if it is late."""
    programs = [one for one in tests if one.startswith("scripts/")]
    parts = [(*pytest_in(folder), "-x", *found)] if (found := [one for one in tests if one not in programs]) else []
    for words in [*(tuple(one.split()) for one in programs), *parts]:
        code, text = run(folder, words, max(1.0, until - time.monotonic()))
        if code is None:
            return LATE
        if failed := FAILED.search(text):
            return failed[1]
        if code == 1 and words[0].startswith("scripts/"):
            return f"{' '.join(words)}: {text.strip().splitlines()[0][:120]}"
        if code:  # no such test, say
            raise RuntimeError(f"python {' '.join(words)} ended with {code}:\n{text[-1500:]}")
    return ""


def measured(folder: Path, bug: Bug, options: argparse.Namespace) -> Row:
    """What caught the bug, and after how many seconds."""
    start = time.monotonic()
    tests = ROOMS[bug.room]
    with planted(folder, bug):
        caught = first_failure(folder, tests, start + options.limit)
        if not caught and options.whole:
            caught = first_failure(folder, [*REST, *WHOLE], start + options.limit)
    return {"caught": caught, "seconds": round(time.monotonic() - start, 1)}


def fail_anyway(folder: Path, rows: Sequence[Row]) -> list[str]:
    """The tests that caught a bug, and fail in the copy without any."""
    tests = sorted({row["caught"] for row in rows} - {"", LATE})
    tests = [one for one in tests if not one.startswith("scripts/")]
    _, text = run(folder, (*pytest_in(folder), *tests), 3_600) if tests else (0, "")
    return FAILED.findall(text)


def is_caught(row: Row) -> bool:
    return row["caught"] not in ("", LATE)


def chosen(parts: Sequence[str] | None) -> list[Bug]:
    """The bugs whose names hold one of ``parts``; all without any. A part that is in no name is a ``ValueError``."""
    for part in parts or ():
        if not any(part in bug.name for bug in BUGS):
            raise ValueError(f"only={part!r} is in no name of a bug.")
    return [bug for bug in BUGS if not parts or any(part in bug.name for part in parts)]


def main() -> int:
    options = options_of(
        __doc__,
        (),
        ("--only", {"nargs": "+", "metavar": "TEXT", "help": "bugs with this in their names"}),
        ("--jobs", {"type": int, "default": 1, "help": "copies side by side, with two processes each"}),
        ("--limit", {"type": float, "default": 1_200.0, "help": "seconds for a bug"}),
        ("--whole", {"action": "store_true", "help": "go on with the rest of make test"}),
        ("--root", {"type": Path, "default": ROOT, "help": "another checkout"}),
        ("--out", {"type": Path, "default": RESULTS / "planted.json", "help": "file of the rows"}),
    )
    bugs = chosen(options.only)
    if found := misfits(BUGS, options.root):
        print("\n".join(found))
        return 1
    bench = Rows(options.out)
    suite = {"suite": "today", "whole": options.whole}
    todo = bench.missing([({"bug": bug.name, "room": bug.room, **suite}, bug) for bug in bugs])
    anyway, broken = list[str](), list[str]()
    if todo:
        with tempfile.TemporaryDirectory(prefix="planted-") as folder, ThreadPoolExecutor(options.jobs) as pool:
            free: SimpleQueue[Path] = SimpleQueue()
            for number in range(options.jobs):
                place = Path(folder).resolve() / str(number)
                place.mkdir()
                free.put(copied(options.root, place))

            def work(bug: Bug) -> Row:
                place = free.get()
                try:
                    return measured(place, bug, options)
                finally:
                    free.put(place)

            futures = {pool.submit(work, bug): identity for identity, bug in todo}
            try:
                for future in as_completed(futures):
                    if (error := future.exception()) is None:
                        bench.add(futures[future], future.result())
                    else:
                        broken.append(f"{futures[future]['bug']}: {error}")
            except KeyboardInterrupt:
                pool.shutdown(cancel_futures=True)
                raise
            anyway = fail_anyway(free.get(), [row for row in bench.rows if where([row], **suite)])
    rows = [row for bug in bugs for row in where(bench.rows, bug=bug.name, **suite)]
    caught_by = {"caught by": lambda row: row["caught"] or "not caught"}
    print("\n" + table(rows, {"bug": "{bug}", "room": "{room}"}, caught_by, {"seconds": "{seconds:.0f}"}) + "\n")
    print("\n".join(broken))
    for test in anyway:
        print(f"{test} fails without any bug, so it has caught nothing.")
    print(f"{sum(map(is_caught, rows)) - sum(row['caught'] in anyway for row in rows)} of {len(rows)} caught")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
