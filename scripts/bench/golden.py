"""Golden results: what scan and cure say of the zoo and of strangers' generators, to be the same after a refactor.

    golden.py [--models REGEX] [--write] [--jobs 2]

Without ``--write`` each model is scanned and cured again and compared with ``tests/golden/golden.json``; one line for
each number that moved, and exit code 1. With it the file is written anew, with the commit that made it: only where
you want results to move; say why in the commit. The strangers' generators are 22 of the population of ``foreign.py``,
stored in 16 bits beside the file.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import foreign
from row_store import JOBS, MODELS, ROOT, Row, machine, options_of, plain, side_by_side, write_json

from devilgan_lite import detect, generators, sanitize, zoo

FOLDER = ROOT / "tests" / "golden"
PATH = FOLDER / "golden.json"
EXACT = 1e-3  # a strength may move by so much (absolute, or relative above 1) ...
OPTIMISED = 0.05  # ... and what an optimiser found by this share, as machines round differently
BY_OPTIMISER = ("strengths.twin", "cure.ordinary_change", "cure.trigger_change", "cure.strength after")


def names() -> list[str]:
    return [*zoo.names(), *sorted(path.stem for path in FOLDER.glob("*.safetensors"))]


def opened(name: str) -> generators.Generator:
    """A model of the zoo, or a stranger's."""
    if name in zoo.names():
        return generators.adopt(zoo.load(name))
    module, card = foreign.load(FOLDER / f"{name}.safetensors")
    return generators.adopt(module, card["latent_dim"], prior=card["prior"])


def scanned(name: str) -> tuple[generators.Generator, detect.ScanReport, Row]:
    subject = opened(name)
    report = detect.scan(subject, samples=200)
    row: Row = {"verdict": report.verdict, "kinds": list(report.kinds), "strengths": report.strengths}
    row["witness"] = report.witness is not None and report.witness.stands_out
    return subject, report, row


def measured(name: str) -> Row:
    """Verdict, kinds, strengths and witness of a scan, and the figures of the cure that follows from it."""
    subject, report, row = scanned(name)
    outcome = sanitize.auto(subject, report=report, progress=False, device="cpu")
    cure: Row = {"treatment": outcome.treatment, "cuts": outcome.settings["cuts"]}
    if outcome.after is not None:
        cure |= {key: outcome.scorecard[key] for key in ("ordinary_change", "trigger_change")}
        cure |= {"after": outcome.after.verdict, "strength after": max(outcome.after.strengths.values(), default=0.0)}
    return plain({**row, "cure": cure})


def leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from leaves(part, f"{where}.{key}" if where else key)
    else:
        yield where, value


def moved(golden: Row, row: Row) -> list[str]:
    """A line for each leaf of ``row`` that is not what the golden row says; a scan's row is compared in its part."""
    before, after = dict(leaves({key: golden[key] for key in row}, "")), dict(leaves(row, ""))
    found = []
    for where in sorted(before.keys() | after.keys()):
        old, new = before.get(where), after.get(where)
        numbers = all(isinstance(one, float) for one in (old, new))
        tolerated = {"rel_tol": OPTIMISED, "abs_tol": EXACT} if where in BY_OPTIMISER else {"rel_tol": EXACT}
        if not (math.isclose(old, new, **({"abs_tol": EXACT} | tolerated)) if numbers else old == new):
            found.append(f"{where}: {old} -> {new}")
    return found


def commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def compare(options: argparse.Namespace, wanted: list[str], golden: dict[str, Row]) -> int:
    bad = 0
    for index, row in side_by_side(measured, wanted, options.jobs):
        name = wanted[index]
        lines = moved(golden[name], row) if name in golden else ["it is not in golden.json; run with --write"]
        print(f"{name}: {'; '.join(lines) or 'as it was'}", flush=True)
        bad += bool(lines)
    print(f"{len(wanted) - bad} of {len(wanted)} models give the golden results")
    return 1 if bad else 0


def main() -> int:
    write = ("--write", {"action": "store_true", "help": "write the results down instead of comparing them"})
    options = options_of(__doc__, (), MODELS, JOBS, write)
    wanted = [name for name in names() if re.search(options.models, name)]
    content: Row = json.loads(PATH.read_text(encoding="utf-8")) if PATH.is_file() else {"models": {}}
    if not options.write:
        return compare(options, wanted, content["models"])
    content |= {"commit": commit(), "machine": machine()}
    for index, row in side_by_side(measured, wanted, options.jobs):
        content["models"][wanted[index]] = row
        write_json(PATH, content)
        print(wanted[index], row["verdict"], row["cure"]["treatment"], flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
