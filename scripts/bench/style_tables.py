"""The rows of ``docs/results/detection_style.json`` as the Markdown tables of ``docs/results/detection_style.md``."""

import re
import statistics
from pathlib import Path

from row_store import VERDICTS, Row, markdown, write_page

GONE = 0.1  # TarDis, mean per pixel, at which a backdoor counts as gone
SHOWN = 0.2  # picture error, mean squared per pixel, up to which the target is recognisable
DETECTORS = ("latent spectrum", "hidden spectrum", "shared styles", "silent units", "structure")


def spread(values: list[float], digits: int = 2) -> str:
    """Least, median and most."""
    if not values:
        return "-"
    shown = (min(values), statistics.median(values), max(values)) if len(values) > 1 else values
    return ", ".join(f"{value:.{digits}g}" for value in shown)


def of(count: int, rows: list[Row]) -> str:
    return f"{count} of {len(rows)}"


def write_tables(found: dict[str, list[Row]], path: Path) -> None:
    """Write the page."""
    scans, cures = found["scan"], found["auto"]
    test = [row for row in scans if row["split"] == "test"]
    clean = [row for row in test if not row["attack"]]
    seeds = sorted({re.search(r"-s(\d+)", row["name"])[1] for row in clean if "-s" in row["name"]})  # type: ignore[index]
    parts = [
        "# Style-based networks: detection and cure",
        "Made by `scripts/bench/style.py --models 's60|^stylegan'` from `detection_style.json`: clean networks of two "
        f"sizes and three lengths of training, seeds {' and '.join(seeds)}, that nothing was tuned on, and the "
        "generator of 32x32 that shipped before the one of 64x64, trained nine times as long as any other (its "
        "verdict is no independent test); and every attack on them. Single run of each model; scores are logarithms of "
        "ratios (silent units: a ratio), given as least, median and most.",
        "*Inconclusive* means that the noisy twin of a network does not draw what the network draws, so one question "
        "stays open: these generators need more steps of distillation than a scan takes. It is no alarm.",
    ]
    kinds = list(dict.fromkeys(row["attack"] for row in test if row["attack"]))
    head = ("models", "raised", *VERDICTS, *DETECTORS[:4], "picture error", "target shown", "CPU-s")
    lines = [line("clean", clean), *(line(kind, [row for row in test if row["attack"] == kind]) for kind in kinds)]
    parts += [
        "## `detect.scan`",
        markdown(head, lines),
        f"Picture error: of the best picture that the scan shows, mean squared per pixel; shown: at most {SHOWN:g}.",
    ]
    if cures:
        head = ("models", "how many", "changed", "TarDis before", "after", f"at least {GONE:g}", "Frechet change")
        head += ("scan says clean afterwards", "CPU-s")
        groups = [("clean", [row for row in cures if not row["attack"]])]
        groups += [(kind, [row for row in cures if row["attack"] == kind]) for kind in kinds]
        groups = [(name, some) for name, some in groups if some]
        parts += [
            "## `sanitize.auto`, version 0.1",
            "Measured with the version before this one, on seed 600.",
            markdown(head, [cure_line(name, rows) for name, rows in groups]),
            "Blind: trigger and target serve the measurement alone. Frechet change: of those that were changed, on "
            "3,000 pictures, features of faces; that of the longest trained one itself is 463 on so many.",
        ]
    write_page(path, parts)


def line(name: str, rows: list[Row]) -> tuple[str, ...]:
    errors = [row["picture_error"] for row in rows if "picture_error" in row]
    return (
        name,
        of(sum(row["verdict"] in ("backdoored", "suspicious") for row in rows), rows),
        *(str(sum(row["verdict"] == verdict for row in rows)) for verdict in VERDICTS),
        *(spread([row["scores"][detector] for row in rows]) for detector in DETECTORS[:4]),
        spread(errors),
        of(sum(error <= SHOWN for error in errors), rows) if errors else "-",
        spread([row["cpu_s"] for row in rows]),
    )


def cure_line(name: str, rows: list[Row]) -> tuple[str, ...]:
    changed = [row for row in rows if row["changed"]]
    tardis = [row["tardis"] for row in rows if "tardis" in row]
    return (
        name,
        str(len(rows)),
        of(len(changed), rows),
        spread([before for before, _ in tardis]),
        spread([after for _, after in tardis]),
        of(sum(after >= GONE for _, after in tardis), rows) if tardis else "-",
        spread([row["frechet"][1] - row["frechet"][0] for row in changed]),
        of(sum(row["after"] == "clean" for row in rows), rows),
        spread([row["cpu_s"] for row in rows]),
    )
