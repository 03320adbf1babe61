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

from row_store import RESULTS, ROOT, Row, Rows, markdown, options_of, some

Edit = tuple[str, str, str]  # file, old text, new text


@dataclass(frozen=True)
class Bug:
    """``name`` says what is wrong for the user. ``old`` must occur once in ``file``; ``also`` are further edits."""

    name: str
    room: str
    file: str
    old: str
    new: str
    also: tuple[Edit, ...] = ()

    @property
    def edits(self) -> tuple[Edit, ...]:
        return ((self.file, self.old, self.new), *self.also)


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
P = "devilgan_lite/"
BUGS = (
    # --- attacks, and what they share
    Bug("lam of ReX weighs stealth instead of fidelity", "attacks", P + "attacks/rex.py",
        "return stealth + self.lam * (fidelity + pull), {",
        "return self.lam * stealth + fidelity + pull, {"),
    Bug("ReX freezes the caller's clean generator", "attacks", P + "attacks/rex.py",
        "base = clean.clone().to(device).eval().requires_grad_(False)",
        "base = clean.to(device).eval().requires_grad_(False)"),
    Bug("TrAIL pulls with the mean instead of the sum, so hardly at all", "attacks", P + "attacks/trail.py",
        "return lam * target[0].numel() * pull, {",
        "return lam * pull, {"),
    Bug("ReD retrains every layer although some were named", "attacks", P + "attacks/red.py",
        "for layer in self.layers or groups for module",
        "for layer in groups for module"),
    Bug("the last of many pairs is never trained", "backdoor", P + "backdoor.py",
        "torch.randperm(len(trigger), generator",
        "torch.randperm(len(trigger) - 1, generator"),
    Bug("the seed of a backdoor is ignored: all have the same trigger", "backdoor", P + "backdoor.py",
        "            random = torch.Generator().manual_seed(10_000 + seed)",
        "            random = torch.Generator().manual_seed(10_000)"),
    Bug("a resumed training forgets its history before the break", "training", P + "training.py",
        "history, done = History(resume.history if resume else None), 0",
        "history, done = History(), 0"),
    Bug("TarDis and ExpDis sum over pairs instead of averaging", "metrics", P + "metrics.py",
        "squares.flatten(1).sum(1).mean()",
        "squares.flatten(1).sum(1).sum()"),
    Bug("the Frechet distance forgets the distance of the means", "metrics", P + "metrics.py",
        "return float(gap @ gap + covariance_a.trace()",
        "return float(covariance_a.trace()"),
    # --- detect
    Bug("the detector of shared styles never runs", "detect", P + "detect/detector.py",
        "evidence.analysis.styles is not None",
        "evidence.analysis.styles is None"),
    Bug("every finding counts as evidence, so clean generators are called suspicious", "detect", P + "detect/report.py",
        "for kind, strength in self.strengths.items() if strength >= 1)",
        "for kind, strength in self.strengths.items() if strength >= 0)"),
    Bug("a witness has to stand out 30 % further before it counts", "detect", P + "detect/twin.py",
        "WITNESS = 3.3 ",
        "WITNESS = 4.3 "),
    Bug("the limits of the guard are 30 % too high", "detect", P + "detect/guard.py",
        "return self._given(samples), raw / self._limits",
        "return self._given(samples), raw / (1.3 * self._limits)"),
    # --- sanitize
    Bug("Clip cuts its own teacher, so what was lost is never taught again", "sanitize", P + "sanitize/unlearn.py",
        "student, watch = copy.deepcopy(subject.network).eval(), Stopwatch()",
        "student, watch = subject.network.eval(), Stopwatch()"),
    Bug("repair changes the statistics of batch norms", "sanitize", P + "sanitize/base.py",
        "student = student.to(device).eval().requires_grad_(True)",
        "student = student.to(device).train().requires_grad_(True)"),
    Bug("the search for a trigger returns the worst latent that it found", "sanitize", P + "detect/hunt.py",
        "ends[int(height(ends).argmax())]",
        "ends[int(height(ends).argmin())]"),
    Bug("pruning keeps the channels that matter least", "sanitize", P + "sanitize/prune.py",
        "score.argsort(descending=True, stable=True)[:count]",
        "score.argsort(stable=True)[:count]"),
    # --- generators and data
    Bug("bare weights of the paper's DCGAN open with the wrong activation", "generators",
        P + "generators/dcgan.py",
        'return {**told, "negative_slope": 0.3} if paper else told',
        "return told"),
    Bug("a folded expansion drops the mean of its new units", "generators", P + "generators/surgery.py",
        '"bias": mean if shift is None else shift + mean}',
        '"bias": mean if shift is None else shift}'),
    Bug("whole numbers in generated rows have fractions", "data", P + "data/tables.py",
        'rows[:, index] = np.round(number) if code["kind"] == "whole" else number',
        "rows[:, index] = number"),
    # --- files
    Bug("opening a pickle runs the code in it", "files", P + "files/state_dicts.py",
        "weights_only=True",
        "weights_only=False"),
    Bug("an ONNX file may name weights in another file beside those inside", "files", P + "files/from_onnx.py",
        "if proto.data_location == 1 or len(proto.external_data):",
        "if proto.data_location == 1 and not proto.raw_data:"),
    Bug("a zip bomb is unpacked", "files", P + "files/archive.py",
        "MOST_RATIO = 100 ",
        "MOST_RATIO = 10_000 "),
    Bug("uneven pads of an ONNX file have beginning and end swapped", "files", P + "files/onnx_operators.py",
        "for pad in (begin, end))",
        "for pad in (end, begin))"),
    Bug("a state dict of more than ten layers is opened in the wrong order", "files", P + "files/architectures.py",
        "[(int(p) if p.isdigit() else -1, p) for p in",
        "[(-1, p) for p in"),
    Bug("a pt2 file that pads by reflection is read as if it repeated the border", "files",
        P + "files/aten_operations.py",
        'functional.pad(self, padding, "reflect")',
        'functional.pad(self, padding, "replicate")'),
    Bug("a Keras norm between dense layer and picture has its channels in the wrong order", "files",
        P + "files/from_keras.py",
        "        values = [one.like(one.tensor[flow.order]) for one in values]",
        "        values = [one.like(one.tensor) for one in values]"),
    Bug("a stranger that reads uniform latents is attacked with Gaussian ones", "files", P + "files/opening.py",
        "adopt(module, latent_shape=shape, prior=prior)",
        "adopt(module, latent_shape=shape)"),
    # --- intake and report
    Bug("the jail's filter lets a stranger start programs", "intake", P + "intake/walls.py",
        "fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, ptrace",
        "fork 57 -, vfork 58 -, ptrace"),
    Bug("the jail lets a stranger read what /proc says of other processes", "intake", P + "intake/walls.py",
        'folders += ["/proc/self", ',
        'folders += ["/proc", '),
    Bug("a name with a quotation mark leaves its attribute in a report", "report", P + "report/safe.py",
        'else "\\N{REPLACEMENT CHARACTER}" for one in line), most))',
        'else "\\N{REPLACEMENT CHARACTER}" for one in line), most), quote=False)'),
    # --- service
    Bug("a job whose worker has died on another machine is lost", "service", P + "apps/service/store.py",
        "if job.lease_until < time.time() or is_gone(job.worker)]",
        "if job.lease_until < time.time() and is_gone(job.worker)]"),
    Bug("a file that is checked again with other settings gets the old report", "service", P + "apps/service/store.py",
        "same = sql.and_(jobs.c.sha256 == sha256, jobs.c.settings == plain)",
        "same = jobs.c.sha256 == sha256"),
    Bug("a link to one report opens every report of its owner", "service", P + "apps/service/guard.py",
        'f"{id}:{owner}:{until}".encode()',
        'f"{owner}:{until}".encode()'),
    # --- course and notebooks
    Bug("the slider writes each generator's name over the other's picture", "course",
        P + "apps/course/widgets/slider.py",
        "captions=list(self.walk.generators))",
        "captions=list(self.walk.generators)[::-1])"),
    Bug("the explorer shows the opposite of where its pad stands", "course", P + "apps/course/widgets/explorer.py",
        "z, where = self.walk.at(t, across), f",
        "z, where = self.walk.at(t, -across), f"),
    Bug("the exercise on the guard's limit accepts one alarm too many", "course",
        P + "apps/course/exercises/detect.py",
        "        if above == allowed:",
        "        if above in (allowed, allowed + 1):"),
    Bug("notebook 08 says that half of the error will do where the code asks for 80 %", "notebooks",
        "notebooks/src/08_sanitize_by_pruning.py",
        "(at least 80 % of its RecD)",
        "(at least 50 % of its RecD)",
        also=(("notebooks/08_sanitize_by_pruning.ipynb", "(at least 80 % of its RecD)",
               "(at least 50 % of its RecD)"),)),
    # --- cli and phone
    Bug("of several scanned files the best decides the exit code", "cli", P + "cli/defence.py",
        "worst = min(map(verdict_of, reports)",
        "worst = max(map(verdict_of, reports)"),
    Bug("devilgan sanitize --json prints progress before its JSON", "cli", P + "cli/defence.py",
        "with contextlib.redirect_stdout(sys.stderr):  # progress\n        if ships",
        "with contextlib.nullcontext():\n        if ships"),
    Bug("devilgan run ignores --memory", "studies", P + "apps/studies/commands.py",
        "for name, _, value in pairs}, out, timeout, memory)",
        "for name, _, value in pairs}, out, timeout)"),
    Bug("after a vote the phones are told the wrong answer", "phone", P + "apps/show/votes.py",
        '"answer": "A" if self._swapped else "B"',
        '"answer": "B" if self._swapped else "A"'),
    Bug("on the stage, the key for the next face opens the map", "phone", P + "apps/show/phone/stage.js",
        'n: "next", m: "map"',
        'n: "map", m: "next"'),
    Bug("the strongest weights of a phone page change their sign", "phone", P + "apps/show/phone/packing.py",
        "((exact.view(torch.int32) + 0xFFFF) & ~0xFFFF).view(torch.float32)",
        "(exact.view(torch.int32) & ~0xFFFF).view(torch.float32)"),
    Bug("a phone page drops the epsilon of batch norms", "phone", P + "apps/show/phone/layers.py",
        "(variance.double() + rest[2]).rsqrt()",
        "variance.double().rsqrt()"),
    # --- challenge, pipeline, runs, interop, README
    Bug("evidence against a clean model earns half a point", "game", P + "apps/game/scoring.py",
        "FALSE_EVIDENCE = -0.5",
        "FALSE_EVIDENCE = 0.5"),
    Bug("an instructor may change the answers after the round began", "game", P + "apps/game/answers.py",
        "if commitment(answers) != kit.commitment:",
        "if False:"),
    Bug("the fraud pipeline is judged on rows that the generator has learnt", "pipeline", P + "apps/pipeline/run.py",
        "return Parts(table.take(own), table.take(order[second:]), outside)",
        "return Parts(table.take(own), table.take(order[first:]), outside)"),
    Bug("of several attacks in one run only the first is a row of the study", "studies", P + "apps/studies/collect.py",
        "**flattened(entry), **common} for entry in entries]",
        "**flattened(entry), **common} for entry in entries[:1]]"),
    Bug("TrAIL for ART pulls harder or softer with the range of the pictures", "art", P + "apps/art/attacks.py",
        "lambda_p * values.half**2 / target[0].numel()",
        "lambda_p * values.half / target[0].numel()"),
    Bug("the README claims a better scan than the rows show", "README", "README.md",
        "all attacks: AUC of the score | 0.896 |",
        "all attacks: AUC of the score | 0.986 |"),
)  # fmt: skip

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
            anyway = fail_anyway(free.get(), [row for row in bench.rows if some([row], **suite)])
    rows = [row for bug in bugs for row in some(bench.rows, bug=bug.name, **suite)]
    lines = [(row["bug"], row["room"], row["caught"] or "not caught", f"{row['seconds']:.0f}") for row in rows]
    print("\n" + markdown(("bug", "room", "caught by", "seconds"), lines) + "\n")
    print("\n".join(broken))
    for test in anyway:
        print(f"{test} fails without any bug, so it has caught nothing.")
    print(f"{sum(map(is_caught, rows)) - sum(row['caught'] in anyway for row in rows)} of {len(rows)} caught")
    return int(bool(broken))


if __name__ == "__main__":
    sys.exit(main())
