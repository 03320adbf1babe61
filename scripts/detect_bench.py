"""Judge the detectors on models that they were not tuned on: docs/detection.json and docs/detection.md.

    detect_bench.py [--sections scan,targets,access,guard] [--split tune,clean,test] [--calibrate] [--jobs 2]

``scan``: the blind detectors on every model of out/population (made by population.py). ``targets``: reconstruction of
the known target, black box and with the directions that the weights suggest; clean models are tried with all targets.
``access``: what outputs alone show (T0), what a clean reference adds (T3) and what training data add (T4). ``guard``:
one model of each kind. The last three measure test models, and ``targets`` some clean ones for the calibration.
``--calibrate`` writes data/calibration.json from the clean models that are not for testing. A model that has a row is
not measured again.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from detect_tables import write_tables
from population import FOLDER, ROOT, SEEDS, TARGETS, Recipe, backdoor_of, is_done, recipes
from safetensors.torch import load_file
from torch import Tensor

from devilgan_lite import zoo
from devilgan_lite.data import fashion_mnist, target
from devilgan_lite.detect import (
    Finding,
    Guard,
    Subject,
    analyse_weights,
    inspect_activations,
    inspect_spectra,
    inspect_structure,
    inspect_targets,
    sample_outputs,
    subject_of,
)
from devilgan_lite.detect.reference import compare
from devilgan_lite.detect.search import locate_trigger, starting_points
from devilgan_lite.detect.weights import candidate_directions
from devilgan_lite.generators import Generator

SECTIONS = ("scan", "targets", "access", "guard")
CALIBRATION = ROOT / "data" / "calibration.json"
BLIND = ("structure", "latent spectrum", "hidden spectrum", "silent units")
Row = dict[str, Any]


@dataclass(frozen=True)
class Blind:
    """What the blind detectors say of one model."""

    subject: Subject
    findings: list[Finding]
    directions: Tensor
    source: str
    trigger: Tensor
    samples: Tensor


def load_generator(name: str) -> Generator:
    return zoo.load_file(FOLDER / f"{name}.safetensors")[0]


def load(name: str) -> Subject:
    return subject_of(load_generator(name))


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
        secret = load_file(FOLDER / f"{recipe.name}.secret")
        cosines = torch.nn.functional.cosine_similarity(blind.trigger.view(1, -1), secret["trigger"])
        errors = (blind.samples.unsqueeze(1) - secret["target"]).square().flatten(2).mean(2)
        row |= {"cosine": float(cosines.max()), "picture_error": float(errors.min())}
        row["absolute_cosine"] = float(cosines.abs().max())
    return row


def targets_one(recipe: Recipe) -> Row:
    """Scores of the reconstruction of the known target: black box (T1), and from what the weights suggest (T1, T2)."""
    blind = examine(recipe)
    subject, starts = blind.subject, starting_points(blind.trigger, blind.directions)
    if recipe.is_clean:
        named = {name: target(name, subject.shape[-1]).unsqueeze(0) for name in TARGETS}
        garment = next(
            other for other in recipes((recipe.split,)) if other.target == "garment" and other.seed == recipe.seed
        )
        real = fashion_mnist()
        named["garment"] = backdoor_of(garment, load_generator(garment.base), real).target[:1]
    else:
        named = {recipe.target: load_file(FOLDER / f"{recipe.name}.secret")["target"][:1]}
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
        trigger = load_file(FOLDER / f"{recipe.name}.secret")["trigger"][:1]
        near = latents_about(trigger, 5.0, 1_000, recipe.seed)
        row["caught"] = float(torch.cat([guard.check(z).flags for z in near.split(250)]).float().mean())
    return row


WORK = {"scan": scan_one, "targets": targets_one, "access": access_one, "guard": guard_one}


def row_path(section: str, name: str) -> Path:
    return FOLDER / "rows" / section / f"{name}.json"


def identity(recipe: Recipe) -> Row:
    facts = ("name", "kind", "split", "adaptive", "target")
    return {fact: getattr(recipe, fact) for fact in facts}


def rows(section: str, splits: tuple[str, ...] = tuple(SEEDS)) -> list[Row]:
    """All rows of a section that have been measured."""
    paths = [row_path(section, recipe.name) for recipe in recipes(splits)]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def wanted(section: str, splits: tuple[str, ...]) -> list[Recipe]:
    """The models that a section measures: all; the test models, or half of the clean and all others; one a kind."""
    some = [recipe for recipe in recipes(splits) if is_done(recipe)]
    test = [recipe for recipe in some if recipe.split == "test"]
    clean = [recipe for recipe in test if recipe.kind == "clean"]
    others = [recipe for recipe in test if recipe.kind != "clean"]
    if section == "scan":
        return some
    if section == "targets":  # a minute a clean model: every other one, of the tune models for the calibration
        tune = [recipe for recipe in some if recipe.split == "tune" and recipe.kind == "clean"]
        return tune[::2] + clean[::2] + [recipe for recipe in others if not recipe.is_clean]
    if section == "access":
        return test
    first: dict[str, Recipe] = {}
    for recipe in clean + others:
        first.setdefault(recipe.kind, recipe)
    return list(first.values())


def measure(section: str, names: list[str]) -> None:
    by_name = {recipe.name: recipe for recipe in recipes()}
    for name in names:
        row = {**identity(by_name[name]), **WORK[section](by_name[name])}
        path = row_path(section, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row, indent=1) + "\n")
        print(
            section,
            name,
            {key: row[key] for key in row if key not in identity(by_name[name])},
            flush=True,
        )


def calibrate() -> None:
    """Write the scores of the clean models that are not for testing; of reconstructions, one for each target."""
    clean = [row for row in rows("scan", ("tune", "clean")) if row["kind"] == "clean"]
    scores = {detector: [round(row["scores"][detector], 6) for row in clean] for detector in BLIND}
    tried = [target for row in rows("targets", ("tune",)) for target in row["targets"].values()]
    if tried:
        scores["reconstruction"] = [round(target["helped"], 6) for target in tried]
    content = {
        "models": [row["name"] for row in clean],
        "made by": "scripts/detect_bench.py --calibrate",
        "scores": scores,
    }
    CALIBRATION.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ", ".join(SECTIONS))
    judged = [split for split in SEEDS if split not in ("later", "unseen")]  # those judge the sanitizers
    parser.add_argument("--split", default=",".join(judged), help=f"some of {', '.join(SEEDS)}, with commas")
    parser.add_argument("--calibrate", action="store_true", help="write data/calibration.json from the clean models")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sections, splits = options.sections.split(","), tuple(options.split.split(","))
    if not set(sections) <= set(SECTIONS) or not set(splits) <= set(SEEDS):
        parser.error(f"sections are {', '.join(SECTIONS)}; splits are {', '.join(SEEDS)}.")
    if options.names:
        measure(sections[0], options.names.split(","))
        return 0
    missing = [recipe.name for recipe in recipes(splits) if not is_done(recipe)]
    if missing:
        print(f"{len(missing)} models are not made yet, such as {missing[0]}: run population.py", file=sys.stderr)
    for section in sections:
        todo = [recipe.name for recipe in wanted(section, splits) if not row_path(section, recipe.name).is_file()]
        workers = [
            subprocess.Popen([sys.executable, __file__, "--sections", section, "--names", ",".join(part)])
            for part in (todo[index :: options.jobs] for index in range(options.jobs))
            if part
        ]
        if any([worker.wait() for worker in workers]):
            return 1
    if options.calibrate:
        calibrate()
    everything = {section: rows(section) for section in SECTIONS}
    (ROOT / "docs" / "detection.json").write_text(json.dumps(everything, indent=1) + "\n")
    print(write_tables(everything, ROOT / "docs" / "detection.md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
