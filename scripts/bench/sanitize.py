"""Judge the sanitizers on the test models: docs/results/sanitization.json and docs/results/sanitization.md.

    sanitize.py [--only curves,methods] [--methods auto,project,...] [--models REGEX] [--jobs 2]

Every defence is blind: trigger and target are known to the measurement alone. ``auto`` treats all test models, clean
ones too; the single methods treat the backdoored models of one seed. A model that has a row is not treated again.
"""

import time
from collections.abc import Callable
from functools import lru_cache

import torch
from detect import latents_about
from population import FOLDER, Recipe, build, in_order, load_generator, secret_of, split_option
from row_store import JOBS, MODELS, OUT, Row, Rows, options_of, some_of, write_json
from safetensors.torch import save
from sanitize_curves import ONE_SEED, PICTURE, draw, frechet, garments, point, points, suspicion, tardis
from sanitize_tables import VERSION, write_tables
from torch import Tensor

from devilgan_lite import generators, sanitize
from devilgan_lite.detect import reconstruct
from devilgan_lite.generators import DCGAN, evaluate
from devilgan_lite.steps import Outcome

STARTS = 80
NEAR = 45.0  # degrees about the true trigger within which a reconstruction is begun
LATER = 5_000  # steps of benign training after the cure: a minute or more
SPLITS = ("test", "fresh", "later", "unseen", "last", "verdicts")


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
    "fine-tune": lambda suspect: sanitize.FineTune()(suspect, real=garments(), progress=False),
    "fine-tune wide": lambda suspect: sanitize.FineTune(wide=0.25)(suspect, real=garments(), progress=False),
    "fine-tune fast": lambda suspect: sanitize.FineTune(learning_rate=1e-3)(suspect, real=garments(), progress=False),
    "prune 20 % dormant": lambda suspect: sanitize.Prune(fraction=0.2, by="dormant")(suspect, progress=False),
    "prune 20 % magnitude": lambda suspect: sanitize.Prune(fraction=0.2, by="magnitude")(suspect, progress=False),
    "prune 50 % magnitude": lambda suspect: sanitize.Prune(fraction=0.5, by="magnitude")(suspect, progress=False),
}


def measure(generator: DCGAN, trigger: Tensor, target: Tensor) -> Row:
    """What a backdoored, cured or clean generator does at the trigger, and how near a search comes to the target."""
    generator = generator.clone().eval().requires_grad_(False)
    found = reconstruct(
        generators.adopt(generator), target, starts=STARTS, starts_at=latents_about(trigger, NEAR, 32, 1)
    )
    return {
        "tardis": tardis(generator, trigger, target),
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
    pair = [part[:1] for part in secret_of(recipe.name)]
    return measure(load_generator(recipe.name), *pair), measure(load_generator(recipe.base), *pair)


def treat(what: tuple[Recipe, str]) -> Row:
    """One row: the cure, before and after."""
    recipe, method = what
    suspect, cpu = load_generator(recipe.name), time.process_time()
    outcome = METHODS[method](suspect)
    row: Row = {"version": VERSION, "seconds": outcome.seconds, "cpu_s": time.process_time() - cpu}
    cured = outcome.generator
    if method.startswith("prune"):
        row |= size_and_speed(suspect, cured)
    if method == "auto":
        row["found"], row["cuts"] = outcome.changed, outcome.settings["cuts"]  # type: ignore[attr-defined]
        row["after"] = outcome.after.verdict if outcome.changed else "clean"  # type: ignore[attr-defined]
    if recipe.is_clean:
        change = frechet(cured) - frechet(suspect) if method != "auto" or row["found"] else 0.0
        return row | {"frechet_change": change}
    trigger, target = (part[:1] for part in secret_of(recipe.name))
    row["suspect"], row["base"] = before(recipe)
    row["cured"] = measure(cured, trigger, target)
    if method == "auto" and recipe.seed == ONE_SEED:
        again = sanitize.FineTune(iterations=LATER, seed=1)(cured, real=garments(), progress=False)
        row["later_seconds"] = again.seconds
        row["tardis_later"] = tardis(again.generator, trigger, target)
    return row


def wanted(methods: list[str], models: list[Recipe]) -> list[tuple[Row, tuple[Recipe, str]]]:
    """Identity and work of every row, ``auto`` first: it treats all models, the others those of one seed."""
    found = []
    for method in methods:
        for recipe in models:
            healthy = recipe.kind == "clean" and recipe.size == "small"
            if method == "auto" or (recipe.seed == ONE_SEED and (healthy or not recipe.is_clean)):
                facts = {fact: getattr(recipe, fact) for fact in ("name", "kind", "split", "adaptive")}
                version = {"version": VERSION} if method == "auto" else {}
                found.append(({**facts, "method": method, **version}, (recipe, method)))
    return found


def main() -> None:
    names = "some of " + ", ".join(METHODS).replace("%", "%%")
    methods = ("--methods", {"type": some_of(METHODS), "default": list(METHODS), "help": names})
    options = options_of(__doc__, ("curves", "methods"), OUT, methods, MODELS, split_option(*SPLITS), JOBS)
    models, rows = build(options), FOLDER / "rows"
    curves, treated = Rows(rows / "curves.json"), Rows(rows / "sanitize.json")
    if "curves" in options.only:
        curves.measure_all(point, points(models), options.jobs)
        write_json(options.out / "sanitization_curves.json", curves.rows)
        PICTURE.write_bytes(draw(curves.rows).png)
    if "methods" in options.only:
        treated.measure_all(treat, wanted(options.methods, models), options.jobs)
    write_json(options.out / "sanitization.json", in_order(treated.rows))
    write_tables(treated.rows, options.out / "sanitization.md")


if __name__ == "__main__":
    main()
