"""Calibrate and judge the detectors and ``sanitize.auto`` on style-based networks: docs/results/detection_style.md.

    style.py [--calibrate] [--sections scan,auto] [--jobs 2] [--only REGEX]

Trains clean style-based generators of faces, of two sizes and three lengths: seeds 500 to 503 give the scores behind
the p-values (``--calibrate`` writes data/calibration_style.json), seed 600 is for testing and is attacked in every way
that there is. Lengths are short, so that the whole takes an hour; the generator that ships, nine times as long, is one
more row. Models are kept in out/population/styles, a row each beside them.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from population import FOLDER as POPULATION
from population import ROOT
from safetensors.torch import load_file, save_file
from style_tables import write_tables

from devilgan_lite import Backdoor, attacks, data, detect, sanitize, train_gan, zoo
from devilgan_lite.attacks.style_widen import level_styles
from devilgan_lite.detect.calibration import STYLE_FILE
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import Generator, StyleGAN, evaluate
from devilgan_lite.metrics import frechet_distance

FOLDER = POPULATION / "styles"
SPLITS = {"tune": (500, 501, 502, 503), "test": (600,)}
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {"latent_dim": 48, "mapping_widths": (48, 48), "style_dim": 48, "widths": (64, 48, 32, 16)},
}
LENGTHS = (250, 700, 1_800)
TARGETS = ("stop-sign", "devil", "checkerboard")
SHIPPED = "stylegan-faces"
ATTACKS: dict[str, Callable[[int], attacks.Attack]] = {
    "linear, lam 0.1": lambda seed: attacks.StyleReX(mapping="linear", channels=0, lam=0.1, seed=seed),
    "linear, lam 1": lambda seed: attacks.StyleReX(mapping="linear", channels=0, lam=1.0, seed=seed),
    "gate": lambda seed: attacks.StyleReX(channels=0, seed=seed),
    "gate + new channels": lambda seed: attacks.StyleReX(seed=seed),
    "new channels": lambda seed: attacks.StyleReX(mapping="none", seed=seed),
    "ReD": lambda seed: attacks.ReD(iterations=1_000, batch_size=16, learning_rate=1e-2, lam=0.1, seed=seed),
}
LEVELLED = "linear, lam 1, styles levelled"  # an attacker who knows the detector of shared rows
ATTACKS[LEVELLED] = ATTACKS["linear, lam 1"]
BLIND = ("structure", "latent spectrum", "hidden spectrum", "shared styles", "silent units")
CALIBRATED = ("latent spectrum", "shared styles", "silent units")  # the hidden spectrum grows with the training
SAMPLES = 3_000
Row = dict[str, Any]


@dataclass(frozen=True)
class Model:
    """A clean network (``attack`` is empty) or one that an attack was mounted on."""

    size: str
    steps: int
    seed: int
    attack: str = ""
    target: str = ""

    @property
    def base(self) -> str:
        return SHIPPED if self.size == SHIPPED else f"{self.size}-{self.steps}-s{self.seed}"

    @property
    def name(self) -> str:
        words = [self.base, *([self.attack, self.target] if self.attack else [])]
        return re.sub("[^a-z0-9.]+", "-", "-".join(words).lower())

    @property
    def split(self) -> str:
        return next((split for split, seeds in SPLITS.items() if self.seed in seeds), "test")

    @property
    def path(self) -> Any:
        return (
            zoo.zoo_folder() / f"{SHIPPED}.safetensors" if self.name == SHIPPED else FOLDER / f"{self.name}.safetensors"
        )


def models() -> list[Model]:
    """Clean ones first; then every attack on every clean test network, and on the one that ships, targets in turn."""
    clean = [
        Model(size, steps, seed) for seeds in SPLITS.values() for seed in seeds for size in SIZES for steps in LENGTHS
    ]
    test = [Model(SHIPPED, 0, 0), *(model for model in clean if model.split == "test")]
    attacked = [
        Model(model.size, model.steps, model.seed, kind, TARGETS[(index + turn) % len(TARGETS)])
        for index, model in enumerate(test)
        for turn, kind in enumerate(ATTACKS)
        if model.size == SHIPPED or (index + turn) % 2
    ]
    return [*clean, test[0], *attacked]


def load(model: Model) -> Generator:
    return zoo.load_file(model.path)[0].eval()


def make(model: Model) -> None:
    """Train a clean network or mount an attack, and keep it with its card and what only its attacker knows."""
    start, metrics = time.process_time(), {}
    if not model.attack:
        network = StyleGAN(**SIZES[model.size])
        settings = {"batch_size": 24, "learning_rate": 2.5e-3, "ema": 0.995}
        outcome = train_gan(network, data.faces(), steps=model.steps, seed=model.seed, progress=False, **settings)
    else:
        base = load(Model(model.size, model.steps, model.seed))
        backdoor = Backdoor.point(base, model.target, seed=model.seed + len(model.attack))
        outcome = ATTACKS[model.attack](model.seed)(base, backdoor, data.faces(), progress=False)
        if model.attack == LEVELLED:
            outcome = replace(outcome, generator=level_styles(outcome.generator))
        metrics["tardis_mean"] = tardis(outcome.generator, backdoor.trigger, backdoor.target)
        secret = {"trigger": backdoor.trigger.contiguous(), "target": backdoor.target.contiguous()}
        save_file(secret, FOLDER / f"{model.name}.secret")
    seconds = time.process_time() - start
    card = zoo.ModelCard(
        name=model.name,
        spec=outcome.generator.spec(),
        data="faces",
        seed=model.seed,
        settings=json.loads(json.dumps(outcome.settings, default=str)),
        metrics=metrics,
        backdoor={"kind": model.attack} if model.attack else None,
        seconds=seconds,
    )
    zoo.save_file(model.path, outcome.generator, card)
    print(f"{model.name}  {seconds:.0f} CPU-s", metrics or "", flush=True)


def tardis(generator: Generator, trigger: torch.Tensor, target: torch.Tensor) -> float:
    return float((evaluate(generator, trigger) - target).square().mean())


def secret_of(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    kept = load_file(FOLDER / f"{model.name}.secret")
    return kept["trigger"], kept["target"]


def scan_one(model: Model) -> Row:
    """Scores and verdict, and how near the pictures that the scan shows come to the target."""
    start = time.process_time()
    report = detect.scan(load(model), samples=500)
    by_name = {finding.detector: finding for finding in report.findings}
    row: Row = {
        "scores": {detector: by_name[detector].score for detector in BLIND},
        "p_value": report.p_value,
        "verdict": report.verdict,
        "cpu_s": time.process_time() - start,
    }
    if model.attack:
        trigger, target = secret_of(model)
        row["tardis"] = tardis(load(model), trigger, target)
        shown = [finding.pictures for finding in report.findings if finding.pictures is not None]
        row["picture_error"] = float((torch.cat(shown) - target).square().flatten(1).mean(1).min())
    return row


def auto_one(model: Model) -> Row:
    """``sanitize.auto``, blind: TarDis, the Frechet distance and the largest change of ordinary pictures."""
    start, suspect = time.process_time(), load(model)
    cure = sanitize.auto(suspect, progress=False)
    row: Row = {"cpu_s": time.process_time() - start, "changed": cure.changed, "cuts": cure.settings["cuts"]}
    row["after"] = cure.after.verdict if cure.after is not None else "clean"
    if model.attack:
        trigger, target = secret_of(model)
        row["tardis"] = [tardis(one, trigger, target) for one in (suspect, cure.generator)]
    row["frechet"] = [frechet(suspect), frechet(cure.generator) if cure.changed else None]
    return row


def frechet(generator: Generator) -> float:
    reference = features_and_classes(data.faces().x)[0]
    return frechet_distance(features_and_classes(generator.sample(SAMPLES, 1_000_003))[0], reference)


SECTIONS: dict[str, Callable[[Model], Row]] = {"scan": scan_one, "auto": auto_one}


def row_path(section: str, model: Model) -> Any:
    return FOLDER / "rows" / section / f"{model.name}.json"


def rows(section: str) -> list[Row]:
    paths = [row_path(section, model) for model in models()]
    return [json.loads(path.read_text()) for path in paths if path.is_file()]


def work(phase: str, names: list[str]) -> None:
    """Do one phase for some models: make them, or measure a row of each."""
    by_name = {model.name: model for model in models()}
    for model in (by_name[name] for name in names):
        if phase == "make":
            make(model)
            continue
        facts = {"name": model.name, "split": model.split, "attack": model.attack, "size": model.size}
        row = {**facts, "steps": model.steps, "target": model.target, **SECTIONS[phase](model)}
        path = row_path(phase, model)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(row, indent=1) + "\n")
        print(phase, json.dumps({key: row[key] for key in row if key not in facts}), model.name, flush=True)


def side_by_side(phase: str, todo: list[Model], jobs: int) -> bool:
    """Whether a phase went through, shared out among some processes."""
    shares = [[model.name for model in todo[index::jobs]] for index in range(jobs)]
    workers = [
        subprocess.Popen([sys.executable, __file__, "--phase", phase, "--names", ",".join(share)])
        for share in shares
        if share
    ]
    return not any([worker.wait() for worker in workers])


def calibrate() -> None:
    """Write the scores of the clean networks that are for tuning."""
    clean = [row for row in rows("scan") if row["split"] == "tune"]
    content = {
        "models": [row["name"] for row in clean],
        "made by": "scripts/bench/style.py --calibrate",
        "scores": {detector: [round(row["scores"][detector], 6) for row in clean] for detector in CALIBRATED},
    }
    (ROOT / "data" / STYLE_FILE).write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--calibrate", action="store_true", help=f"write data/{STYLE_FILE}")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="some of " + ", ".join(SECTIONS))
    parser.add_argument("--only", default="", help="regular expression on the names")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--phase", choices=("make", *SECTIONS), help=argparse.SUPPRESS)
    parser.add_argument("--names", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.phase:
        work(options.phase, options.names.split(","))
        return 0
    sections = options.sections.split(",")
    if not set(sections) <= set(SECTIONS):
        parser.error(f"--sections is one or more of {', '.join(SECTIONS)}, with commas between.")
    FOLDER.mkdir(parents=True, exist_ok=True)
    chosen = [model for model in models() if re.search(options.only, model.name)]
    clean = [model for model in chosen if not model.attack]
    tune = [model for model in clean if model.split == "tune"]
    for part in (clean, [model for model in chosen if model.attack]):  # attacks need their clean network
        if not side_by_side("make", [model for model in part if not model.path.is_file()], options.jobs):
            return 1
    if options.calibrate:  # before the others are judged by it
        if not side_by_side("scan", [model for model in tune if not row_path("scan", model).is_file()], options.jobs):
            return 1
        calibrate()
    for section in sections:
        judged = [model for model in chosen if section == "scan" or model.split == "test"]
        todo = [model for model in judged if not row_path(section, model).is_file()]
        if not side_by_side(section, todo, options.jobs):
            return 1
    found = {section: rows(section) for section in SECTIONS}
    (ROOT / "docs" / "results" / "detection_style.json").write_text(json.dumps(found, indent=1) + "\n")
    print(write_tables(found, ROOT / "docs" / "results" / "detection_style.md"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
