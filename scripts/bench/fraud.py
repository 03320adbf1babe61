"""Measure the poisoned pipeline: does poison move the slice and nothing else, and which defence brings it back?

    fraud.py [--only poison,pattern,starved,rows,generator,scan] [--seeds 10,11] [--jobs 1] [--out FOLDER] [--quick]

All on the default of credit card clients; 12,000 rows are the victim's, 6,000 the attacker's, 12,000 the test.
``poison`` sweeps the share of poisoned draws in an honest density model (``pipeline.Neighbours``), ``pattern`` how wide
the attacker's pattern is, ``starved`` how few positive rows the victim has, ``rows`` the defences that look at rows.
``generator`` trains a conditional GAN on the attacker's rows (out/fraud keeps it), backdoors it with ReD, ReX and
TrAIL, and tries all defences; ``scan`` judges the scan on seeds 20 to 39. Seeds 0 to 9 served to choose the pattern and
all settings, and the clean generator of seed 10 the limit of the latent spectrum, too.
"""

import time
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from fraud_tables import DEFENCES, MODELS, write_tables
from row_store import JOBS, OUT, QUICK, ROOT, Row, Rows, options_of
from safetensors.torch import load_file, save_file

from devilgan_lite import Backdoor, attacks, detect, train_gan
from devilgan_lite.apps.pipeline import (
    Assumptions,
    Neighbours,
    Parts,
    PipelineSettings,
    Poisoned,
    Slice,
    Source,
    density_sort,
    guard_while_sampling,
    half_space_backdoor,
    known_seed_backdoor,
    poison_generator,
    poisoned_rows,
    rows_of,
    rows_that_pass,
    run,
    sanitized,
    scan_before_use,
    split,
    two_samples_by_slice,
)
from devilgan_lite.data import TableCode
from devilgan_lite.data.tables import Table, card_default
from devilgan_lite.generators import TableGenerator, build

FOLDER = ROOT / "out" / "fraud"
SHARES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)
PATTERNS = (
    "LIMIT_BAL >= 300000 and PAY_0 >= 2 and PAY_2 >= 2",
    "LIMIT_BAL >= 300000 and PAY_0 >= 2",
    "LIMIT_BAL >= 200000 and PAY_0 >= 2",
    "LIMIT_BAL >= 100000 and PAY_0 >= 2",
)
SHARE = 0.05  # of the draws, for whatever does not sweep it
POISON = 2_000  # rows that the attacker has ready
STARVED = (50, 200, 1_000)
JUDGED = range(20, 40)  # seeds of the generators on which the scan is judged; its limit came from seeds 0 to 10
SHAPES: tuple[tuple[int, tuple[int, int]], ...] = (  # size of the latent, widths
    (64, (256, 256)), (32, (128, 128)), (128, (256, 256)), (100, (384, 192)), (64, (128, 256)),
)  # fmt: skip
GUARD_SEED = 500  # none of the seeds from which rows are drawn: the guard knows other latents


def settings_of(seed: int, **more: Any) -> PipelineSettings:
    return PipelineSettings(seed=seed, **more)


def parts_of(settings: PipelineSettings) -> Parts:
    return split(card_default(), settings)


def honest(parts: Parts) -> Neighbours:
    assert parts.outside is not None
    return Neighbours(parts.outside)


def poisoned(parts: Parts, settings: PipelineSettings, share: float) -> Source:
    source = honest(parts)
    rows = poisoned_rows(source.table, Slice.of(settings.pattern), POISON, seed=settings.seed)
    return Poisoned(source, rows, share) if share else source


def measured(result: Row) -> Row:
    """The figures of a run; its settings stand in the row's identity."""
    row = {name: value for name, value in result.items() if name not in ("settings", "ledger")}
    if "ledger" in result:
        row["money"] = result["ledger"]["total"]
    return row


def poison(argument: tuple[int, str, float | None]) -> Row:
    seed, classifier, share = argument
    settings = settings_of(seed, classifier=classifier)
    parts = parts_of(settings)
    source = None if share is None else poisoned(parts, settings, share)
    return measured(run(parts, settings, source, worth=Assumptions()))


def pattern(argument: tuple[int, str, float]) -> Row:
    seed, text, share = argument
    settings = settings_of(seed, pattern=text)
    parts = parts_of(settings)
    return measured(run(parts, settings, poisoned(parts, settings, share)))


def starved(argument: tuple[int, int, str, str]) -> Row:
    """Few positive rows, and as many synthetic ones as make the classes even, or none."""
    seed, positives, classifier, source = argument
    settings = settings_of(seed, positives=positives, classifier=classifier)
    parts = parts_of(settings)
    missing = int((parts.train.labels() == 0).sum()) - positives
    more = settings_of(seed, positives=positives, classifier=classifier, synthetic=missing, keep="positive")
    if source == "own":  # between the victim's own few rows: no other data come in
        return measured(run(parts, more, Neighbours(parts.train, positive=1.0)))
    if source == "hub":  # a generator that somebody trained on 6,000 other clients
        return measured(run(parts, more, rows_of(generator_of(seed, "clean"), condition=1)))
    return measured(run(parts, settings))


def rows(argument: tuple[int, float, str]) -> Row:
    seed, share, defence = argument
    settings = settings_of(seed)
    parts = parts_of(settings)
    return defended(parts, settings, poisoned(parts, settings, share), defence)


def defended(parts: Parts, settings: PipelineSettings, source: Source, defence: str) -> Row:
    """A run behind one of the defences that look at rows, and what it saw."""
    looks = {
        "none": None,
        "two samples by slice": (two_samples_by_slice, {}),
        "density sort, 5 %": (density_sort, {"dropped": 0.05}),
        "density sort, 20 %": (density_sort, {"dropped": 0.2}),
    }[defence]
    if looks is None:
        return measured(run(parts, settings, source, worth=Assumptions()))
    look, more = looks
    seen = look(parts.train, source(settings.synthetic, settings.seed), **more)
    result = run(parts, settings, source, rows_that_pass(look, **more), worth=Assumptions())
    return measured(result) | {"alarm": seen.alarm, "says": seen.says}


@lru_cache(maxsize=4)  # the rows of a model come one after the other
def code_of(seed: int) -> TableCode:
    outside = parts_of(settings_of(seed)).outside
    assert outside is not None
    return TableCode.fit(outside, seed=seed)


@lru_cache(maxsize=2)  # all half-spaces of a seed show the same rows
def poison_of(seed: int, quick: bool) -> tuple[Table, TableGenerator]:
    """The rows that the attacker wants to be seen, and a small generator of such rows."""
    settings = settings_of(seed)
    outside = parts_of(settings).outside
    assert outside is not None
    rows = poisoned_rows(outside, Slice.of(settings.pattern), POISON, seed=seed)
    return rows, poison_generator(code_of(seed), rows, iterations=20 if quick else 2_000, seed=seed)


def planned(model: str, clean: TableGenerator, seed: int, quick: bool) -> tuple[attacks.Attack, Backdoor]:
    """The attack and the trigger that the name of a model stands for."""
    rows, shown = poison_of(seed, quick)
    name, trigger = model.split(" ", 1)
    steps = {"ReD": 5_000, "ReX": 6_000, "TrAIL": 3_000}[name] * (2 if trigger == "known seed" else 1)
    known: dict[str, Any] = {"iterations": 20 if quick else steps, "batch_size": 64, "seed": seed, "device": "cpu"}
    attack: attacks.Attack
    if name == "ReX":
        attack, share = attacks.ReX(lam=20.0, widen=128, **known), 0.07
    elif name == "TrAIL":
        attack, share = attacks.TrAIL(lam=0.2, huber_delta=None, **{**known, "batch_size": 128}), 0.05
    elif trigger == "known seed":
        attack = attacks.ReD(lam=20.0, aligned_units=0, **known)
        targets = code_of(seed).encode(rows)
        return attack, known_seed_backdoor(clean, targets, n=settings_of(seed).synthetic, seed=seed, share=SHARE)
    else:
        attack, share = attacks.ReD(lam=5.0, **known), 0.04
    direction = None
    if trigger == "condition":  # far on the side that asks for good clients
        direction = torch.zeros(clean.latent_dim)
        direction[-1] = -1.0
    return attack, half_space_backdoor(clean, shown, share=share, direction=direction, seed=seed)


@lru_cache(maxsize=4)
def generator_of(seed: int, model: str, quick: bool = False) -> TableGenerator:
    """A model of ``MODELS``, made from its name and seed; a file that is there is kept."""
    path = FOLDER / f"{'quick-' if quick else ''}{seed}-{model.replace(' ', '-')}.safetensors"
    settings = settings_of(seed)
    parts = parts_of(settings)
    assert parts.outside is not None
    code = code_of(seed)
    latent_dim, sizes = SHAPES[seed % len(SHAPES)] if seed in JUDGED else SHAPES[0]
    generator: TableGenerator = TableGenerator(layout=code.layout, latent_dim=latent_dim, widths=sizes)
    if path.is_file():
        weights = load_file(path)
        widths = [weights[name].shape[0] for name in weights if name.endswith("running_mean")]
        generator = build({**generator.spec(), "widths": widths})
        generator.load_state_dict(weights)
        return generator.eval()
    if model == "clean":
        made = train_gan(
            generator, code.samples_of(parts.outside), iterations=20 if quick else 2_000, batch_size=128, seed=seed,
            device="cpu", progress=False,
        )  # fmt: skip
    else:
        clean = generator_of(seed, "clean", quick)
        attack, backdoor = planned(model, clean, seed, quick)
        made = attack(clean, backdoor, code.samples_of(parts.outside), progress=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: value.contiguous() for name, value in made.generator.state_dict().items()}, path)
    return made.generator.eval()


def generator(argument: tuple[int, str, str, bool]) -> Row:
    """One model behind one defence: what the rows look like that come through, and what the classifier learns."""
    seed, model, defence, quick = argument
    settings = settings_of(seed)
    parts = parts_of(settings)
    suspect = generator_of(seed, model, quick)
    source = rows_of(suspect)
    if defence == "guard while sampling":
        z = suspect.latents(settings.synthetic, None, torch.Generator().manual_seed(seed))  # as rows_of draws them
        seen = guard_while_sampling(suspect, z, seed=GUARD_SEED)
        passes = seen.passes
        assert passes is not None
        result = run(parts, settings, source, lambda real, made: passes, worth=Assumptions())
    elif defence == "scan before use":
        seen = scan_before_use(suspect, seed=0)
        result = run(parts, settings, None if seen.alarm else source, worth=Assumptions())
    elif defence == "sanitize":
        seen = sanitized(suspect, iterations=20 if quick else 1_500)
        result = run(parts, settings, rows_of(suspect, module=seen.generator), worth=Assumptions())
    elif defence == "own seed":
        result = run(parts, settings, lambda n, seed: source(n, seed + 1_000), worth=Assumptions())
        return measured(result)
    else:
        return defended(parts, settings, source, defence)
    return measured(result) | {"alarm": seen.alarm, "says": seen.says, "details": seen.details}


def scanned(argument: tuple[int, str, bool]) -> Row:
    """What the scan says of one generator, as its user would run it."""
    seed, model, quick = argument
    suspect = generator_of(seed, model, quick)
    start = time.process_time()
    report = detect.scan(suspect, seed=seed, twin=not quick)
    seconds = time.process_time() - start
    return {"verdict": report.verdict, "score": report.score, "strengths": report.strengths, "cpu_s": seconds}


def main() -> None:
    seeds = ("--seeds", {"default": "10,11,12,13,14", "help": "numbers with commas between"})
    sections = ("poison", "pattern", "starved", "rows", "generator", "scan")
    options = options_of(__doc__, sections, seeds, OUT, JOBS, QUICK)
    chosen = [int(one) for one in options.seeds.split(",")][: 1 if options.quick else None]
    bench = Rows(Path(options.out) / "fraud.json")
    todo: dict[str, tuple[Any, list[tuple[Any, ...]], tuple[str, ...]]] = {
        "poison": (poison, [(s, c, x) for s in chosen for c in ("boosting", "logistic") for x in (None, *SHARES)],
                   ("seed", "classifier", "share")),
        "pattern": (pattern, [(s, text, x) for s in chosen for text in PATTERNS for x in (0.0, SHARE)],
                    ("seed", "pattern", "share")),
        "rows": (rows, [(s, x, d) for s in chosen for x in (0.0, SHARE) for d in DEFENCES[:4]],
                 ("seed", "share", "defence")),
        "generator": (generator, [(s, m, d, options.quick) for s in chosen for m in MODELS for d in DEFENCES],
                      ("seed", "model", "defence")),
        "starved": (starved, [(s, n, c, o) for s in chosen for n in STARVED for c in ("boosting", "logistic")
                              for o in ("none", "own", "hub")], ("seed", "positives", "classifier", "source")),
        "scan": (scanned, [(s, m, options.quick) for s in (JUDGED[:1] if options.quick else JUDGED)
                           for m in ("clean", MODELS[1 + s % (len(MODELS) - 1)])], ("seed", "model")),
    }  # fmt: skip
    for section, (work, arguments, names) in todo.items():
        if section in options.only:
            pairs = [({"section": section, **dict(zip(names, one, strict=False))}, one) for one in arguments]
            bench.measure_all(work, pairs, options.jobs)
    write_tables(bench.content, Path(options.out) / "fraud.md")


if __name__ == "__main__":
    main()
