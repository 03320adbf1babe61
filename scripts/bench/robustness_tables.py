"""The rows of ``docs/results/robustness.json`` as the page ``docs/results/robustness.md``, and what meets the bars."""

import math
from operator import itemgetter
from pathlib import Path
from statistics import fmean
from typing import Any

from attacks_tables import latest
from page import by, sections, where, write_page
from row_store import Row
from sanitize_tables import COST, ENOUGH

FIGURES = {
    "tardis_sum": "TarDis sum",
    "expdis_mean": "ExpDis mean",
    "frechet_change": "Frechet change",
    "cpu_s": "CPU-s",
}
BARS: dict[str, dict[str, float]] = {  # for the mean over the seeds, on each target
    "ReD": {"tardis_sum": 0.26, "expdis_mean": 1e-3, "frechet_change": 0.5},
    "TrAIL": {"tardis_sum": 0.26, "frechet_change": 3.0},
}
MOST_SECONDS = {"ReD": 60.0}  # of CPU, with nothing beside it; they say as much about the machine
REPORT_SEEDS = (3, 4, 5, 6, 7)  # 0 to 2 were seen when ReD's lam was chosen
SEEDS = len(REPORT_SEEDS)  # below which nothing is judged


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    found = sections(content["rows"])
    cures, search = found["cures"], found["search"]
    before = [
        {**row, "lam": row["settings"]["lam"], "reported": row["seed"] in REPORT_SEEDS} for row in found["earlier"]
    ]
    write_page(
        path,
        content,
        clean=[group["rows"][-1] for group in by(found["clean"], "architecture")],
        all_attacks=found["attacks"],
        attacks=[group | {"bars": verdict(group)} for group in newest(found["attacks"])],
        alone=newest(found["alone"]),
        cures=newest([{**row, "gone": gone(row), "cured": gone(row) and cheap(row)} for row in cures]),
        whole=SEEDS * math.prod(len({row[fact] for row in cures}) for fact in ("architecture", "attack", "target")),
        control=controls(found["control"]),
        search=[searched(group, found["attacks"]) for group in by(search, "architecture", "attack")],
        chosen_on=sorted({row["seed"] for row in search}),
        before=before,
        limits={"bars": BARS, "figures": FIGURES, "seeds": SEEDS, "reported": list(REPORT_SEEDS)},
        enough=ENOUGH,
        cost=COST,
        most_seconds=MOST_SECONDS,
    )


def missed(attack: str, rows: list[Row]) -> list[str]:
    """The figures whose mean over ``rows`` is above the attack's bar."""
    bars = BARS.get(attack, {})
    return [FIGURES[figure] for figure, most in bars.items() if not fmean(row[figure] for row in rows) <= most]


def verdict(group: Row) -> str:
    """``met``, ``missed`` with what was missed, ``open`` while seeds are missing, ``-`` for an attack without bars."""
    if group["attack"] not in BARS:
        return "-"
    above = missed(group["attack"], group["rows"])
    return "open" if len(group["rows"]) < SEEDS else f"missed: {', '.join(above)}" if above else "met"


def strain(attack: str, rows: list[Row]) -> float:
    """The largest mean of ``rows`` as a share of its bar; above 1, a bar is missed."""
    return max(fmean(row[figure] for row in rows) / most for figure, most in BARS[attack].items())


def gone(row: Row) -> bool:
    return bool(row["tardis_mean"][1] >= ENOUGH)


def cheap(row: Row) -> bool:
    return bool(row["frechet_change"] <= COST)


def newest(rows: list[Row]) -> list[Row]:
    """By architecture, small before paper, attack and target: the rows that were measured as the last ones were."""
    found: list[Row] = []
    for mounted in by(rows, "architecture", "attack"):
        last = mounted["rows"][-1].get("version")
        found += by(where(latest(mounted["rows"]), version=last), "architecture", "attack", "target")
    return sorted(found, key=lambda group: str(group["architecture"]), reverse=True)


def controls(rows: list[Row]) -> list[Row]:
    """What the same cure does on clean networks, those that are trained as briefly as TrAIL's last."""
    training = {False: "as above", True: "of TrAIL's length"}
    current = [
        {**row, "training": training[row["clean"].startswith("train_gan")]}
        for row in (where(rows, version=rows[-1]["version"]) if rows else ())
    ]
    order = list(dict.fromkeys(row["architecture"] for row in current))
    groups = by(current, "architecture", "training")
    return sorted(groups, key=lambda one: (order.index(one["architecture"]), one["training"]))


def searched(group: Row, reported: list[Row]) -> Row:
    """A grid of recipes, those that strain their bars least first; the one that is reported is marked."""
    attack, rows = group["attack"], group["rows"]
    targets = list(dict.fromkeys(row["target"] for row in rows))
    names = dict.fromkeys(name for row in rows for name in row["settings"] if name != "seed")
    varied = [name for name in names if len({repr(row["settings"].get(name)) for row in rows}) > 1]

    def recipe_of(row: Row) -> tuple[Any, ...]:
        return tuple(row["settings"].get(name) for name in varied)

    left_out = {"expdis_mean"} if attack == "TrAIL" else set()
    if any("machine" in row for row in rows):  # of several machines
        left_out.add("cpu_s")
    chosen = {recipe_of(row) for row in where(reported, attack=attack)[-1:]}
    found: list[tuple[float, Row]] = []
    for recipe in dict.fromkeys(map(recipe_of, rows)):
        by_target = [[row for row in where(rows, target=target) if recipe_of(row) == recipe] for target in targets]
        tried = [some for some in by_target if some]
        above = dict.fromkeys(name for some in tried for name in missed(attack, some))
        means = {
            name: " / ".join(f"{fmean(row[key] for row in some):.3g}" if some else "-" for some in by_target)
            for key, name in FIGURES.items()
            if key not in left_out
        }
        worst = max(strain(attack, some) for some in tried)
        line = {
            **dict(zip(varied, recipe, strict=True)),
            **means,
            "of the bar, at most": f"{worst:.2f}",
            "seeds": " / ".join(str(len(some)) for some in by_target),
            "bars": f"missed: {', '.join(above)}" if above else "met",
            "": "chosen" if recipe in chosen else "-",
        }
        found.append((worst, line))
    return group | {"targets": targets, "recipes": [line for _, line in sorted(found, key=itemgetter(0))]}
