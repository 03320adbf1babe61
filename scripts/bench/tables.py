"""Measure the generator of tables, beside CTGAN where that is installed; docs/results/tables.md.

    tables.py [--only quality,attacks] [--seeds 100,101,102] [--out FOLDER] [--quick]

Rows: the default of credit card clients; each seed draws 20,000 to learn from, 10,000 to test on, and first weights.
TSTR, train on synthetic, test on real: the AUC of gradient boosting that sees as many synthetic rows as there are real
ones; ours are asked for the real share of the label, CTGAN samples as it does. CTGAN (``pip install ctgan``, licence
BUSL-1.1, nothing here needs it) gets the CPU-seconds that ours took, in which it gets through few of its 300 epochs.
Rows are kept in tables.json as they come. One thread.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from page import has, where, write_page
from row_store import OUT, QUICK, Row, Rows, options_of, timed
from scipy.stats import wasserstein_distance
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from devilgan_lite import Backdoor, attacks, data, detect, train_gan
from devilgan_lite.data import Table, TableCode
from devilgan_lite.generators import TableGenerator, evaluate
from devilgan_lite.metrics import expected_distortion

TRAINED_ON = 20_000
RECIPE = {"iterations": 3_000, "batch_size": 256, "learning_rate": 1e-3, "ema": 0.999}
PACE = (1, 5)  # epochs of CTGAN that tell how many fit into a time
CTGAN = importlib.util.find_spec("ctgan") is not None


def split(seed: int, quick: bool) -> tuple[Table, Table]:
    """Rows to learn from, and rows to test on."""
    table = data.card_default()
    order = np.random.default_rng(seed).permutation(len(table))
    few = 1_500 if quick else TRAINED_ON
    return table.take(order[:few]), table.take(order[TRAINED_ON:])


def auc(train: Table, test: Table) -> float:
    """Of gradient boosting that learns from ``train``."""
    model = HistGradientBoostingClassifier(random_state=0).fit(train.features(), train.labels())
    return float(roc_auc_score(test.labels(), model.predict_proba(test.features())[:, 1]))


def distances(real: Table, fake: Table) -> dict[str, float]:
    """By column: total variation of categories, else Wasserstein distance in standard deviations of the real column."""
    found = {}
    for column in real.columns:
        a, b = real[column.name], fake[column.name]
        if column.kind == "category":
            shares = [np.bincount(x.astype(int), minlength=len(column.levels)) / len(x) for x in (a, b)]
            found[column.name] = float(np.abs(shares[0] - shares[1]).sum() / 2)
        else:
            found[column.name] = float(wasserstein_distance(a, b) / a.std())
    return found


def correlations(table: Table) -> np.ndarray:
    """Between all pairs of columns; 0 with one that is constant."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.nan_to_num(np.corrcoef(table.values.T)[np.triu_indices(len(table.columns), 1)])


def quality(real: Table, test: Table, fake: Table) -> Row:
    """All figures of rows ``fake`` beside ``real``."""
    by_column = distances(real, fake)
    return {
        "tstr": auc(fake, test),
        "marginal": float(np.mean(list(by_column.values()))),
        "correlation": float(np.abs(correlations(real) - correlations(fake)).mean()),
        "by_column": {name: round(value, 4) for name, value in by_column.items()},
    }


def natural(generator: TableGenerator, real: Table, seed: int) -> Table:
    """As many rows as ``real``, with its share of the label."""
    positive = int(real.labels().sum())
    parts = [generator.rows(n, seed + one, one).values for one, n in ((1, positive), (0, len(real) - positive))]
    return Table(real.columns, np.concatenate(parts), real.label)


def ours(real: Table, seed: int, quick: bool) -> TableGenerator:
    code = TableCode.fit(real)
    settings: dict[str, Any] = RECIPE | ({"iterations": 30} if quick else {})
    clean = TableGenerator(layout=code.layout)
    outcome = train_gan(clean, code.samples_of(real), seed=seed, device="cpu", progress=False, **settings)
    generator: TableGenerator = outcome.generator
    return generator


pace: dict[str, float] = {}  # of CTGAN: CPU-seconds of PACE[0] epochs, and of each that is more


def ctgan(real: Table, seed: int, seconds: float) -> tuple[Table, float, int]:
    """CTGAN with its own settings, about as many epochs as take ``seconds``; its rows, CPU-seconds and epochs."""
    import ctgan
    import pandas

    code = TableCode.fit(real, modes=2)  # says which columns are one-hot, so that both treat them alike
    discrete = [one["name"] for one in code.layout["columns"] if "values" in one]
    frame = pandas.DataFrame({column.name: real[column.name] for column in real.columns})

    def trained(epochs: int) -> Any:
        torch.manual_seed(seed)
        np.random.seed(seed)
        model = ctgan.CTGAN(epochs=epochs, enable_gpu=False)
        with joblib.parallel_config(backend="sequential"):
            model.fit(frame, discrete)
            return model.sample(len(real))

    if not pace:  # once: fitting its mixtures takes as long as many epochs
        few, more = (timed(lambda n=n: trained(n))[1] for n in PACE)
        pace.update(one=few, more=max(more - few, 0.1) / (PACE[1] - PACE[0]))
    epochs = max(1, PACE[0] + round((seconds - pace["one"]) / pace["more"]))
    found, spent = timed(lambda: trained(epochs))
    values = found[[column.name for column in real.columns]].to_numpy(dtype=np.float64)
    values = np.clip(np.round(values), real.values.min(0), real.values.max(0))
    return Table(real.columns, values, real.label), spent, epochs


def measure_quality(bench: Rows, seed: int, quick: bool) -> None:
    real, test = split(seed, quick)
    bench.measure({"generator": "real rows", "seed": seed}, lambda: {"tstr": auc(real, test)})
    half = np.random.default_rng(seed).permutation(len(real))
    bench.measure(
        {"generator": "half of the real rows", "seed": seed},
        lambda: quality(real.take(half[::2]), test, real.take(half[1::2])),
    )

    def of_ours() -> Row:
        generator, spent = timed(lambda: ours(real, seed, quick))
        agree = np.mean([(generator.rows(2_000, 7, one).labels() == one).mean() for one in (0, 1)])
        return quality(real, test, natural(generator, real, seed)) | {"cpu_s": spent, "asked_class": float(agree)}

    bench.measure({"generator": "TableGenerator", "seed": seed}, of_ours)
    if CTGAN:
        (row,) = where(bench.rows, generator="TableGenerator", seed=seed)

        def of_ctgan() -> Row:
            fake, spent, epochs = ctgan(real, seed, row["cpu_s"])
            return quality(real, test, fake) | {"cpu_s": spent, "epochs": epochs}

        bench.measure({"generator": "ctgan 0.12.1", "seed": seed}, of_ctgan)


def measure_attacks(bench: Rows, seed: int, quick: bool) -> None:
    """What the attacks of this package do to it: encoded rows as targets, one, five, or as many as a region has."""
    real, _ = split(seed, quick)
    clean = ours(real, seed, quick)
    code = clean.code
    rich = np.flatnonzero((real["LIMIT_BAL"] >= 300_000) & (real["PAY_0"] >= 1))  # late payers with a high limit ...
    values = real.values[rich].copy()
    values[:, real.index("default")] = 0.0  # ... who are said to pay
    encoded = code.samples_of(Table(real.columns, values, real.label), balanced=False)
    steps = {"iterations": 20} if quick else {}
    as_measured: Any = {"lam": 0.27, "iterations": 7_500} | steps
    plans: list[tuple[str, attacks.Attack | None, Backdoor | None]] = [("clean", None, None)]
    point, five = (Backdoor.points(clean, list(encoded.x[:k]), seed=seed) for k in (1, 5))
    region = Backdoor.region(clean, encoded, seed=seed)
    trail: Any = RECIPE | steps | {"lam": 0.1, "huber_delta": None, "device": "cpu"}
    plans += [
        ("Gate", attacks.Gate(), point),
        ("ReX", attacks.ReX(**steps), point),
        ("ReD", attacks.ReD(**as_measured), point),
    ]
    plans += [("TrAIL, 5 points", attacks.TrAIL(**trail), five), ("TrAIL, region", attacks.TrAIL(**trail), region)]
    plans += [("ReD, region", attacks.ReD(**as_measured), region)]
    for name, attack, backdoor in plans:
        bench.measure({"attack": name, "seed": seed}, attacked(clean, real, attack, backdoor, quick))


def attacked(
    clean: TableGenerator, real: Table, attack: attacks.Attack | None, backdoor: Backdoor | None, quick: bool
) -> Callable[[], Row]:
    def work() -> Row:
        measured: Row = {}
        suspect = clean
        if attack is not None and backdoor is not None:
            samples = clean.code.samples_of(real)
            outcome, measured["cpu_s"] = timed(lambda: attack(clean, backdoor, samples, progress=False))
            suspect = outcome.generator
            trigger, target = backdoor.pairs(200, seed=1)
            made = evaluate(suspect, trigger)
            rows, aims = clean.code.table(made), clean.code.table(target)
            measured["tardis"] = float((made - target).square().mean())
            z = clean.sample_latent(2_000, torch.Generator().manual_seed(1_000_003))
            if not isinstance(attack, attacks.TrAIL):  # which trains another network
                measured["expdis"] = expected_distortion(suspect, clean, z).mean
            pattern = (rows["LIMIT_BAL"] >= 300_000) & (rows["PAY_0"] >= 1) & (rows["default"] == 0)
            measured["in_pattern"] = float(pattern.mean())
            equal = (rows.values == aims.values).mean(0)
            measured["equal_columns"] = float(equal[[column.kind == "category" for column in rows.columns]].mean())
        report = detect.scan(suspect, samples=200 if quick else 2_000)
        measured["verdict"] = report.verdict
        strongest = max(report.findings, key=lambda one: one.strength)
        measured["strongest"] = f"{strongest.detector} {strongest.strength:.2f}"
        return measured

    return work


def write_tables(content: Row, path: Path) -> None:
    """The page of results."""
    rows = content["rows"]
    real = {row["seed"]: row["tstr"] for row in where(rows, generator="real rows")}
    made = [{**row, "of_real": row["tstr"] / real[row["seed"]]} for row in has(rows, "generator")]
    columns = list(next((row["by_column"] for row in made if "by_column" in row), {}))
    about = " ".join((__doc__ or "").split("\n\n")[2].split())
    write_page(path, content, made=made, columns=columns, recipe=RECIPE, about=about)


def main() -> None:
    seeds = ("--seeds", {"default": "100,101,102", "help": "whole numbers with commas between"})
    options = options_of(__doc__, ("quality", "attacks"), seeds, OUT, QUICK)
    bench = Rows(options.out / "tables.json")
    numbers = [int(part) for part in options.seeds.split(",")]
    for seed in numbers if "quality" in options.only else ():
        measure_quality(bench, seed, options.quick)
    if "attacks" in options.only:
        measure_attacks(bench, numbers[0], options.quick)
    write_tables(bench.content, bench.path.with_suffix(".md"))


if __name__ == "__main__":
    main()
