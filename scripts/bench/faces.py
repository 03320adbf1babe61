"""Measure the faces: quality of the generator, inversion, and every way to mount the backdoor; docs/results/faces.md.

    faces.py [--only quality,inversion,linear,attacks,shipped,film,stranger] [--out FOLDER] [--quick]

Rows are kept in faces.json as they come, so that a run that was cut short goes on where it stopped. Seconds are those
of this process on one thread. Three triggers (seeds 0 to 2) and two targets, on the generator that ships; the section
``stranger`` does the like with the one that ``devilgan fetch faces`` downloads.
"""

import dataclasses
import itertools
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from faces_stranger import Stage, stranger
from faces_tables import write_tables
from row_store import OUT, QUICK, Row, Rows, options_of, timed
from torch import Tensor

from devilgan_lite import Backdoor, attacks, data, detect, sanitize, train_gan, zoo
from devilgan_lite.apps.course import slerp
from devilgan_lite.apps.show.film import film
from devilgan_lite.attacks.style_rex import linear_residual
from devilgan_lite.generators import DCGAN, Generator, StyleGAN, evaluate
from devilgan_lite.metrics import features_of, frechet_distance, frechet_to, target_distortion

SEEDS, TARGETS = (0, 1, 2), ("stop-sign", "devil")
LAMBDAS = (0.001, 0.01, 0.1, 1.0, 100.0)
SIZE, WIDTHS = 64, (128, 64, 48, 24, 16)
SECONDS = 600  # of training, for the comparison of equal time
PACE = 60  # steps that tell how many fit into it
ORDINARY = 20_000
GREY = 2 / 255


class Bench(Rows):
    """The options, the shipped generator, and the file of rows."""

    def __init__(self, folder: Path, quick: bool) -> None:
        super().__init__(folder / "faces.json")
        self.quick = quick
        self.clean = zoo.load("stylegan-faces")
        self.origin = zoo.card("stylegan-faces").sha256[:12]
        self.steps = 10 if quick else None
        n = 200 if quick else ORDINARY
        self.z = self.clean.sample_latent(n, torch.Generator().manual_seed(1_000_003))
        self.found: dict[str, Tensor] = {}

    @cached_property
    def before(self) -> Tensor:
        """What the shipped generator makes of the ordinary latents."""
        return evaluate(self.clean, self.z)

    def measure(self, identity: Row, work: Callable[[], Row]) -> None:
        """As ``Rows`` do, for this very generator."""
        super().measure({**identity, "clean": self.origin}, work)

    def inverted(self, target: str) -> Tensor:
        """The styles of a target, searched for once."""
        if target not in self.found:
            settings = {"iterations": self.steps} if self.steps else {}
            outcome = attacks.invert(self.clean, picture(self.clean, target), progress=False, **settings)
            self.found[target] = outcome.state["w_plus"]
        return self.found[target]


def face_distance(generator: Generator) -> float:
    """The Frechet distance to the 8,000 faces of the training set."""
    real = data.faces(size=SIZE)
    return frechet_to(generator, real, samples=len(real))


def picture(generator: Generator, target: str) -> Tensor:
    return data.target(target, generator.sample_shape[-1], channels=3)


def quality(bench: Bench) -> None:
    """Frechet distance after ten minutes: the style-based generator, and a plain DCGAN in equal time."""
    real = data.faces(size=SIZE)
    reference, unseen = features_of(real), features_of(data.faces(4_000, size=SIZE, seed=101))

    def context() -> Row:
        return {"trace": float(torch.cov(reference.T).trace()), "frechet": frechet_distance(unseen, reference)}

    def style() -> Generator:
        return StyleGAN(widths=WIDTHS)

    bench.measure({"section": "quality", "what": "4,000 other faces"}, context)
    plans: dict[str, tuple[Callable[[], Generator], Row]] = {
        "StyleGAN, recipe of the one that ships": (style, {"batch_size": 24, "learning_rate": 0.02, "ema": 0.998}),
        "DCGAN": (
            lambda: DCGAN(image_channels=3, image_size=SIZE, widths=(128, 64, 48, 24), strides=(2, 2, 2, 2)),
            {},
        ),
        "StyleGAN, recipe of version 0.1": (
            style,
            {"batch_size": 24, "learning_rate": 2.5e-3, "ema": 0.998, "penalty": 0.1},
        ),
    }
    for name, (network, settings) in plans.items():

        def work(network: Callable[[], Generator] = network, settings: Row = settings) -> Row:
            settings = dict(settings)
            if penalty := settings.pop("penalty", None):
                settings["recipe"] = dataclasses.replace(network().recipe(), penalty=penalty)
            # the first steps of all are slow
            train_gan(network(), real, iterations=2, seed=2, progress=False, **settings)
            start = time.process_time()
            train_gan(network(), real, iterations=PACE, seed=2, progress=False, **settings)
            pace = (time.process_time() - start) / PACE
            length = 20 if bench.quick else int(0.95 * SECONDS / pace)  # so that the decay of the rate ends in time
            start, measured, course = time.process_time(), 0.0, []
            loop = train_gan.steps(network(), real, iterations=length, seed=1, **settings)
            for step in loop:
                spent = time.process_time() - start - measured
                if spent > 60 * (len(course) + 1):  # once a minute; the measurement does not count
                    course.append([round(spent), face_distance(step.snapshot())])
                    measured = time.process_time() - start - spent
                if spent > SECONDS:
                    break
            spent = time.process_time() - start - measured
            return {
                "frechet": face_distance(loop.stop().generator),
                "cpu_s": spent,
                "steps": step.iteration,
                "planned": length,
                "course": course,
            }

        bench.measure({"section": "quality", "what": name, "settings": settings}, work)
    bench.measure(
        {"section": "quality", "what": "the one that ships"},
        lambda: {"frechet": face_distance(bench.clean), "cpu_s": zoo.card("stylegan-faces").seconds},
    )


def inversion(bench: Bench) -> None:
    """Error and seconds of the inversion, with a style for each layer and with one for all."""
    for target, seed, one_style in itertools.product(TARGETS, SEEDS, (False, True)):

        def work(target: str = target, seed: int = seed, one_style: bool = one_style) -> Row:
            settings = {"iterations": bench.steps} if bench.steps else {}
            goal = picture(bench.clean, target)
            outcome, seconds = timed(
                lambda: attacks.invert(
                    bench.clean, goal, seed=seed, one_style=one_style, progress=False, device="cpu", **settings
                )
            )
            return {"distortion": outcome.history["distortion"][-1], "cpu_s": seconds}

        bench.measure({"section": "inversion", "target": target, "seed": seed, "one_style": one_style}, work)


def linear(bench: Bench) -> None:
    """The linear expansion against its formula, and what it does to pictures."""
    with torch.no_grad():
        w = bench.clean.mapping(bench.clean.sample_latent(100_000, torch.Generator().manual_seed(9)))
    for seed, lam in itertools.product(SEEDS, LAMBDAS):

        def work(seed: int = seed, lam: float = lam) -> Row:
            backdoor = Backdoor.point(bench.clean, TARGETS[0], seed=seed)
            styles = bench.inverted(TARGETS[0])
            with torch.no_grad():
                own = bench.clean.mapping(backdoor.trigger)[0]
                shift = styles - own
                residual, formula = linear_residual(bench.clean, backdoor.trigger, shift, lam)
                stealth = torch.einsum("sij,nj->nsi", residual, w).square().sum((1, 2)).mean()
                fidelity = (shift - torch.einsum("sij,j->si", residual, own)).square().sum()
            attack = attacks.StyleReX(mapping="linear", channels=0, lam=lam, w_plus=styles, device="cpu")
            ratios = {
                "stealth_ratio": float(stealth) / formula.stealth,
                "fidelity_ratio": float(fidelity) / formula.fidelity,
                "leverage": formula.leverage,
            }
            return ratios | mounted(bench, attack, backdoor)

        bench.measure({"section": "linear", "seed": seed, "lam": lam}, work)


def mounted(bench: Bench | Stage, attack: attacks.Attack, backdoor: Backdoor) -> Row:
    """Mount ``attack`` and measure: fidelity, stealth on ordinary latents, and the way to the trigger."""
    outcome, seconds = timed(lambda: attack(bench.clean, backdoor, progress=False))
    change = evaluate(outcome.generator, bench.z) - bench.before
    starts, t = bench.z[:20], torch.linspace(0, 1, 21)
    off, moved = [], []
    for share in t.tolist():
        z = slerp(starts, backdoor.trigger, share)
        x = evaluate(outcome.generator, z)
        off.append(float((x - backdoor.target).square().mean()))
        moved.append(float((x - evaluate(bench.clean, z)).abs().max()))
    seen = [share for share, value in zip(t.tolist(), moved, strict=True) if value > GREY]
    return {
        "cpu_s": seconds,
        "latents": len(bench.z),
        "tardis_mean": target_distortion(outcome.generator, backdoor.trigger, backdoor.target).mean,
        "expdis_mean": float(change.square().mean()),
        "largest_change": float(change.abs().max()),
        "share_changed": float((change.abs().amax((1, 2, 3)) > GREY).double().mean()),
        "first_change": min(seen, default=1.0),
        "error_at_0.9": off[18],
        "parameters": outcome.generator.parameter_count() / bench.clean.parameter_count(),
    }


def every_attack(bench: Bench) -> None:
    """Each way to mount it, on three triggers and two targets; the inversion is given, and its time is not counted."""
    wide = {"channels": 24, "iterations": bench.steps or 1_500}
    kinds: dict[str, Callable[[int, str], attacks.Attack]] = {
        "linear (the paper's)": lambda seed, target: attacks.StyleReX(
            mapping="linear", channels=0, lam=1.0, w_plus=bench.inverted(target), seed=seed, device="cpu"
        ),
        "new channels": lambda seed, target: attacks.StyleReX(mapping="none", seed=seed, device="cpu", **wide),
        "gate": lambda seed, target: attacks.StyleReX(
            channels=0, w_plus=bench.inverted(target), seed=seed, device="cpu"
        ),
        "gate + new channels": lambda seed, target: attacks.StyleReX(
            w_plus=bench.inverted(target), seed=seed, device="cpu", **wide
        ),
        "ReD": lambda seed, target: attacks.ReD(
            iterations=bench.steps or 6_000, batch_size=16, learning_rate=5e-3, lam=0.07, seed=seed, device="cpu"
        ),
    }
    for (kind, make), target, seed in itertools.product(kinds.items(), TARGETS, SEEDS):

        def work(make: Any = make, target: str = target, seed: int = seed) -> Row:
            attack = make(seed, target)  # the inversion comes before the clock
            return mounted(bench, attack, Backdoor.point(bench.clean, target, seed=seed))

        bench.measure({"section": "attacks", "attack": kind, "target": target, "seed": seed}, work)


def shipped(bench: Bench) -> None:
    """Scan and cure of what ships, judged by the calibration on 32x32 faces of another recipe."""
    for name in ("stylegan-faces", "stylegan-faces-gate", "stylegan-faces-rex", "stylegan-faces-linear"):

        def work(name: str = name) -> Row:
            suspect, backdoored = zoo.load(name), zoo.card(name).backdoor is not None
            found, seconds = timed(lambda: detect.scan(suspect, samples=500, device="cpu"))
            row: Row = {"verdict": found.verdict, "reason": found.reason, "cpu_s": seconds}
            settings = {"iterations": bench.steps} if bench.steps else {}
            cure, row["cure_cpu_s"] = timed(
                lambda: sanitize.auto(suspect, report=found, progress=False, device="cpu", **settings)
            )
            row |= {"treatment": cure.treatment, "frechet": face_distance(cure.generator)}
            if backdoored:
                backdoor = zoo.load_backdoor(name)
                shown = [finding.samples for finding in found.findings if finding.samples is not None]
                errors = [(one - backdoor.target[:1]).square().flatten(1).mean(1).min() for one in shown]
                row["picture_error"] = float(min(errors)) if errors else None
                pair = (suspect, cure.generator)
                row["tardis"] = [target_distortion(one, backdoor.trigger, backdoor.target).mean for one in pair]
            return row

        bench.measure({"section": "shipped", "what": name}, work)


def films(bench: Bench) -> None:
    """Seconds and bytes of a film for a room: clean and backdoored side by side, from a face to another."""
    suspect, backdoor = zoo.load("stylegan-faces-gate"), zoo.load_backdoor("stylegan-faces-gate")
    for seed in SEEDS:

        def work(seed: int = seed) -> Row:
            start, other = bench.clean.sample_latent(2, torch.Generator().manual_seed(seed)).split(1)
            pair = {"clean": bench.clean, "backdoored": suspect}
            with tempfile.TemporaryDirectory() as folder:
                made = film(pair, start, backdoor.trigger, Path(folder) / "m.webp", other=other)
            return {"seconds": made.seconds, "kilobytes": made.bytes / 1000, "frames": made.frames}

        bench.measure({"section": "film", "seed": seed}, work)


def a_stranger(bench: Bench) -> None:
    """The downloaded faces: see ``faces_stranger``. Their rows carry the hash of their own generator."""
    stranger(super(Bench, bench).measure, bench.quick, mounted)


RUN = {
    "quality": quality,
    "inversion": inversion,
    "linear": linear,
    "attacks": every_attack,
    "shipped": shipped,
    "film": films,
    "stranger": a_stranger,
}


def main() -> None:
    options = options_of(__doc__, RUN, OUT, QUICK)
    bench = Bench(options.out, options.quick)
    for section in options.only:
        RUN[section](bench)
        write_tables(bench.content, options.out / "faces.md")


if __name__ == "__main__":
    main()
