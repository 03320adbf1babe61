"""The rows of ``docs/results/benchmark.json`` as the Markdown tables of ``docs/results/benchmark.md``."""

from pathlib import Path
from typing import Any

from row_store import Row, markdown, spread, write_page

FIGURES = {
    "tardis_sum": "TarDis sum",
    "expdis_mean": "ExpDis mean",
    "frechet_change": "Frechet change",
    "cpu_s": "CPU-s",
}


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    rows = content["rows"]
    parts = [
        "# Benchmark",
        f"Made by `make bench NAME=attacks` from `benchmark.json`. {content['machine']}. "
        "CPU-s are seconds of process time.",
        *_clean(rows),
        *_attacks(rows),
        *_throughput(rows),
    ]
    write_page(path, parts)


def _clean(rows: list[Row]) -> list[str]:
    found = [row for row in rows if row["section"] == "clean"]
    context = [row for row in rows if row["section"] == "context"]
    parts = []
    if found:
        head = ("steps", "Frechet", "worst", "CPU-s", "seeds")
        lines = []
        for steps in sorted({row["steps"] for row in found}):
            some = [row for row in found if row["steps"] == steps]
            distances = [row["frechet"] for row in some]
            seconds = spread([row["cpu_s"] for row in some])
            lines.append((str(steps), spread(distances), f"{max(distances):.3g}", seconds, _seeds(some)))
        parts += [
            "## Clean training",
            f"Frechet distance to {found[-1]['against']}; lower is better.",
            markdown(head, lines),
        ]
    if context:
        pictures = [(row["what"], f"{row['frechet']:.3g}") for row in context]
        parts += ["What the distance says of other pictures:", markdown(("pictures", "Frechet"), pictures)]
    return parts


def _attacks(rows: list[Row]) -> list[str]:
    names = list(dict.fromkeys(row["attack"] for row in rows if "attack" in row))
    if not names:
        return []
    summary, by_target = [], []
    for name in names:
        found = latest([row for row in rows if row.get("attack") == name])
        columns = [[row[figure] for row in found] for figure in FIGURES]
        summary.append((name, *(f"{spread(values)}, worst {max(values):.3g}" for values in columns), str(len(found))))
        for target in dict.fromkeys(row["target"] for row in found):
            some = [row for row in found if row["target"] == target]
            spreads = [spread([row[figure] for row in some]) for figure in FIGURES]
            by_target.append((name, target, *spreads, _seeds(some)))
    return [
        "## Attacks",
        "Mean ± standard deviation over all targets and seeds, and the worst of them. TrAIL is compared with a clean "
        "training of the same length and seed, the others with the shipped generator that they start from.",
        markdown(("attack", *FIGURES.values(), "rows"), summary),
        "By target, over the seeds:",
        markdown(("attack", "target", *FIGURES.values(), "seeds"), by_target),
    ]


def _throughput(rows: list[Row]) -> list[str]:
    found = [row for row in rows if row["section"] == "throughput"]
    if not found:
        return []
    lines = [
        (
            row["what"],
            str(row["settings"]["batch_size"]),
            f"{row['ours_steps_per_s']:.3g}",
            f"{row['plain_steps_per_s']:.3g}",
            f"{row['ratio']:.2f} ({row['ratio_low']:.2f} to {row['ratio_high']:.2f})",
        )
        for row in found
    ]
    return [
        "## Throughput",
        "Steps per CPU-second at the paper's size, ours against textbook loops (`scripts/bench/plain_loops.py`), in "
        "turns in one process; the ratio is the median over the turns.",
        markdown(("loop", "batch", "ours", "textbook", "ratio"), lines),
    ]


def latest(rows: list[Row]) -> list[Row]:
    """Those rows that were measured as the last one was: the same settings (seed apart) and the same clean model."""

    def made_by(row: Row) -> Any:
        settings = {name: value for name, value in row["settings"].items() if name != "seed"}
        return settings, row["samples"], row["against"], None if row["attack"] == "TrAIL" else row["clean"]

    return [row for row in rows if made_by(row) == made_by(rows[-1])]


def _seeds(rows: list[Row]) -> str:
    return "single run" if len(rows) == 1 else str(len(rows))
