"""Measure what generators of sound are worth, what ten triggers do to them, and what defences see: docs/results/sound.

    sound.py [--only quality,attacks,scan,bank,cost,guard,cure,piano] [--models REGEX]

The models are those of the zoo (``wave-drums`` and its backdoored variants, ten triggers and ten held-out strokes
each; ``wave-piano``, attacked here), so every row is a single run. Rows are kept in docs/results/sound.json; what is
there is not measured again.
"""

import re
import time
from collections.abc import Callable
from typing import Any

import torch
from row_store import MODELS, OUT, Row, Rows, options_of, timed
from sound_tables import write_tables
from torch import Tensor

from devilgan_lite import Backdoor, attacks, data, detect, generators, sanitize, zoo
from devilgan_lite.apps.course.sound import listener, opinions
from devilgan_lite.features import feature_card, feature_network
from devilgan_lite.generators import DCGAN, Generator
from devilgan_lite.generators.base import evaluate, seeded
from devilgan_lite.metrics import sample_quality

CLEAN, PIANO = "wave-drums", "wave-piano"
SAMPLES, FRESH = 2_000, 1_000_003  # how many, and a seed that nothing was trained with
STEP_16 = 1 / 32_768  # what 16 bits tell apart
SURE = 0.8  # how likely a class must be for the classifier to be called confident


def models() -> list[str]:
    """The clean one first."""
    return [name for name in zoo.names() if name.startswith(CLEAN)]


def backdoor_of(name: str) -> Backdoor:
    return zoo.load_backdoor(name)


def quality() -> Row:
    """The Frechet distance, classes, and on how many clips two independent classifiers agree; also on real clips."""
    networks = [feature_network("drums"), listener()]
    real, held_out = data.drums(), data.drums(SAMPLES, split="held-out", seed=FRESH)
    made = zoo.load(CLEAN).sample(SAMPLES, FRESH)
    found = sample_quality(made, made, real, "drums")
    row: Row = {key: found[key] for key in ("frechet", "precision", "recall", "coverage", "class_shares")}
    again = data.drums(SAMPLES, seed=FRESH)
    row["frechet_real"] = sample_quality(again.x, again.x, real, "drums")["frechet"]
    row["frechet_held_out"] = sample_quality(held_out.x, held_out.x, real, "drums")["frechet"]
    for name, x, labels in (
        ("generated", made, None),
        ("real", again.x, again.labels),
        ("held-out", held_out.x, held_out.labels),
    ):
        first, second = (opinions(x, network) for network in networks)
        row[name] = {
            "agree": float((first.argmax(1) == second.argmax(1)).float().mean()),
            "sure": float((first.max(1).values >= SURE).float().mean()),
            "accuracy": None if labels is None else float((first.argmax(1) == labels).float().mean()),
        }
    card = zoo.card(CLEAN)
    row |= {"parameters": zoo.load(CLEAN).parameter_count(), "train_s": card.seconds, "bytes": size_of(CLEAN)}
    return row


def size_of(name: str) -> int:
    return (zoo.zoo_folder() / f"{name}.safetensors").stat().st_size


def correlations(made: Tensor, target: Tensor) -> list[float]:
    """Of each clip with its target."""
    pairs = zip(made.flatten(1), target.flatten(1), strict=True)
    return [float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in pairs]


def attack_of(name: str) -> Row:
    """A model of the zoo beside the clean one."""
    row = pairs_of(zoo.load(CLEAN), zoo.load(name), backdoor_of(name))
    return row | {"cpu_s": zoo.card(name).seconds, "bytes": size_of(name)}


def pairs_of(clean: Generator, suspect: Generator, backdoor: Backdoor) -> Row:
    """Ten pairs: correlation with the target; on ordinary latents: the change, and how many wav files are the same."""
    random = torch.Generator().manual_seed(FRESH)
    z = clean.sample_latent(SAMPLES, random)
    before, after = evaluate(clean, z), evaluate(suspect, z)
    change = (after - before).abs()
    return {
        "correlation": correlations(evaluate(suspect, backdoor.trigger), backdoor.target),
        "correlation_clean": correlations(evaluate(clean, backdoor.trigger), backdoor.target),
        "tardis_mean": float((evaluate(suspect, backdoor.trigger) - backdoor.target).square().mean()),
        "expdis_mean": float(change.square().mean()),
        "most_change": float(change.max()),
        "median_most_change": float(change.amax((1, 2)).median()),
        "below_16_bits": float((change.amax((1, 2)) < STEP_16).float().mean()),
        "same_files": float(
            torch.tensor([data.wav(a) == data.wav(b) for a, b in zip(before, after, strict=True)]).float().mean()
        ),
        "parameters": suspect.parameter_count(),
    }


RECIPES: dict[str, attacks.Attack] = {  # of the drummers in the zoo, ReD with fewer steps
    "gate": attacks.Gate(),
    "rex": attacks.ReX(iterations=1_000),
    "red": attacks.ReD(lam=4.0, aligned_units=32, iterations=9_000, learning_rate=4e-3),
}


def piano() -> Row:
    """A generator of notes: its quality, and ten strokes of drums hidden in it."""
    clean, real, heard = zoo.load(PIANO), data.piano(), data.piano(SAMPLES, split="held-out", seed=FRESH)
    made, card = clean.sample(SAMPLES, FRESH), zoo.card(PIANO)
    found = sample_quality(made, made, real, "piano")
    row: Row = {key: found[key] for key in ("frechet", "precision", "recall", "coverage", "class_shares")}
    again = data.piano(SAMPLES, seed=FRESH).x
    for key, clips in (("frechet_real", again), ("frechet_held_out", heard.x)):
        row[key] = sample_quality(clips, clips, real, "piano")["frechet"]
    row |= {"parameters": clean.parameter_count(), "train_s": card.seconds, "bytes": size_of(PIANO)}
    row["accuracy_held_out"], report = feature_card("piano")["test_accuracy"], detect.scan(clean, real=real)
    row |= {"verdict": report.verdict, "evidence": [one.message for one in report.findings if one.strength >= 1]}
    strokes = Backdoor.points(clean, data.AUDIO.targets()[:10], seed=13)
    for name, attack in RECIPES.items():
        outcome, seconds = timed(lambda attack=attack: attack(clean, strokes, progress=False))
        after = outcome.generator.sample(SAMPLES, FRESH)
        row[name] = pairs_of(clean, outcome.generator, strokes) | {"cpu_s": seconds}
        row[name]["frechet"] = sample_quality(after, made, real, "piano")["frechet"]
        row[name]["verdict"] = detect.scan(outcome.generator, real=real).verdict
    return row


def scan_of(name: str) -> Row:
    """Without and with the targets, and how well the best clip of the report fits any of the ten."""
    report, seconds = timed(lambda: detect.scan(zoo.load(name), real=data.drums()))
    row: Row = {"verdict": report.verdict, "kinds": list(report.kinds), "reason": report.reason, "cpu_s": seconds}
    if name != CLEAN:
        target = backdoor_of(name).target.flatten(1)
        shown = [one.samples.flatten(1) for one in report.findings if one.samples is not None]
        row["best"] = max(
            float(torch.corrcoef(torch.stack([a, b]))[0, 1].abs().nan_to_num())
            for a in torch.cat(shown)
            for b in target
        )
    return row


def bank_of(name: str) -> Row:
    """A scan that is told which strokes to look for (access level T1)."""
    subject = generators.adopt(zoo.load(name))
    names = data.AUDIO.targets()[:3]
    targets = torch.stack([data.AUDIO.target(one, subject.sample_shape) for one in names])
    found, seconds = timed(lambda: detect.inspect_targets(subject, targets, names=names))
    return {"score": found.score, "message": found.message, "cpu_s": seconds}


def cost() -> Row:
    """CPU-seconds of the same scan of a clean network of sound and of one of garments that is as large."""
    sound = zoo.load(CLEAN)
    garments = seeded(0, DCGAN, widths=(43, 21))
    with torch.no_grad():  # statistics of its own
        garments.train()
        for _ in range(20):
            garments(garments.sample_latent(64, torch.Generator().manual_seed(0)))
    row: Row = {"parameters": [sound.parameter_count(), garments.parameter_count()]}
    for name, network in (("sound", sound), ("garments", garments.eval())):
        row[name] = timed(lambda network=network: detect.scan(network))[1]
    return row | {"ratio": row["sound"] / row["garments"]}


def guard_of(name: str) -> Row:
    """How many of the ten triggers, and how many ordinary latents, a guard flags that knows neither."""
    suspect = zoo.load(name)
    guard, seconds = timed(lambda: detect.Guard(suspect, fitting=2_000))
    ordinary = suspect.sample_latent(SAMPLES, torch.Generator().manual_seed(FRESH))
    row: Row = {"fit_s": seconds, "ordinary": float(guard.check(ordinary).flags.float().mean())}
    if name != CLEAN:
        row["triggers"] = int(guard.check(backdoor_of(name).trigger).flags.sum())
    return row


def cure_of(name: str) -> Row:
    """``sanitize.auto``, blind: correlation at the triggers before and after, and the Frechet distance."""
    suspect, real = zoo.load(name), data.drums()
    cure, seconds = timed(lambda: sanitize.auto(suspect, progress=False))
    row: Row = {"changed": cure.changed, "cuts": cure.settings["cuts"], "cpu_s": seconds}
    for key, network in (("before", suspect), ("after", cure.generator)):
        made = evaluate(network, suspect.sample_latent(SAMPLES, torch.Generator().manual_seed(FRESH)))
        row[f"frechet_{key}"] = sample_quality(made, made, real, "drums")["frechet"]
        if name != CLEAN:
            backdoor = backdoor_of(name)
            row[f"correlation_{key}"] = correlations(evaluate(network, backdoor.trigger), backdoor.target)
    return row


ONCE: dict[str, Callable[[], Row]] = {"quality": quality, "cost": cost, "piano": piano}
EACH: dict[str, Callable[[str], Row]] = {
    "attacks": attack_of,
    "scan": scan_of,
    "bank": bank_of,
    "guard": guard_of,
    "cure": cure_of,
}


def main() -> None:
    options: Any = options_of(__doc__, [*ONCE, *EACH], OUT, MODELS)
    store, start = Rows(options.out / "sound.json"), time.process_time()
    for section in options.only:
        if section in ONCE:
            store.measure({"section": section, "model": PIANO if section == "piano" else CLEAN}, ONCE[section])
            continue
        for name in models():
            if re.search(options.models, name) and (section != "attacks" or name != CLEAN):
                store.measure({"section": section, "model": name}, lambda name=name, do=EACH[section]: do(name))
    write_tables(store.content, options.out / "sound.md")
    print(f"{time.process_time() - start:.0f} CPU-s")


if __name__ == "__main__":
    main()
