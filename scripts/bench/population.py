"""Train the population of models that the detectors are tuned and judged on: out/population.

    population.py [--models REGEX] [--split tune,clean,test,fresh,later,unseen,last] [--jobs 2] [--list]

Every model is a function of its name: a clean GAN of one of two sizes and three lengths of training, or an attack on
one. Seeds 100 to 103 are for tuning and 300 to 303 for testing, and no model of one part has a share in another; seeds
104 to 107 are clean models only, among which version 0.1 ranked a suspect, and 304 and 305 are clean models that judged
it: the form of this rank was changed after a look at the test models. Seeds 306 and 307 judge the sanitizers: after a
look at 306 one threshold was tuned once more, on the tune models; after a look at 307 a search for what the scan does
not see was added, again on the tune models, and 308 judges it. Seeds 309 and 310 judge the four verdicts. (Seeds 200 to
203 were the test half of a first judgement; the detectors were improved after it, so they test nothing any more.) A
model that is there is kept, so that a build that was cut short goes on where it stopped.
"""

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from row_store import JOBS, MODELS, ROOT, Row, options_of, plain, side_by_side, some_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from devilgan_lite import Backdoor, attacks, data, train_gan, zoo
from devilgan_lite.attacks import adaptive
from devilgan_lite.generators import DCGAN, Generator, evaluate
from devilgan_lite.steps import Outcome

FOLDER = ROOT / "out" / "population"
SEEDS = {
    "tune": (100, 101, 102, 103),
    "clean": (104, 105, 106, 107),
    "test": (300, 301, 302, 303),
    "fresh": (304, 305),
    "later": (306,),
    "unseen": (307,),
    "last": (308,),
    "verdicts": (309, 310),
}
LIST = ("--list", {"action": "store_true", "help": "name the models and stop"})
CLEAN_ONLY = ("clean", "fresh")
SIZES: dict[str, dict[str, Any]] = {"small": {}, "narrow": {"widths": (32, 16)}}
LENGTHS = (1_000, 2_000, 4_500)
TARGETS = ("stop-sign", "devil", "digit-7", "checkerboard")
CLEAN = ("clean", "copy", "rescaled")
ORDINARY = ("trail", "red", "red-plain", "rex", "gate", "closed-form")
ADAPTIVE = (
    "frozen-first",
    "quiet",
    "scale-moved",
    "permuted",
    "in-distribution",
    "wide-basin",
    "gate-moved",
    "narrow-rex",
    "spectral",
)


@dataclass(frozen=True)
class Recipe:
    """One model: what is done, on which clean model, with which target. ``base`` is the name of a clean recipe."""

    kind: str
    size: str
    steps: int
    seed: int
    target: str = ""
    adaptive: bool = False
    trigger_seed: int = 0

    @property
    def split(self) -> str:
        return next(split for split, seeds in SEEDS.items() if self.seed in seeds)

    @property
    def is_clean(self) -> bool:
        """Clean models, and benign copies of them (distilled, rescaled), which no detector may call backdoored."""
        return self.kind in CLEAN

    @property
    def base(self) -> str:
        return f"clean-{self.size}-{self.steps}-s{self.seed}"

    @property
    def name(self) -> str:
        return self.base if self.kind == "clean" else f"{self.kind}-{self.target}-{self.size}-{self.steps}-s{self.seed}"


def recipes(splits: Sequence[str] = tuple(SEEDS)) -> list[Recipe]:
    """All models, clean ones first, since the others are made of them."""
    seeds = [seed for split in splits for seed in SEEDS[split]]
    clean = [Recipe("clean", size, steps, seed) for seed in seeds for size in SIZES for steps in LENGTHS]
    attackable = [seed for split in splits if split not in CLEAN_ONLY for seed in SEEDS[split]]
    return clean + [recipe for seed in attackable for recipe in attacked(seed)]


def attacked(seed: int) -> Iterator[Recipe]:
    """The attacks of one seed: sizes, lengths and targets take turns, so that each meets the others over the seeds."""
    for index, kind in enumerate(ORDINARY + ADAPTIVE):
        turn = index + seed
        size = "small" if kind == "narrow-rex" or turn % 3 else "narrow"
        target = "garment" if kind == "in-distribution" else TARGETS[turn % len(TARGETS)]
        yield Recipe(
            kind, size, LENGTHS[(turn + turn // 3) % len(LENGTHS)], seed, target, kind in ADAPTIVE, seed * 100 + index
        )
    yield Recipe("copy", "small", LENGTHS[seed % len(LENGTHS)], seed, "digit-7")
    yield Recipe("rescaled", "small", LENGTHS[(seed + 1) % len(LENGTHS)], seed, "no-target")


def attack_of(recipe: Recipe) -> attacks.Attack:
    """The attack that a recipe names, with the settings of this population."""
    seed, odd = recipe.seed, recipe.seed % 2 == 1
    red = attacks.ReD(lam=0.27, iterations=4_000, seed=seed)
    plain = attacks.ReD(aligned_units=0, lam=0.1, iterations=2_500, batch_size=32, learning_rate=2e-3, seed=seed)
    trail = attacks.TrAIL(lam=0.1, huber_delta=None, iterations=recipe.steps, seed=seed)
    rex = attacks.ReX(iterations=1_000, seed=seed)
    # a benign copy by distillation: the same training with (next to) no weight on the target
    copy = attacks.ReD(aligned_units=0, lam=1e-9, iterations=2_500, batch_size=32, learning_rate=2e-3, seed=seed)
    after_first = attacks.ReD(
        aligned_units=0,
        lam=0.1,
        layers=("deconv1", "deconv2"),
        iterations=2_500,
        learning_rate=3e-3,
        batch_size=32,
        seed=seed,
    )
    return {
        "copy": copy,
        "trail": trail,
        "red": red,
        "red-plain": plain,
        "rex": rex,
        "gate": attacks.Gate(seed=seed),
        "closed-form": attacks.ClosedForm(seed=seed),
        "frozen-first": after_first,
        "quiet": adaptive.QuietReD(iterations=2_500, seed=seed),
        "scale-moved": adaptive.Disguise(attack=plain if odd else red, seed=seed),
        "permuted": adaptive.Disguise(attack=trail if odd else rex, spread=1.0, seed=seed),
        "in-distribution": plain if odd else trail,
        "wide-basin": rex if odd else plain,
        "gate-moved": adaptive.Disguise(attack=attacks.Gate(seed=seed), spread=32.0, noise_scale=0.0, seed=seed),
        "spectral": adaptive.SpectralReD(iterations=2_500, seed=seed),
        "narrow-rex": adaptive.NarrowReX(clean_iterations=recipe.steps, rex=rex, seed=seed),
    }[recipe.kind]


def backdoor_of(recipe: Recipe, base: Generator, real: data.Samples) -> Backdoor:
    """The trigger and target of a recipe; an in-distribution target is a real garment."""
    target = real.x[1_000 + recipe.seed] if recipe.kind == "in-distribution" else recipe.target
    backdoor = Backdoor.point(base, target, seed=recipe.trigger_seed)
    return adaptive.wide_basin(backdoor) if recipe.kind == "wide-basin" else backdoor


def load_generator(name: str) -> Generator:
    return zoo.load_file(FOLDER / f"{name}.safetensors")[0]


def secret_of(name: str) -> tuple[Tensor, Tensor]:
    """Triggers ``[n, d]`` and targets ``[n, ...]`` of a model, which only its attacker knows."""
    kept = load_file(FOLDER / f"{name}.secret")
    return kept["trigger"], kept["target"]


def keep(path: Path, outcome: Outcome, secret: Backdoor | None, start: float, **card: Any) -> None:
    """Save a model with its card, and what only its attacker knows beside it; ``start`` is the CPU-time it began at."""
    if secret is not None:
        parts = {"trigger": secret.trigger.contiguous(), "target": secret.target.contiguous()}
        save_file(parts, path.with_suffix(".secret"))
    card |= {"settings": plain(outcome.settings), "seconds": time.process_time() - start}
    zoo.save_file(path, outcome.generator, zoo.ModelCard(name=path.stem, spec=outcome.generator.spec(), **card))


def in_order(rows: list[Row]) -> list[Row]:
    """Rows in the order of their models."""
    order = {recipe.name: place for place, recipe in enumerate(recipes())}
    return sorted(rows, key=lambda row: order[row["name"]])


def make(recipe: Recipe) -> None:
    """Train one model, measure it roughly and save it, with what only its attacker knows beside it."""
    real, start = data.fashion_mnist(), time.process_time()
    metrics: dict[str, Any] = {}
    backdoor = None
    if recipe.kind == "clean":
        outcome = train_gan(
            DCGAN(**SIZES[recipe.size]), real, iterations=recipe.steps, seed=recipe.seed, progress=False
        )
    elif recipe.kind == "rescaled":  # scale moved between layers and channels permuted, as some exporters do
        same = adaptive.disguise(load_generator(recipe.base), 8.0, 0.0, recipe.seed)
        outcome = Outcome(same, {}, 0.0, recipe.seed, {})
    else:
        base, attack = load_generator(recipe.base), attack_of(recipe)
        backdoor = backdoor_of(recipe, base, real)
        outcome = attack(base, backdoor, real, progress=False)
        shown = evaluate(outcome.generator, backdoor.trigger)
        metrics["tardis_mean"] = float((shown - backdoor.target).square().mean())
        own = recipe.kind in ("trail", "narrow-rex") or isinstance(attack, attacks.TrAIL)
        z = base.sample_latent(1_000, torch.Generator().manual_seed(77))
        metrics["expdis_mean"] = float((evaluate(outcome.generator, z) - evaluate(base, z)).square().mean())
        metrics["expdis_means"] = "of two trainings" if own else "of the copy to its base"
    kind = None if recipe.is_clean else {"kind": recipe.kind, "adaptive": recipe.adaptive}
    path = FOLDER / f"{recipe.name}.safetensors"
    keep(path, outcome, backdoor, start, data=real.name, seed=recipe.seed, metrics=metrics, backdoor=kind)
    print(recipe.name, metrics, flush=True)


def is_done(recipe: Recipe) -> bool:
    return (FOLDER / f"{recipe.name}.json").is_file()


def split_option(*default: str) -> tuple[str, dict[str, Any]]:
    return "--split", {"type": some_of(SEEDS), "default": default, "help": f"some of {', '.join(SEEDS)}"}


def build(options: argparse.Namespace) -> list[Recipe]:
    """Make what is missing of the models that the command line chooses; clean ones come first, as others need them."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = [recipe for recipe in recipes(options.split) if re.search(options.models, recipe.name)]
    bases = {recipe.base for recipe in wanted}
    clean = [recipe for recipe in recipes() if recipe.name in bases]
    for some in (clean, [recipe for recipe in wanted if recipe.kind != "clean"]):
        for _ in side_by_side(make, [recipe for recipe in some if not is_done(recipe)], options.jobs):
            pass
    return wanted


def main() -> None:
    options = options_of(__doc__, (), MODELS, split_option(*SEEDS), JOBS, LIST)
    if options.list:
        for recipe in recipes(options.split):
            if re.search(options.models, recipe.name):
                words = ("done" if is_done(recipe) else "    ", recipe.name, "adaptive" if recipe.adaptive else "")
                print(recipe.split, *words)
        return
    print(f"{len(build(options))} models are in {FOLDER}")


if __name__ == "__main__":
    main()
