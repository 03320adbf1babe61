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
        "Made by `make bench NAME=art` from `art.json`. ART with TensorFlow (eager, as it comes), textbook PyTorch and "
        "the package: the same small DCGAN of garments (weights carried over; outputs differ by at most 1e-5, else "
        "nothing is measured), the same trigger, STOP sign and lambda, which weighs the mean squared error at the "
        "trigger. Single runs, one thread, each until it arrives or its time is up; imports and the time of measuring "
        f"are left out. {limits(rows)} The package's attacks are measured without their bridge to ART. "
        f"{'; '.join([*dict.fromkeys(row['versions'] for row in rows if 'versions' in row), content['machine']])}.",
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
    "chosen. Plain PyTorch is the same loop, once with that rate and once with 3e-3. What differs between it and the "
    "package is of two kinds. The method: units that start awake at the trigger, a pull before tanh, the rate and its "
    "decay to zero, an optimiser that forgets fast, smaller batches. The programming: "
    "memory layout, a fused optimiser, one pass for trigger and batch, no loss that is read at every step. Latents/s "
    "are steps times the batch.",
    "TrAIL": "From scratch: no clean generator to stay near to, so arrived is a target distortion of 0.26 or less "
    "after at least 2,000 steps, and the Frechet distance to real garments stands beside it. A step trains generator "
    "and discriminator on 32 garments, a look comes once a pass, 313 steps, and all three train with Adam 2e-3; the "
    "package lets this rate fall to zero and shows its running average of the weights.",
}


def limits(rows: list[Row]) -> str:
    """Who had how many CPU-seconds."""
    found = {row["by"].partition(",")[0]: f"{row['limit_s']:.0f}" for row in rows}
    given = ", ".join(f"{by} {seconds}" for by, seconds in found.items())
    return f"CPU-seconds at most: {given}; the package also ends with its schedule."


def table(attack: str, rows: list[Row]) -> str:
    head = [
        "by",
        "lambda",
        "arrived",
        "iterations",
        "CPU-s",
        "steps/s",
        "latents/s",
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
            f"{row['steps_per_s'] * row['batch']:,.0f}",
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
        text = f"Against {by}: {speed['ours'] / speed[by]:.1f} times the steps a second (the fastest run of each)"
        if best["ours"] and best[by]:
            text += f", and {best[by] / best['ours']:.1f} times fewer CPU-seconds to arrive (the best lambda of each)"
        elif best["ours"]:
            longest = max(row["cpu_s"] for row in some(rows, by=by))
            text += f"; it does not arrive in {longest:.0f} CPU-s, ours does in {best['ours']:.0f}"
        else:
            text += "; ours does not arrive"
        sentences.append(f"- {text}.")
    return ["\n".join(sentences)] if sentences else []


def names(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(row["by"] for row in rows))


def curve(row: Row) -> tuple[str, ...]:
    values = [max(point["tardis"], 1e-4) for point in row["curve"]]
    low, high = -1.5, 2.5  # decades: 0.03 to 300
    thinned = values[:: max(1, len(values) // 30)]
    steps = [round((log10(value) - low) / (high - low) * (len(BARS) - 1)) for value in thinned]
    drawn = "".join(BARS[min(max(step, 0), len(BARS) - 1)] for step in steps)
    return row["by"], f"{row['lambda']:g}", f"{values[0]:.3g}", drawn, f"{values[-1]:.3g}"
