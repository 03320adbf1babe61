"""Measure the clean training, the attacks and the speed of the loops: docs/results/benchmark.json and its .md.

    attacks.py [--only clean,trail,red,rex,closed,throughput] [--seeds 0,1,2] [--out FOLDER] [--quick]

Each row is written as soon as it is finished, and rows that are there already (same settings, same model) are not
measured again: a run that was cut short goes on where it stopped. ``--quick`` tries every path, in out/quick.
"""

import functools
import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from attack_rows import CLEAN, TARGETS, figures_of, garments, identity_of, mounted, seeds_of, whole
from attacks_tables import write_tables
from plain_loops import gan_steps, red_steps
from row_store import OUT, QUICK, Row, Rows, options_of, plain, timed, where

from devilgan_lite import Backdoor, attacks, train_gan, zoo
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import DCGAN, Generator
from devilgan_lite.metrics import features_of, frechet_distance, frechet_to


class Bench(Rows):
    """What the sections share: the options, the real garments to measure against, and the file of rows."""

    def __init__(self, folder: Path, seeds: list[int], quick: bool) -> None:
        self.seeds, self.quick = seeds, quick
        self.steps = (20, 40) if quick else (2_000, 4_500, 8_400, 14_000)
        self.samples = 500 if quick else 10_000
        self.targets = TARGETS[:2] if quick else TARGETS
        self.real, self.reference, self.other = garments(quick)
        super().__init__(folder / "benchmark.json")


def clean(bench: Bench) -> None:
    """Frechet distance after each length of training; and what the distance says of real garments and of noise."""
    for seed, steps in itertools.product(bench.seeds, bench.steps):

        def work(seed: int = seed, steps: int = steps) -> Row:
            outcome, seconds = timed(
                lambda: whole(train_gan(DCGAN(), bench.real, iterations=steps, seed=seed, progress=False))
            )
            return {"frechet": frechet_to(outcome.generator, bench.reference, samples=bench.samples), "cpu_s": seconds}

        bench.measure({"section": "clean", "steps": steps, "seed": seed, "against": bench.reference.name}, work)

    def distance(x: torch.Tensor) -> Row:
        return {"frechet": frechet_distance(features_and_classes(x)[0], features_of(bench.reference, "fashion"))}

    noise = torch.rand(bench.samples, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for what, x in ((bench.other.name, bench.other.x), ("uniform noise", noise)):
        identity = {"section": "context", "what": what, "against": bench.reference.name}
        bench.measure(identity, functools.partial(distance, x))


def one_attack(bench: Bench, section: str, attack: attacks.Attack, benign: Generator, target: str, origin: str) -> None:
    """One row: an attack on ``benign``, which ``origin`` describes; the attack's seed draws the trigger as well."""

    def work() -> Row:
        outcome, backdoor, seconds = mounted(attack, benign, target, bench.real)
        figures = figures_of(outcome.generator, benign, backdoor, bench.reference, bench.samples)
        return {**figures, "cpu_s": seconds}

    bench.measure(identity_of(section, attack, target, origin, bench.samples, bench.reference), work)


def on_the_zoo(section: str, make: Iterable[Callable[[int], attacks.Attack]]) -> Callable[[Bench], None]:
    """A section that mounts attacks on the shipped clean generator."""

    def run(bench: Bench) -> None:
        benign, origin = zoo.load(CLEAN), f"{CLEAN} {zoo.card(CLEAN).sha256[:12]}"
        for build, seed, target in itertools.product(make, bench.seeds, bench.targets):
            attack = build(seed)
            if bench.quick and hasattr(attack, "iterations"):
                attack = type(attack)(iterations=3, seed=seed)
            one_attack(bench, section, attack, benign, target, origin)

    return run


def trail(bench: Bench) -> None:
    """TrAIL against a clean training of the same length and seed, done here as well."""
    steps = bench.steps[0]
    for seed in bench.seeds:
        origin = f"train_gan, {steps} steps, seed {seed}"
        wanted = {"section": "trail", "seed": seed, "clean": origin, "samples": bench.samples}
        attack = attacks.TrAIL(iterations=steps, seed=seed)
        there = {row["target"] for row in where(bench.rows, **wanted, settings=plain(attack.settings()))}
        benign: Any = DCGAN()
        if not set(bench.targets) <= there:
            benign = whole(train_gan(DCGAN(), bench.real, iterations=steps, seed=seed, progress=False)).generator
        for target in bench.targets:
            one_attack(bench, "trail", attack, benign, target, origin)


def throughput(bench: Bench) -> None:
    """Steps per CPU-second of our loops and of textbook ones, in turns, so that a busy machine slows both."""
    rounds, block = (2, 3) if bench.quick else (12, 25)
    network = DCGAN.paper()
    backdoor = Backdoor.point(network, "stop-sign", seed=0)
    torch.manual_seed(0)  # of the textbook loops

    def pull(loop: Iterator[Any]) -> float:
        return block / timed(lambda: [next(loop) for _ in range(block)])[1]

    def versus(ours: Iterator[Any], plain: Iterator[Any]) -> Row:
        for loop in (ours, plain):
            pull(loop)  # the first steps pay for what later ones reuse
        speeds = [(pull(ours), pull(plain)) for _ in range(rounds)]
        ratios = sorted(a / b for a, b in speeds)
        mean = [sum(column) / rounds for column in zip(*speeds, strict=True)]
        return {
            "ours_steps_per_s": mean[0],
            "plain_steps_per_s": mean[1],
            "ratio": statistics.median(ratios),
            "ratio_low": ratios[0],
            "ratio_high": ratios[-1],
        }

    many = rounds * block + block + 1
    for batch_size in (32, 64, 128):
        settings = {"network": "DCGAN.paper()", "batch_size": batch_size, "rounds": rounds, "block": block}

        def train(batch_size: int = batch_size) -> Row:
            ours = train_gan.steps(network, bench.real, iterations=many, batch_size=batch_size, device="cpu")
            return versus(ours, gan_steps(network, bench.real.x, batch_size))

        def red(batch_size: int = batch_size) -> Row:
            attack = attacks.ReD(iterations=many, batch_size=batch_size, device="cpu")
            plain = red_steps(network, backdoor.trigger, backdoor.target, batch_size, attack.lam)
            return versus(attack.steps(network, backdoor), plain)

        for what, work in (("train_gan", train), ("ReD", red)):
            bench.measure({"section": "throughput", "what": what, "settings": settings}, work)


RUN: dict[str, Callable[[Bench], None]] = {
    "clean": clean,
    "trail": trail,
    "red": on_the_zoo("red", [lambda seed: attacks.ReD(seed=seed)]),
    "rex": on_the_zoo("rex", [lambda seed: attacks.ReX(seed=seed)]),
    "closed": on_the_zoo("closed", [lambda seed: attacks.ClosedForm(seed=seed), lambda seed: attacks.Gate(seed=seed)]),
    "throughput": throughput,
}


def main() -> None:
    seeds = ("--seeds", {"type": seeds_of, "default": [0, 1, 2], "help": "whole numbers, such as 0,1,2"})
    options = options_of(__doc__, RUN, OUT, QUICK, seeds)
    bench = Bench(options.out, options.seeds, options.quick)
    for section in options.only:
        RUN[section](bench)
        write_tables(bench.content, options.out / "benchmark.md")


if __name__ == "__main__":
    main()
