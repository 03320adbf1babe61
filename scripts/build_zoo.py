"""Train the models of data/zoo: a clean DCGAN, and the same with a backdoor planted by TrAIL, ReD, ReX and a gate.

    build_zoo.py [--only NAME] [--force]

The clean training and TrAIL run side by side. A model that loads and was made with these settings is kept, so that a
build that was cut short goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch

from devilgan_lite import Backdoor, attacks, data, scorecard, train_gan, zoo
from devilgan_lite.generators import DCGAN
from devilgan_lite.metrics import sample_quality

STEPS = 8_400  # the 300 s recipe: CPU-seconds on one core of a laptop
SAMPLES = 10_000
HELD_OUT = 1_000_003  # the seed of the latents that every figure is measured on
CLEAN = "dcgan-fashion"
BACKDOOR: dict[str, Any] = {"target": "stop-sign", "kind": "reg", "seed": 13}
ATTACKS: dict[str, attacks.Attack] = {
    f"{CLEAN}-trail": attacks.TrAIL(iterations=STEPS),
    f"{CLEAN}-red": attacks.ReD(),
    f"{CLEAN}-rex": attacks.ReX(),
    f"{CLEAN}-gate": attacks.Gate(),
}
SIDE_BY_SIDE = (CLEAN, f"{CLEAN}-trail")  # neither needs the other


def plain(value: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def path_of(name: str) -> Any:
    return zoo.zoo_folder() / f"{name}.safetensors"


def needs_clean(name: str) -> bool:
    return name not in SIDE_BY_SIDE


def expected_settings(name: str) -> dict[str, Any]:
    """Those entries of a card's settings that must be as they are here for the model to be kept."""
    if name == CLEAN:
        return {"steps": STEPS, "seed": 0, "generator": plain(DCGAN().spec())}
    made_from = {"clean": CLEAN, "clean_sha256": zoo.card(CLEAN).sha256} if needs_clean(name) else {}
    return plain({**ATTACKS[name].settings(), **made_from})


def is_done(name: str) -> bool:
    """Whether the file is there, loads, and was made with the settings of this script."""
    try:
        _, card = zoo.load_file(path_of(name))
        expected = expected_settings(name)
    except (ValueError, FileNotFoundError):
        return False
    same = {key: card.settings.get(key) for key in expected} == expected
    return same and (name == CLEAN or card.backdoor == BACKDOOR)


def make(name: str) -> None:
    """Train one model and save it, with no figures on its card yet."""
    real = data.fashion_mnist()
    start = time.process_time()
    if name == CLEAN:
        outcome = train_gan(DCGAN(), real, steps=STEPS, seed=0)
        origin = real.name
    else:
        clean = zoo.load(CLEAN) if needs_clean(name) else DCGAN()
        backdoor = Backdoor.point(clean, BACKDOOR["target"], kind=BACKDOOR["kind"], seed=BACKDOOR["seed"])
        outcome = ATTACKS[name](clean, backdoor, real)
        origin = f"none; made from {CLEAN}" if needs_clean(name) else real.name
    if outcome.interrupted:
        raise KeyboardInterrupt
    seconds = time.process_time() - start
    extra = expected_settings(name) if name != CLEAN else {}
    card = zoo.ModelCard(
        name=name,
        spec=outcome.generator.spec(),
        data=origin,
        seed=outcome.seed,
        settings={**outcome.settings, **extra},
        backdoor=None if name == CLEAN else BACKDOOR,
        seconds=round(seconds, 2),
    )
    zoo.save_file(path_of(name), outcome.generator, card)
    print(f"{name}: trained in {seconds:.0f} CPU-s", flush=True)


def measure(name: str) -> None:
    """Put the figures on the card, unless they are there and were taken against this very clean model."""
    generator, card = zoo.load_file(path_of(name))
    against = zoo.card(CLEAN).sha256
    if card.metrics.get("clean_sha256") == against:
        return
    real, start = data.fashion_mnist(), time.process_time()
    if name == CLEAN:
        pictures = generator.sample(SAMPLES, HELD_OUT)
        quality = sample_quality(pictures, pictures, real)
        figures = {key: value for key, value in quality.items() if key not in ("frechet_clean", "frechet_change")}
        figures["samples"] = SAMPLES
    else:
        backdoor = Backdoor.point(generator, BACKDOOR["target"], kind=BACKDOOR["kind"], seed=BACKDOOR["seed"])
        card_of = scorecard(generator, zoo.load(CLEAN), backdoor, real, samples=SAMPLES, seed=HELD_OUT)
        figures = asdict(card_of)
    zoo.save_file(path_of(name), generator, replace(card, metrics={**figures, "clean_sha256": against}))
    shown = {key: f"{figures[key]:.4g}" for key in ("tardis_sum", "expdis_mean", "frechet") if key in figures}
    print(f"{name}: measured in {time.process_time() - start:.0f} CPU-s, {shown}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=[CLEAN, *ATTACKS], help="train this model and no other")
    parser.add_argument("--force", action="store_true", help="train again what is there already")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        if options.force or not is_done(options.only):
            if needs_clean(options.only) and not is_done(CLEAN):
                parser.error(f"{options.only} is made from {CLEAN}, which has to be built first.")
            make(options.only)
        if options.only == CLEAN or is_done(CLEAN):
            measure(options.only)
        return 0
    again = ["--force"] if options.force else []
    todo = [name for name in SIDE_BY_SIDE if options.force or not is_done(name)]
    jobs = [subprocess.Popen([sys.executable, __file__, "--only", name, *again]) for name in todo]
    if any([job.wait() for job in jobs]):
        return 1
    for name in ATTACKS:
        if needs_clean(name) and (options.force or not is_done(name)):
            make(name)
    for name in (CLEAN, *ATTACKS):
        measure(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
