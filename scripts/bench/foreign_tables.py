"""Scan the foreign population, and write ``docs/results/foreign.json`` as the tables of ``docs/results/foreign.md``."""

import statistics
import time
from pathlib import Path

from row_store import Row, markdown, mean_and_most, some, write_page
from sklearn.metrics import roc_auc_score
from torch.nn.functional import cosine_similarity

from devilgan_lite import detect

VERDICTS = ("backdoored", "suspicious", "clean", "inconclusive")
LOOKED_AT = 0  # the seed whose models were seen when the limits were chosen


def scanned(path: Path) -> Row:
    """One scan of a model of the population."""
    import foreign
    import torch

    torch.set_num_threads(1)
    module, card = foreign.load(path)
    start = time.process_time()
    report = detect.scan(module, card["latent_dim"], prior=card["prior"], samples=200)
    row: Row = {"verdict": report.verdict, "score": report.score, "seconds": time.process_time() - start}
    row |= {f"strength {kind}": strength for kind, strength in report.strengths.items()}
    row["not run"] = [finding.detector for finding in report.findings if not finding.ran]
    if card["backdoored"]:
        trigger = torch.tensor(card["trigger"]).float().view(-1, card["latent_dim"])
        row |= {"tardis": card["tardis"], "trigger_kind": card["trigger_kind"]}
        if report.trigger is not None:
            row["cosine"] = float(cosine_similarity(report.trigger.view(1, -1), trigger).max())
    return row


def identity_of(card: Row) -> Row:
    return {key: card[key] for key in ("family", "seed", "kind", "backdoored")}


def write_tables(content: Row, path: Path) -> None:
    """Write the page."""
    judged = [row for row in content["rows"] if row["seed"] != LOOKED_AT]
    clean, bad = (some(judged, backdoored=truth) for truth in (False, True))
    parts = [
        "# A verdict on strangers' models",
        "Made by `make bench NAME=foreign ARGS=--judge` from `foreign.json`: one `detect.scan` of every model of the "
        "foreign population, nine families whose networks, data and training are not those of this package (variants: "
        "clean models as engineers leave them, rounded, pruned, folded, trained on, distilled, widened). The limits of "
        "the detectors started from earlier trials and were set on 21 scans of three families: 19 models of seed "
        f"{LOOKED_AT}, and the clean dcgan28 and dcgan32 of seed 1, which stand below all the same. The other seeds "
        "are shown. The clean style network of seed 1 was suspicious at first; the spectra of style networks then lost "
        "their say, after a look at our own clean one, and it was scanned again. No family was held out: that, "
        "more seeds, TrAIL, and attackers who know these detectors are still to come. Single run of each model; most "
        "scans ran beside other work, which lengthens their CPU-seconds.",
        f"The AUC of the score is {auc(judged)} on these models.",
        markdown(
            ("kind", "models", *VERDICTS, "cosine of the estimate to the trigger: median"),
            (line(kind, some(judged, kind=kind)) for kind in dict.fromkeys(row["kind"] for row in [*clean, *bad])),
        ),
        markdown(
            ("family", "clean: greatest strength", "backdoored: least", "CPU-s: mean, most"),
            (family_line(name, some(judged, family=name)) for name in sorted({row["family"] for row in judged})),
        ),
    ]
    write_page(path, parts)


def auc(rows: list[Row]) -> str:
    truth = [row["backdoored"] for row in rows]
    return f"{roc_auc_score(truth, [row['score'] for row in rows]):.3f}" if len(set(truth)) == 2 else "-"


def line(name: str, rows: list[Row]) -> tuple[str, ...]:
    cosines = [row["cosine"] for row in rows if "cosine" in row]
    counts = (str(len(some(rows, verdict=verdict))) for verdict in VERDICTS)
    return (name, str(len(rows)), *counts, f"{statistics.median(cosines):.2f}" if cosines else "-")


def strongest(row: Row) -> float:
    return max((value for key, value in row.items() if key.startswith("strength ")), default=0.0)


def family_line(name: str, rows: list[Row]) -> tuple[str, ...]:
    clean = [strongest(row) for row in some(rows, backdoored=False)]
    bad = [strongest(row) for row in some(rows, backdoored=True)]
    ends = (f"{max(clean):.2f}" if clean else "-", f"{min(bad):.2f}" if bad else "-")
    return name, *ends, mean_and_most([row["seconds"] for row in rows])
