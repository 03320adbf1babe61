"""The rows of ``docs/results/art.json`` as the tables and curves of ``docs/results/art.md``."""

from math import log10
from pathlib import Path

from row_store import Row, markdown, some, write_page

BARS = "▁▂▃▄▅▆▇█"


def write_tables(content: Row, path: Path) -> None:
    """Write the page."""
    rows = content["rows"]
    parts = [
        "# ReD and TrAIL beside the Adversarial Robustness Toolbox",
        "Made by `scripts/bench/art.py` from `art.json`. ART 1.20.1 with TensorFlow, textbook PyTorch and the package: "
        "the same small DCGAN of garments (weights carried over; outputs differ by at most 1e-5, else the bench "
        "stops), the same trigger, STOP sign and lambda, which weighs the mean squared error at the trigger. Single "
        "runs, one thread, each until it arrives or its CPU-seconds are spent; the time of measuring is left out. "
        f"Machine: {content['machine']}.",
    ]
    for attack, said in ABOUT.items():
        if found := some(rows, attack=attack):
            parts += [f"## {attack}", said, table(attack, found), *ratios(found)]
            parts += [
                "Target distortion over time, logarithmic, from the first look to the last:",
                markdown(("by", "lambda", "from", "curve", "to"), [curve(row) for row in found]),
            ]
    write_page(path, parts)


ABOUT = {
    "ReD": "Arrived: target distortion (sum of squared errors of the picture) 0.26 or less and a mean squared change "
    "of ordinary samples of 1e-3 or less, on 1,000 held-out latents. ART's optimiser is Adam 1e-4, which cannot be "
    "chosen. Plain PyTorch is the same loop, once with that rate and once with 3e-3; what is left between it and the "
    "package is the package's own: its loss, its idle units, its schedule, its taught latents.",
    "TrAIL": "From scratch: no clean generator to stay near to, so arrived is a target distortion of 0.26 or less "
    "after at least 2,000 steps, and the Frechet distance to real garments stands beside it. All three train with Adam "
    "2e-3; the package shows its running average of the weights. ART is looked at once a pass, 313 steps.",
}


def table(attack: str, rows: list[Row]) -> str:
    head = [
        "by",
        "lambda",
        "arrived",
        "iterations",
        "CPU-s",
        "steps/s",
        "TarDis at the end",
        "best",
        "ExpDis",
        "Frechet",
    ]
    lines = [
        (
            row["by"],
            f"{row['lambda']:g}",
            "yes" if row["arrived"] else "no",
            f"{row['iteration']:,}",
            f"{row['cpu_s']:.0f}",
            f"{row['steps_per_s']:.0f}" if row["steps_per_s"] >= 10 else f"{row['steps_per_s']:.1f}",
            f"{row['tardis']:.3g}",
            f"{row['best_tardis']:.3g}",
            f"{row['expdis']:.2g}" if attack == "ReD" else "-",
            f"{row['frechet']:.3g}",
        )
        for row in rows
    ]
    return markdown(head, lines)


def ratios(rows: list[Row]) -> list[str]:
    """Steps a second against ours, and CPU-seconds of the fastest arrival of each."""
    sentences = []
    best = {by: min((row["cpu_s"] for row in some(rows, by=by) if row["arrived"]), default=None) for by in names(rows)}
    speed = {by: max(row["steps_per_s"] for row in some(rows, by=by)) for by in names(rows)}
    for by in names(rows):
        if by == "ours" or "ours" not in best:
            continue
        text = f"Against {by}: {speed['ours'] / speed[by]:.1f} times the steps a second"
        if best["ours"] and best[by]:
            text += f", and {best[by] / best['ours']:.1f} times fewer CPU-seconds to arrive"
        elif best["ours"]:
            longest = max(row["cpu_s"] for row in some(rows, by=by))
            text += f"; it does not arrive in {longest:.0f} CPU-s, ours does in {best['ours']:.0f}"
        else:
            text += "; ours does not arrive"
        sentences.append(f"- {text} (the best lambda of each).")
    return ["\n".join(sentences)] if sentences else []


def names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["by"] for row in rows))


def curve(row: Row) -> tuple[str, ...]:
    values = [max(point["tardis"], 1e-4) for point in row["curve"]]
    low, high = -3.0, 3.0  # decades: 0.001 to 1,000
    thinned = values[:: max(1, len(values) // 30)]
    steps = [round((log10(value) - low) / (high - low) * (len(BARS) - 1)) for value in thinned]
    drawn = "".join(BARS[min(max(step, 0), len(BARS) - 1)] for step in steps)
    return row["by"], f"{row['lambda']:g}", f"{values[0]:.3g}", drawn, f"{values[-1]:.3g}"
