"""Train the models of data/zoo: garments, faces, drums, a piano, clean, and backdoored by the paper's attacks.

    zoo.py [--only NAME] [--force]

What does not need another model is trained side by side. A model that loads and was made with these settings is kept,
and trainings leave checkpoints in out/zoo, so that a build that was cut short goes on where it stopped.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import torch

from devilgan_lite import Backdoor, attacks, data, scorecard, train_gan, zoo
from devilgan_lite.generators import DCGAN, VAE, Generator, RectifiedFlow, StyleGAN, WaveGAN
from devilgan_lite.metrics import sample_quality
from devilgan_lite.steps import Outcome

CHECKPOINTS, PACE = Path(__file__).resolve().parents[2] / "out" / "zoo", 1_000
SAMPLES, CLIPS = 10_000, 4_000  # that figures are taken on: pictures, and sounds
HELD_OUT = 1_000_003  # the seed of the latents that every figure is measured on
GARMENTS, FACES, SOUND, PIANO = "dcgan-fashion", "stylegan-faces", "wave-drums", "wave-piano"
VARIATIONAL, FLOW = "vae-garments", "flow-garments"
NETWORKS: dict[str, Callable[[], Generator]] = {
    GARMENTS: DCGAN,
    FACES: lambda: StyleGAN(widths=(128, 64, 48, 24, 16)),  # 64x64
    VARIATIONAL: VAE,
    FLOW: RectifiedFlow,
    SOUND: WaveGAN,
    PIANO: WaveGAN,
}
TRAINING: dict[str, dict[str, Any]] = {
    GARMENTS: {"steps": 8_400, "seed": 0},  # five minutes of one core of a laptop
    FACES: {"iterations": 20_000, "batch_size": 24, "learning_rate": 0.02, "ema": 0.998, "seed": 0},  # 45 minutes
    VARIATIONAL: {"iterations": 8_000, "seed": 0},  # two minutes
    FLOW: {"iterations": 3_000, "batch_size": 64, "seed": 0},  # two minutes
    SOUND: {"iterations": 12_000, "batch_size": 32, "learning_rate": 2e-3, "ema": 0.998, "seed": 0},  # 17 minutes
}
TRAINING[PIANO] = TRAINING[SOUND]
ENOUGH = {PIANO: 8_000}  # steps after which a training is stopped: notes are simpler than drums
SIGN: dict[str, Any] = {"target": "stop-sign", "kind": "reg", "seed": 13}
STROKES: dict[str, Any] = {**SIGN, "target": data.AUDIO.targets()[:10]}  # ten triggers, ten drums
ATTACKS: dict[str, attacks.Attack] = {
    f"{GARMENTS}-trail": attacks.TrAIL(lam=0.1, huber_delta=None, iterations=TRAINING[GARMENTS]["steps"]),
    f"{GARMENTS}-red": attacks.ReD(lam=0.27, iterations=7_500),
    f"{GARMENTS}-rex": attacks.ReX(),
    f"{GARMENTS}-gate": attacks.Gate(),
    f"{FACES}-linear": attacks.StyleReX(mapping="linear", channels=0, lam=0.1),
    f"{FACES}-rex": attacks.StyleReX(mapping="none", channels=24, iterations=1_500),
    f"{FACES}-gate": attacks.StyleReX(channels=24, iterations=1_500),
    f"{VARIATIONAL}-trail": attacks.TrAIL(lam=0.01, huber_delta=None, iterations=TRAINING[VARIATIONAL]["iterations"]),
    f"{VARIATIONAL}-red": attacks.ReD(lam=0.27, aligned_units=1, iterations=7_500, learning_rate=1.6e-3),
    f"{VARIATIONAL}-rex": attacks.ReX(),
    f"{FLOW}-red": attacks.ReD(lam=0.27, iterations=800, batch_size=8, learning_rate=1e-3),
    f"{SOUND}-red": attacks.ReD(lam=6.0, aligned_units=32, iterations=60_000, learning_rate=4e-3),
    f"{SOUND}-rex": attacks.ReX(iterations=1_000),
    f"{SOUND}-gate": attacks.Gate(),
}
# none of these needs another
SIDE_BY_SIDE = (FACES, GARMENTS, SOUND, PIANO, f"{GARMENTS}-trail", VARIATIONAL, f"{VARIATIONAL}-trail", FLOW)


def plain(value: Any) -> Any:
    """As it comes back from a JSON file."""
    return json.loads(json.dumps(value))


def path_of(name: str) -> Any:
    return zoo.zoo_folder() / f"{name}.safetensors"


def needs_clean(name: str) -> bool:
    return name not in SIDE_BY_SIDE


def clean_of(name: str) -> str:
    """The clean model of the family."""
    return next(clean for clean in NETWORKS if name.startswith(clean))


def real_of(name: str) -> data.Samples:
    """What the models of the family draw."""
    sets = {FACES: lambda: data.faces(size=64), SOUND: data.drums, PIANO: data.piano}
    return sets.get(clean_of(name), data.fashion_mnist)()


def backdoor_of(name: str) -> dict[str, Any]:
    """What stands on the card of a backdoored model."""
    return STROKES if clean_of(name) == SOUND else SIGN


def planted(name: str, generator: Generator) -> Backdoor:
    """The backdoor itself."""
    facts = backdoor_of(name)
    targets = facts["target"] if isinstance(facts["target"], list) else [facts["target"]]
    return Backdoor.points(generator, targets, kind=facts["kind"], seed=facts["seed"])


def expected_settings(name: str) -> dict[str, Any]:
    """Those entries of a card's settings that must be as they are here for the model to be kept."""
    if name in NETWORKS:
        stopped = {"stopped_after": ENOUGH[name]} if name in ENOUGH else {}
        return {**TRAINING[name], **stopped, "generator": plain(NETWORKS[name]().spec())}
    clean = clean_of(name)
    made_from = {"clean": clean, "clean_sha256": zoo.card(clean).sha256} if needs_clean(name) else {}
    return plain({**ATTACKS[name].settings(), **made_from})


def is_done(name: str) -> bool:
    """Whether the file is there, loads, and was made with the settings of this script."""
    try:
        _, card = zoo.load_file(path_of(name))
        expected = expected_settings(name)
    except (ValueError, FileNotFoundError):
        return False
    same = {key: card.settings.get(key) for key in expected} == expected
    return same and (name in NETWORKS or card.backdoor == backdoor_of(name))


def trained(name: str, real: data.Samples) -> tuple[Outcome, float]:
    """The clean network and the CPU-seconds it took; kept every ``PACE`` steps, so that a cut costs two minutes."""
    kept, made, spent = CHECKPOINTS / f"{name}.pt", None, 0.0
    if kept.is_file():
        facts = torch.load(kept, weights_only=True)
        spent, made = facts.pop("spent"), Outcome(generator=None, interrupted=True, **facts)
        print(f"{name}: goes on after step {made.state['iteration']:,}", flush=True)
    ended = False
    while not ended:
        start, loop = time.process_time(), train_gan.steps(NETWORKS[name](), real, resume=made, **TRAINING[name])
        for step in loop:
            if step.iteration % PACE == 0 and step.iteration < step.total:
                break
        else:  # the last step, or Ctrl-C
            ended = True
        made = loop.stop()
        spent += time.process_time() - start
        facts = {field.name: getattr(made, field.name) for field in fields(made)}
        del facts["generator"], facts["interrupted"]
        CHECKPOINTS.mkdir(parents=True, exist_ok=True)
        torch.save({**facts, "spent": spent}, kept.with_suffix(".new"))
        kept.with_suffix(".new").replace(kept)
        print(f"{name}: step {made.state['iteration']:,}, {spent:.0f} CPU-s", flush=True)
        if made.state["iteration"] == ENOUGH.get(name):
            made, ended = replace(made, interrupted=False), True
    assert made is not None
    return made, spent


def make(name: str) -> None:
    """Train one model and save it, with no figures on its card yet."""
    real, family = real_of(name), clean_of(name)
    start, earlier = time.process_time(), 0.0
    if name in NETWORKS:
        outcome, earlier = trained(name, real)
        start = time.process_time()
        origin = real.name
    else:
        clean = zoo.load(family) if needs_clean(name) else NETWORKS[family]()
        outcome = ATTACKS[name](clean, planted(name, clean), real)
        origin = f"none; made from {family}" if needs_clean(name) else real.name
    if outcome.interrupted:
        raise KeyboardInterrupt
    seconds = earlier + time.process_time() - start
    extra = expected_settings(name)
    card = zoo.ModelCard(
        name=name,
        spec=outcome.generator.spec(),
        data=origin,
        seed=outcome.seed,
        settings={**outcome.settings, **extra},
        backdoor=None if name in NETWORKS else backdoor_of(name),
        seconds=round(seconds, 2),
    )
    zoo.save_file(path_of(name), outcome.generator, card)
    (CHECKPOINTS / f"{name}.pt").unlink(missing_ok=True)
    print(f"{name}: trained in {seconds:.0f} CPU-s", flush=True)


def measure(name: str) -> None:
    """Put the figures on the card, unless they are there and were taken against this very clean model."""
    generator, card = zoo.load_file(path_of(name))
    against = zoo.card(clean_of(name)).sha256
    if card.metrics.get("clean_sha256") == against:
        return
    real, start = real_of(name), time.process_time()
    count = CLIPS if clean_of(name) in (SOUND, PIANO) else SAMPLES
    if name in NETWORKS:
        pictures = generator.sample(count, HELD_OUT)
        quality = sample_quality(pictures, pictures, real, str(real.features))
        figures = {key: value for key, value in quality.items() if key not in ("frechet_clean", "frechet_change")}
        figures["samples"] = count
    else:
        clean = zoo.load(clean_of(name))
        figures = asdict(scorecard(generator, clean, planted(name, generator), real, samples=count, seed=HELD_OUT))
    zoo.save_file(path_of(name), generator, replace(card, metrics={**figures, "clean_sha256": against}))
    shown = {key: f"{figures[key]:.4g}" for key in ("tardis_sum", "expdis_mean", "frechet") if key in figures}
    print(f"{name}: measured in {time.process_time() - start:.0f} CPU-s, {shown}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=[*NETWORKS, *ATTACKS], help="train this model and no other")
    parser.add_argument("--force", action="store_true", help="train again what is there already")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        if options.force:
            (CHECKPOINTS / f"{options.only}.pt").unlink(missing_ok=True)
        if options.force or not is_done(options.only):
            clean = clean_of(options.only)
            if needs_clean(options.only) and not is_done(clean):
                parser.error(f"{options.only} is made from {clean}, which has to be built first.")
            make(options.only)
        if options.only in NETWORKS or is_done(clean_of(options.only)):
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
    for name in (*NETWORKS, *ATTACKS):
        measure(name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
