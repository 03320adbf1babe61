"""Judge the detectors and ``sanitize.auto`` on style-based networks: docs/results/detection_style.md.

    style.py [--only scan,auto] [--jobs 2] [--models REGEX]

Trains clean style-based generators of faces, of two sizes and three lengths: seeds 500 to 503 are those on which limits
were set, seeds 601 and 602 are for testing and are attacked in every way that there is (``--models 's60|^stylegan'``
makes and judges these alone). Lengths are short, so that the whole takes an hour; the generator that ships, nine times
as long, is one more row. Models are kept in out/population/styles, a row each beside them.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import population
import torch
from row_store import JOBS, MODELS, OUT, Row, Rows, options_of, side_by_side, write_json
from style_tables import write_tables

from devilgan_lite import Backdoor, attacks, data, detect, sanitize, train_gan, zoo
from devilgan_lite.generators import Generator, Recipe, StyleGAN
from devilgan_lite.generators.stylegan import level_styles
from devilgan_lite.metrics import frechet_to, target_distortion

FOLDER = population.FOLDER / "styles"
SPLITS = {"tune": (500, 501, 502, 503), "test": (601, 602)}
SIZES: dict[str, dict[str, Any]] = {
    "full": {},
    "small": {"latent_dim": 48, "mapping_widths": (48, 48), "style_dim": 48, "widths": (64, 48, 32, 16)},
}
LENGTHS = (250, 700, 1_800)
RECIPE = Recipe(betas=(0.0, 0.99), penalty=0.1)  # of the faces of 32x32 that shipped when limits were set
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
SAMPLES = 3_000


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
    def path(self) -> Path:
        return (zoo.zoo_folder() if self.name == SHIPPED else FOLDER) / f"{self.name}.safetensors"


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
    start, metrics, backdoor = time.process_time(), {}, None
    if not model.attack:
        network = StyleGAN(**SIZES[model.size])
        settings: Row = {"batch_size": 24, "learning_rate": 2.5e-3, "ema": 0.995, "recipe": RECIPE}
        outcome = train_gan(network, data.faces(), iterations=model.steps, seed=model.seed, progress=False, **settings)
    else:
        base = load(Model(model.size, model.steps, model.seed))
        backdoor = Backdoor.point(base, model.target, seed=model.seed + len(model.attack))
        outcome = ATTACKS[model.attack](model.seed)(base, backdoor, data.faces(), progress=False)
        if model.attack == LEVELLED:
            outcome = replace(outcome, generator=level_styles(outcome.generator))
        metrics["tardis_mean"] = target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean
    facts: Row = {"data": "faces", "seed": model.seed, "metrics": metrics}
    facts["backdoor"] = {"kind": model.attack} if model.attack else None
    population.keep(model.path, outcome, backdoor, start, **facts)
    print(model.name, metrics or "", flush=True)


def secret_of(model: Model) -> tuple[torch.Tensor, torch.Tensor]:
    return population.secret_of(f"styles/{model.name}")


def scan_one(model: Model) -> Row:
    """Scores and verdict, and how near the pictures that the scan shows come to the target."""
    start = time.process_time()
    report = detect.scan(load(model), samples=500)
    by_name = {finding.detector: finding for finding in report.findings}
    row: Row = {
        "scores": {detector: by_name[detector].score for detector in BLIND},
        "strengths": report.strengths,
        "verdict": report.verdict,
        "score": report.score,
        "cpu_s": time.process_time() - start,
    }
    if model.attack:
        trigger, target = secret_of(model)
        row["tardis"] = target_distortion(load(model), trigger, target).mean
        shown = [finding.samples for finding in report.findings if finding.samples is not None]
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
        row["tardis"] = [target_distortion(one, trigger, target).mean for one in (suspect, cure.generator)]
    row["frechet"] = [frechet(suspect), frechet(cure.generator) if cure.changed else None]
    return row


def frechet(generator: Generator) -> float:
    return frechet_to(generator, data.faces(), samples=SAMPLES)


SECTIONS: dict[str, Callable[[Model], Row]] = {"scan": scan_one, "auto": auto_one}


def identity(model: Model) -> Row:
    return {fact: getattr(model, fact) for fact in ("name", "split", "attack", "size", "steps", "target")}


def main() -> None:
    options = options_of(__doc__, SECTIONS, OUT, MODELS, JOBS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    stores = {section: Rows(FOLDER / "rows" / f"{section}.json") for section in SECTIONS}

    def measure(section: str, some: list[Model]) -> None:
        stores[section].measure_all(SECTIONS[section], [(identity(model), model) for model in some], options.jobs)

    chosen = [model for model in models() if re.search(options.models, model.name)]
    clean = [model for model in chosen if not model.attack]
    for part in (clean, [model for model in chosen if model.attack]):  # attacks need their clean network
        for _ in side_by_side(make, [model for model in part if not model.path.is_file()], options.jobs):
            pass
    for section in options.only:
        measure(section, [model for model in chosen if section == "scan" or model.split == "test"])
    found = {section: store.rows for section, store in stores.items()}
    write_json(options.out / "detection_style.json", found)
    write_tables(found, options.out / "detection_style.md")


if __name__ == "__main__":
    main()
