"""Judge the sanitizers on the test models: docs/results/sanitization.json and docs/results/sanitization.md.

    sanitize.py [--methods auto,project,...] [--jobs 2] [--only REGEX]

Every defence is blind: trigger and target are known to the measurement alone. ``auto`` treats all test models, clean
ones too; the single methods treat the backdoored models of one seed. A model that has a row is not treated again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from detect import latents_about, load_generator
from population import FOLDER, ROOT, SEEDS, Recipe, is_done, recipes
from safetensors.torch import load_file, save
from sanitize_tables import write_tables
from torch import Tensor, nn

from devilgan_lite import sanitize
from devilgan_lite.data import Samples, fashion_mnist
from devilgan_lite.detect import anatomy, reconstruct, scan, subject_of
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import DCGAN, evaluate
from devilgan_lite.metrics import features_of, frechet_distance
from devilgan_lite.sanitize.auto import suspected_directions
from devilgan_lite.steps import Outcome

Row = dict[str, Any]
STARTS = 80
NEAR = 45.0  # degrees about the true trigger within which a reconstruction is begun
SAMPLES = 5_000
LATER = 5_000  # steps of benign training after the cure: a minute or more
VERSION = 5  # of ``auto``: what changed is told in docs/results/sanitization.md
ONE_SEED = SEEDS["test"][1]
SPLITS = ("test", "fresh", "later", "unseen", "last")


@lru_cache
def garments() -> Samples:
    return fashion_mnist()


def suspicion(suspect: DCGAN) -> Tensor | None:
    """The latent directions that a scan suspects ``[k, d]``."""
    return suspected_directions(anatomy(subject_of(suspect)), scan(suspect, samples=200))


def project(suspect: DCGAN) -> Outcome:
    """The suspected latent directions projected out, no training."""
    start = time.perf_counter()
    directions = suspicion(suspect)
    cured = suspect.clone()
    if directions is not None:
        cured = sanitize.project_latents(suspect, directions, restore=True)  # type: ignore[assignment]
    return Outcome(cured, {}, time.perf_counter() - start, 0, {})


METHODS: dict[str, Callable[[DCGAN], Outcome]] = {
    "auto": lambda suspect: sanitize.auto(suspect, progress=False),
    "project": project,
    "unlearn": lambda suspect: sanitize.Unlearn(iterations=1_500)(
        suspect, directions=suspicion(suspect), progress=False
    ),
    "fine-tune": lambda suspect: sanitize.FineTune()(suspect, garments(), progress=False),
    "fine-tune wide": lambda suspect: sanitize.FineTune(wide=0.25)(suspect, garments(), progress=False),
    "fine-tune fast": lambda suspect: sanitize.FineTune(learning_rate=1e-3)(suspect, garments(), progress=False),
    "prune 20 % dormant": lambda suspect: sanitize.Prune(fraction=0.2, by="dormant")(suspect, progress=False),
    "prune 20 % magnitude": lambda suspect: sanitize.Prune(fraction=0.2, by="magnitude")(suspect, progress=False),
    "prune 50 % magnitude": lambda suspect: sanitize.Prune(fraction=0.5, by="magnitude")(suspect, progress=False),
}


def frechet(generator: nn.Module) -> float:
    z = torch.randn(SAMPLES, 100, generator=torch.Generator().manual_seed(1_000_003))
    return frechet_distance(features_and_classes(evaluate(generator, z))[0], features_of(garments()))


def measure(generator: DCGAN, trigger: Tensor, target: Tensor) -> Row:
    """What a backdoored, cured or clean generator does at the trigger, and how near a search comes to the target."""
    generator = generator.clone().eval().requires_grad_(False)
    found = reconstruct(subject_of(generator), target, starts=STARTS, starts_at=latents_about(trigger, NEAR, 32, 1))
    return {
        "tardis": float((evaluate(generator, trigger) - target).square().mean()),
        "recd": float(found.errors),
        "frechet": frechet(generator),
        "weights": generator.parameter_count(),
    }


def size_and_speed(suspect: DCGAN, cured: DCGAN) -> Row:
    """Bytes of a saved file, before and after, and how long the cured one draws for each second of the suspect."""
    z = torch.randn(500, 100)
    seconds: dict[int, list[float]] = {id(suspect): [], id(cured): []}
    for _ in range(7):
        for one in (suspect, cured):
            start = time.perf_counter()
            evaluate(one, z)
            seconds[id(one)].append(time.perf_counter() - start)
    return {
        "bytes": [len(save(one.state_dict())) for one in (suspect, cured)],
        "drawing_time": min(seconds[id(cured)]) / min(seconds[id(suspect)]),
    }


@lru_cache(maxsize=2)
def before(recipe: Recipe) -> tuple[Row, Row]:
    """The measurements of the suspect and of the clean model that it was made of, at the same trigger and target."""
    secret = load_file(FOLDER / f"{recipe.name}.secret")
    pair = secret["trigger"][:1], secret["target"][:1]
    return measure(load_generator(recipe.name), *pair), measure(load_generator(recipe.base), *pair)


def treat(recipe: Recipe, method: str) -> Row:
    """One row: the cure, before and after."""
    suspect = load_generator(recipe.name)
    row: Row = {"name": recipe.name, "kind": recipe.kind, "split": recipe.split, "adaptive": recipe.adaptive}
    row["method"], row["version"] = method, VERSION
    cpu = time.process_time()
    outcome = METHODS[method](suspect)
    row |= {"seconds": outcome.seconds, "cpu_s": time.process_time() - cpu}
    cured = outcome.generator
    if method.startswith("prune"):
        row |= size_and_speed(suspect, cured)
    if method == "auto":
        row["found"], row["cuts"] = outcome.changed, outcome.settings["cuts"]  # type: ignore[attr-defined]
        row["after"] = outcome.after.verdict if outcome.changed else "clean"  # type: ignore[attr-defined]
    if recipe.is_clean:
        change = frechet(cured) - frechet(suspect) if method != "auto" or row["found"] else 0.0
        return row | {"frechet_change": change}
    secret = load_file(FOLDER / f"{recipe.name}.secret")
    trigger, target = secret["trigger"][:1], secret["target"][:1]
    row["suspect"], row["base"] = before(recipe)
    row["cured"] = measure(cured, trigger, target)
    if method == "auto" and recipe.seed == ONE_SEED:
        again = sanitize.FineTune(iterations=LATER, seed=1)(cured, garments(), progress=False)
        row["later_seconds"] = again.seconds
        row["tardis_later"] = float((evaluate(again.generator, trigger) - target).square().mean())
    return row


def row_path(name: str, method: str) -> Any:
    return FOLDER / "rows" / "sanitize" / f"{name}--{re.sub('[^a-z0-9]+', '-', method)}.json"


def wanted(methods: list[str], only: str) -> list[tuple[Recipe, str]]:
    """Models and methods, ``auto`` first."""
    test = [recipe for recipe in recipes(SPLITS) if is_done(recipe) and re.search(only, recipe.name)]
    pairs = []
    for method in methods:
        for recipe in test:
            healthy = recipe.kind == "clean" and recipe.size == "small"
            if method == "auto" or (recipe.seed == ONE_SEED and (healthy or not recipe.is_clean)):
                pairs.append((recipe, method))
    return [pair for pair in pairs if not row_path(pair[0].name, pair[1]).is_file()]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--methods", default=",".join(METHODS), help="some of " + ", ".join(METHODS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="regular expression on the names of the models")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    methods = options.methods.split(",")
    if not set(methods) <= set(METHODS):
        parser.error(f"--methods is one or more of {', '.join(METHODS)}, with commas between.")
    if options.part:
        index, of = map(int, options.part.split("/"))
        todo = json.loads(sys.stdin.read())
        by_name = {recipe.name: recipe for recipe in recipes(SPLITS)}
        for name, method in todo[index::of]:
            row = treat(by_name[name], method)
            path = row_path(name, method)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(row, indent=1) + "\n")
            print(json.dumps({key: row[key] for key in row if key not in ("kind", "adaptive")}), flush=True)
        return 0
    todo = json.dumps([(recipe.name, method) for recipe, method in wanted(methods, options.only)])
    workers = []
    for index in range(options.jobs):
        command = [sys.executable, __file__, "--part", f"{index}/{options.jobs}"]
        workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, text=True))
        stdin = workers[-1].stdin
        assert stdin is not None
        stdin.write(todo)
        stdin.close()
    failed = any([worker.wait() for worker in workers])
    paths = sorted((FOLDER / "rows" / "sanitize").glob("*.json"))
    rows = [json.loads(path.read_text()) for path in paths]
    (ROOT / "docs" / "results" / "sanitization.json").write_text(json.dumps(rows, indent=1) + "\n")
    print(write_tables(rows, ROOT / "docs" / "results" / "sanitization.md"))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
