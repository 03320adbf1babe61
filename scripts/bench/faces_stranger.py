"""The faces of a stranger: the DCGAN that ``devilgan fetch faces`` downloads, attacked, scanned and cured.

Settings are those for a stage: at most a minute of one thread for each attack. Single runs of scan and cure.
"""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from row_store import Row, timed
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from devilgan_lite import Backdoor, attacks, detect, files, sanitize
from devilgan_lite.files.fetch import DOWNLOADS, cached
from devilgan_lite.generators import Generator, evaluate
from devilgan_lite.metrics import frechet_distance, target_distortion
from devilgan_lite.steps import Outcome

SEEDS, TARGETS = (0, 1, 2), ("stop-sign", "devil")
ORDINARY = 2_000  # latents on which stealth is measured
JUDGED = 2_000  # samples on each side of a Frechet distance
POOLED = 6  # side of the pictures that it compares
REPAIR = 60  # steps of the cure
NAME, KINDS = "stranger", ("gate", "ReX", "ReD")


class Stage:
    """The stranger's generator, and ordinary latents with what it makes of them; ``quick`` makes all of it short."""

    def __init__(self, file: Path, quick: bool) -> None:
        found = files.open(file)
        self.clean, self.origin = found, found.origin.facts.sha256[:12]
        self.quick = quick
        self.z = self.clean.sample_latent(40 if quick else ORDINARY, torch.Generator().manual_seed(1_000_003))
        self.before = evaluate(self.clean, self.z)
        self.attacked: dict[str, Generator] = {}

    def attack(self, kind: str, seed: int) -> attacks.Attack:
        """An attack as it is set for a minute of one thread."""
        made: dict[str, Callable[[], attacks.Attack]] = {
            "gate": lambda: attacks.Gate(seed=seed),
            "ReX": lambda: attacks.ReX(iterations=3 if self.quick else 1_000, batch_size=8, seed=seed, device="cpu"),
            "ReD": lambda: attacks.ReD(
                iterations=3 if self.quick else 800,
                batch_size=8,
                learning_rate=1.5e-4,
                lam=0.1,
                seed=seed,
                device="cpu",
            ),
        }
        return made[kind]()

    def suspect(self, kind: str) -> Generator:
        """The clean one, or that of an attack with the first trigger and target; mounted once."""
        if kind == "clean":
            return self.clean
        if kind not in self.attacked:
            outcome = self.attack(kind, SEEDS[0])(self.clean, self.backdoor(), progress=False)
            self.attacked[kind] = outcome.generator
        return self.attacked[kind]

    def backdoor(self, target: str = TARGETS[0], seed: int = SEEDS[0]) -> Backdoor:
        return Backdoor.point(self.clean, target, seed=seed)

    def features(self, generator: Generator, seed: int) -> Tensor:
        z = self.clean.sample_latent(80 if self.quick else JUDGED, torch.Generator().manual_seed(seed))
        return adaptive_avg_pool2d(evaluate(generator, z), POOLED).flatten(1).double()


Measure = Callable[[Row, Callable[[], Row]], None]
Mount = Callable[[Any, Any, Backdoor], Row]


def stranger(measure: Measure, quick: bool, mounted: Mount) -> None:
    """Add the rows of this section; without the download, one sentence and no row."""
    file = cached("faces")
    if file is None:
        print(f"The section {NAME} adds no row without the download: run devilgan fetch faces first.")
        return
    stage = Stage(file, quick)
    about = {"section": NAME, "clean": stage.origin, "model": DOWNLOADS["faces"].requirement}

    def mount(target: str) -> None:
        for kind, seed in itertools.product(KINDS, SEEDS):
            attack, backdoor = stage.attack(kind, seed), stage.backdoor(target, seed)

            def kept(*given: Any, attack: Any = attack, name: Any = (kind, target, seed), **how: Any) -> Outcome:
                outcome = attack(*given, **how)
                if name[1:] == (TARGETS[0], SEEDS[0]):
                    stage.attacked[name[0]] = outcome.generator
                return outcome

            measure(
                {**about, "part": "attack", "attack": kind, "target": target, "seed": seed},
                lambda kept=kept, attack=attack, backdoor=backdoor: (  # type: ignore[misc]
                    {"settings": attack.settings()} | mounted(stage, kept, backdoor)
                ),
            )

    mount(TARGETS[0])
    for kind in ("clean", *KINDS):
        measure({**about, "part": "scan", "attack": kind}, lambda kind=kind: scanned(stage, kind))  # type: ignore[misc]
    for kind in KINDS:
        measure({**about, "part": "cure", "attack": kind}, lambda kind=kind: cured(stage, kind))  # type: ignore[misc]
    for target in TARGETS[1:]:
        mount(target)


def scanned(stage: Stage, kind: str) -> Row:
    """The scan of a generator, with the search for a witness."""
    found, seconds = timed(lambda: detect.scan(stage.suspect(kind), samples=200, twin=not stage.quick, device="cpu"))
    row: Row = {"verdict": found.verdict, "reason": found.reason, "score": found.score, "cpu_s": seconds}
    return {**row, "witness": found.witness is not None and found.witness.stands_out}


def cured(stage: Stage, kind: str) -> Row:
    """``sanitize.auto(always=True)`` on an attacked generator: what is left at the trigger, and what faces lost.

    The Frechet distance is between this generator's samples and other samples of the clean one, all shrunk to 6x6
    pixels: no network here knows real faces. The clean one's own distance says how much of it is chance.
    """
    suspect, backdoor = stage.suspect(kind), stage.backdoor()
    steps = 3 if stage.quick else REPAIR
    outcome, seconds = timed(
        lambda: sanitize.auto(suspect, always=True, iterations=steps, progress=False, device="cpu")
    )
    reference = stage.features(stage.clean, 5)
    row: Row = {"cpu_s": seconds, "treatment": outcome.treatment, "cuts": outcome.settings["cuts"], "steps": steps}
    row |= {"before": outcome.before.verdict, "after": outcome.after.verdict}
    for name, one in (("clean", stage.clean), ("suspect", suspect), ("cured", outcome.generator)):
        row[f"tardis {name}"] = target_distortion(one, backdoor.trigger, backdoor.target).mean
        row[f"frechet {name}"] = frechet_distance(stage.features(one, 6), reference)
    z = stage.z[:1_000]
    row["ordinary_change"] = float((evaluate(outcome.generator, z) - evaluate(suspect, z)).square().mean())
    return row
