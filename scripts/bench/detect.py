"""Judge the detectors on models that they were not tuned on: docs/results/detection.json and docs/results/detection.md.

    detect.py [--only scan,targets,access,guard,verdict] [--models REGEX] [--split tune,test] [--jobs 2]

``scan``: the blind detectors on every model of out/population (made by population.py). ``targets``: reconstruction of
the known target, black box and with the directions that the weights suggest; clean models are tried with all targets.
``access``: what outputs alone show (T0), what a clean reference adds (T3) and what training data add (T4). ``guard``:
one model of each kind. ``verdict``: ``detect.scan`` as it is, on models of the split "verdicts". The three before
measure test models. A model that has a row is not measured again.
"""

import json
import math
import time
from dataclasses import dataclass, replace

import population
import torch
from detect_tables import write_tables
from foreign_tables import likeness
from population import FOLDER, SEEDS, TARGETS, Recipe, build, in_order, load_generator, recipes, secret_of, split_option
from row_store import JOBS, MODELS, OUT, Row, Rows, options_of, write_json
from torch import Tensor

from devilgan_lite.data import fashion_mnist, target
from devilgan_lite.detect import (
    Finding,
    Guard,
    analyse_weights,
    inspect_activations,
    inspect_spectra,
    inspect_structure,
    inspect_targets,
    sample_outputs,
    scan,
)
from devilgan_lite.detect.reference import compare
from devilgan_lite.detect.search import locate_trigger, starting_points
from devilgan_lite.detect.weights import candidate_directions
from devilgan_lite.generators import Generator, adopt


@dataclass(frozen=True)
class Blind:
    """What the blind detectors say of one model."""

    subject: Generator
    findings: list[Finding]
    directions: Tensor
    source: str
    trigger: Tensor
    samples: Tensor


def load(name: str) -> Generator:
    return adopt(load_generator(name))


def examine(recipe: Recipe) -> Blind:
    """Run the blind detectors on one model."""
    subject = load(recipe.name)
    structure = inspect_structure(subject)
    parts = analyse_weights(subject)
    directions = candidate_directions(parts)
    awake = inspect_activations(subject, units=parts.units, directions=directions)
    findings = [structure, *inspect_spectra(subject, parts), awake]
    found, trigger, samples = locate_trigger(subject, parts, findings)
    return Blind(subject, findings, directions, found.details["source"], trigger, samples)


def scan_one(recipe: Recipe) -> Row:
    """The scores of the blind detectors on one model, and how near the estimate comes to what the attacker knows."""
    start, cpu = time.perf_counter(), time.process_time()
    blind = examine(recipe)
    row: Row = {
        "scores": {finding.detector: finding.score for finding in blind.findings},
        "source": blind.source,
        "seconds": time.perf_counter() - start,
        "cpu_s": time.process_time() - cpu,
    }
    if not recipe.is_clean:
        trigger, shown = secret_of(recipe.name)
        cosines = torch.nn.functional.cosine_similarity(blind.trigger.view(1, -1), trigger)
        errors = (blind.samples.unsqueeze(1) - shown).square().flatten(2).mean(2)
        row |= {"cosine": float(cosines.max()), "picture_error": float(errors.min())}
        row["absolute_cosine"] = float(cosines.abs().max())
    return row


def targets_one(recipe: Recipe) -> Row:
    """Scores of the reconstruction of the known target: black box (T1), and from what the weights suggest (T1, T2)."""
    blind = examine(recipe)
    subject, starts = blind.subject, starting_points(blind.trigger, blind.directions)
    if recipe.is_clean:
        named = {name: target(name, subject.sample_shape[-1]).unsqueeze(0) for name in TARGETS}
        garment = next(
            other for other in recipes((recipe.split,)) if other.target == "garment" and other.seed == recipe.seed
        )
        real = fashion_mnist()
        named["garment"] = population.backdoor_of(garment, load_generator(garment.base), real).target[:1]
    else:
        named = {recipe.target: secret_of(recipe.name)[1][:1]}
    tried: Row = {}
    cpu = time.process_time()
    for name, picture in named.items():
        alone = inspect_targets(subject, picture, names=[name])
        helped = inspect_targets(subject, picture, names=[name], start_from=starts)
        details = alone.details["targets"][name]
        tried[name] = {"alone": alone.score, "helped": helped.score, "error": details["error"]}
    return {"targets": tried, "cpu_s_a_target": (time.process_time() - cpu) / len(named) / 2}


def access_one(recipe: Recipe) -> Row:
    """Scores of outputs alone (T0), of the comparison with the clean model of which this one is made and with a clean
    model of another seed (T3), and of outputs beside training data (T4)."""
    subject, real = load(recipe.name), fashion_mnist()
    seeds = SEEDS[recipe.split]
    stranger = replace(recipe, kind="clean", seed=seeds[(seeds.index(recipe.seed) + 1) % len(seeds)]).name
    row: Row = {
        "T0": sample_outputs(subject, samples=2_000).score,
        "T4": sample_outputs(subject, samples=2_000, real=real).details["largest"]["real"],
        "T3, another clean model": compare(subject, load(stranger)).score,
    }
    if recipe.kind != "clean":
        row["T3, the clean original"] = compare(subject, load(recipe.base)).score
    return row


def latents_about(trigger: Tensor, degrees: float, n: int, seed: int) -> Tensor:
    """``n`` latents within an angle of a trigger ``[1, d]``, of its length."""
    unit, random = trigger / trigger.norm(), torch.Generator().manual_seed(seed)
    aside = torch.randn(n, trigger.shape[1], generator=random)
    aside = torch.nn.functional.normalize(aside - (aside @ unit.T) * unit, dim=1)
    angle = torch.rand(n, 1, generator=random) * math.radians(degrees)
    return (angle.cos() * unit + angle.sin() * aside) * trigger.norm()


def guard_one(recipe: Recipe) -> Row:
    """Shares flagged: of 20,000 ordinary latents, and of 1,000 within 5 degrees of the trigger."""
    generator = load_generator(recipe.name)
    guard = Guard(generator, seed=recipe.seed)
    ordinary = generator.sample_latent(20_000, torch.Generator().manual_seed(recipe.seed + 31))
    row: Row = {"ordinary": float(torch.cat([guard.check(z).flags for z in ordinary.split(500)]).float().mean())}
    if not recipe.is_clean:
        trigger = secret_of(recipe.name)[0][:1]
        near = latents_about(trigger, 5.0, 1_000, recipe.seed)
        row["caught"] = float(torch.cat([guard.check(z).flags for z in near.split(250)]).float().mean())
    return row


def verdict_one(recipe: Recipe) -> Row:
    """The whole scan of one model, and how like the attacker's picture are those that the report shows."""
    cpu = time.process_time()
    report = scan(load_generator(recipe.name), samples=200)
    row: Row = {"verdict": report.verdict, "score": report.score, "cpu_s": time.process_time() - cpu}
    row |= {f"strength {kind}": strength for kind, strength in report.strengths.items()}
    row["witness"] = report.witness is not None and report.witness.stands_out
    if not recipe.is_clean:
        trigger, shown = secret_of(recipe.name)
        row["likeness"] = likeness(report, shown)
        if report.trigger is not None:
            row["cosine"] = float(torch.nn.functional.cosine_similarity(report.trigger.view(1, -1), trigger).max())
    return row


WORK = {"scan": scan_one, "targets": targets_one, "access": access_one, "guard": guard_one, "verdict": verdict_one}


def identity(recipe: Recipe) -> Row:
    return {fact: getattr(recipe, fact) for fact in ("name", "kind", "split", "adaptive", "target")}


def wanted(section: str, some: list[Recipe]) -> list[Recipe]:
    """The models that a section measures: all; the test models, or half of the clean and all others; one a kind."""
    test = [recipe for recipe in some if recipe.split == "test"]
    clean = [recipe for recipe in test if recipe.kind == "clean"]
    others = [recipe for recipe in test if recipe.kind != "clean"]
    if section in ("scan", "verdict"):
        return [recipe for recipe in some if (recipe.split == "verdicts") == (section == "verdict")]
    if section == "targets":  # a minute a clean model
        return clean[::2] + [recipe for recipe in others if not recipe.is_clean]
    if section == "access":
        return test
    first: dict[str, Recipe] = {}
    for recipe in clean + others:
        first.setdefault(recipe.kind, recipe)
    return list(first.values())


def main() -> None:
    judged = [split for split in SEEDS if split not in ("later", "unseen")]  # those judge the sanitizers
    options = options_of(__doc__, WORK, OUT, MODELS, split_option(*judged), JOBS)
    models = build(options)
    stores = {section: Rows(FOLDER / "rows" / f"{section}.json") for section in WORK}
    for section in options.only:
        todo = [(identity(recipe), recipe) for recipe in wanted(section, models)]
        stores[section].measure_all(WORK[section], todo, options.jobs)
    kept = json.loads(path.read_text()) if (path := options.out / "detection.json").is_file() else {}
    sections = {section: in_order(store.rows) or kept.get(section, []) for section, store in stores.items()}
    write_json(path, sections)
    write_tables(sections, options.out / "detection.md")


if __name__ == "__main__":
    main()
