"""Attacks on two architectures with five seeds, and what a blind cure leaves: docs/results/robustness.json and its .md.

    robustness.py [--only attacks,cures,alone] [--attacks TrAIL,ReD,ReX,Gate] [--architectures small,paper]
                  [--seeds 0,1,2] [--jobs 2] [--recipe search] [--out FOLDER] [--quick]

``small`` is the zoo's clean DCGAN of garments; ``paper`` is ``DCGAN.paper()``, which this bench trains once. TrAIL is
compared with a clean training of the same length and seed, the others with the generator that they start from. Clean
and backdoored networks are kept in out/robustness, rows as they come: a run that was cut short goes on where it was.
``--recipe search`` measures ReD and TrAIL over a small grid instead, on seeds that the report leaves out, and prints
its table: choose by it, then make the choice the package's default, or this bench's in ``RECIPES``. CPU-seconds mean
something on a quiet machine only: ``alone`` mounts the attacks whose seconds have a bar once more, one at a time, on
the first seed and architecture; run it by itself.
``--quick`` tries every path with tiny settings, in out/quick.
"""

import argparse
import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from attack_rows import TARGETS, seeds_of
from robustness_cases import ARCHITECTURES, Case, is_kept, started_from, train, work
from robustness_tables import MOST_SECONDS, REPORT_SEEDS, write_tables
from row_store import JOBS, OUT, QUICK, ROOT, Row, Rows, options_of, side_by_side, some_of

from devilgan_lite import attacks

ATTACKS: dict[str, type[attacks.Attack]] = {
    "TrAIL": attacks.TrAIL,
    "ReD": attacks.ReD,
    "ReX": attacks.ReX,
    "Gate": attacks.Gate,
}
RECIPES: dict[str, Row] = {"TrAIL": {}, "ReD": {}, "ReX": {}, "Gate": {}}  # where not the package's defaults
SEARCH_SEEDS = (20, 21, 22)  # a recipe is chosen on these and reported on others
GRID: dict[str, tuple[tuple[str, ...], dict[str, tuple[float | None, ...]]]] = {  # targets, and values of the settings
    "ReD": (("stop-sign",), {"lam": (0.4, 0.6, 0.8)}),
    "TrAIL": (("checkerboard", "stop-sign"), {"lam": (0.06,), "huber_delta": (0.07, 0.035, None)}),
}
SECONDS = {"TrAIL": 38.0, "ReD": 42.0, "ReX": 12.0, "Gate": 0.0, "cures": 40.0}  # roughly: they serve the time to go
MEASURING = 6.0
SLOWER = {"small": 1.0, "paper": 1.8}


def attack_of(name: str, seed: int, quick: bool, settings: Row) -> attacks.Attack:
    """With ``settings`` beside the defaults; on the CPU, whose seconds are counted."""
    if name != "Gate":
        settings = {**settings, "device": "cpu", **({"iterations": 3} if quick else {})}
    return ATTACKS[name](seed=seed, **settings)


def reported(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """All attacks, seed by seed, their cures, which clean networks go through first, and what is timed ``alone``.

    If quick: one seed and target, and cures of the last attack.
    """
    quick = options.quick
    targets = TARGETS[:1] if quick else TARGETS
    for section in options.only:
        names = options.attacks[-1:] if quick and section == "cures" else options.attacks
        seeds = options.seeds[:1] if quick or section == "alone" else options.seeds
        if section == "alone":
            names = [name for name in names if name in MOST_SECONDS]
        architectures = options.architectures[:1] if section == "alone" else options.architectures
        cases = [
            Case(folder, quick, section, architecture, attack_of(name, seed, quick, RECIPES[name]), target)
            for seed, architecture, name, target in itertools.product(seeds, architectures, names, targets)
        ]
        if section == "cures":
            yield from {(case.architecture, case.clean): replace(case, section="control") for case in cases}.values()
        yield from cases


def searched(options: argparse.Namespace, folder: Path) -> Iterator[Case]:
    """The whole grid, seed by seed."""
    seeds = SEARCH_SEEDS[:1] if options.quick else SEARCH_SEEDS
    for seed, architecture, name in itertools.product(seeds, options.architectures, options.attacks):
        targets, grid = GRID.get(name, ((), {}))
        values = [some[:1] if options.quick else some for some in grid.values()]
        for target, some in itertools.product(targets, itertools.product(*values)):
            attack = attack_of(name, seed, options.quick, dict(zip(grid, some, strict=True)))
            yield Case(folder, options.quick, "search", architecture, attack, target)


def train_missing(cases: Iterable[Case], jobs: int) -> None:
    """The clean networks of ``cases`` that are not there yet; before the attacks, so that none is trained twice."""
    missing = dict.fromkeys(case.clean for case in cases if case.clean is not None and not is_kept(case.clean.path))
    if missing:
        print(f"first {len(missing)} clean networks", flush=True)
    for _ in side_by_side(train, list(missing), jobs):
        pass


def cost(identity: Row) -> float:
    """Seconds that a row may take, roughly."""
    slower = SLOWER[identity["architecture"]]
    if identity["section"] in ("cures", "control"):
        return SECONDS["cures"] * slower + MEASURING
    attack, settings = identity["attack"], identity["settings"]
    length = settings.get("iterations", 1) / ATTACKS[attack]().settings().get("iterations", 1)
    return float(SECONDS[attack] * length * slower + MEASURING)


def main() -> None:
    def names(valid: Iterable[str]) -> Row:
        return {"type": some_of(valid), "default": list(valid), "help": f"some of {', '.join(valid)}"}

    recipe = {"choices": ("given", "search"), "default": "given", "help": "search: a grid over ReD and TrAIL instead"}
    seeds = {"type": seeds_of, "default": list(REPORT_SEEDS), "help": "whole numbers, such as 0,1,2"}
    options = options_of(
        __doc__,
        ("attacks", "cures", "alone"),
        ("--attacks", names(ATTACKS)),
        ("--architectures", names(ARCHITECTURES)),
        ("--seeds", seeds),
        ("--recipe", recipe),
        JOBS,
        OUT,
        QUICK,
    )
    if set(options.seeds) & set(SEARCH_SEEDS):
        raise SystemExit(f"--seeds {options.seeds}: recipes are chosen on {SEARCH_SEEDS}; report on others.")
    if options.recipe == "search" and not {"ReD", "TrAIL"} & set(options.attacks):
        raise SystemExit(f"--attacks {','.join(options.attacks)}: only recipes of ReD and TrAIL are searched.")
    folder = options.out / "robustness" if options.quick else ROOT / "out" / "robustness"
    store = Rows(options.out / "robustness.json")
    cases = list((searched if options.recipe == "search" else reported)(options, folder))
    starts = {case.architecture: case for case in cases if not isinstance(case.attack, attacks.TrAIL)}.values()
    train_missing(starts, options.jobs)  # at once: rows name the weights that attacks start from
    for case in starts:
        store.measure(case.clean_identity, functools.partial(started_from, case))
    todo = store.missing((case.identity, case) for case in cases)
    train_missing([case for _, case in todo], options.jobs)
    try:
        for alone, jobs in ((False, options.jobs), (True, 1)):
            some = [(identity, case) for identity, case in todo if (case.section == "alone") is alone]
            store.measure_all(work, some, jobs, cost)
    finally:
        write_tables(store.content, options.out / "robustness.md")


if __name__ == "__main__":
    main()
