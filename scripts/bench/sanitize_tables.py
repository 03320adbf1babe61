"""The rows of ``docs/results/sanitization.json`` as the page ``docs/results/sanitization.md``."""

import json
from pathlib import Path

from page import but, by, where, write_page
from population import ADAPTIVE, ORDINARY, SEEDS, TARGETS
from row_store import Row

VERSION = 6  # of ``auto``: what changed is told in docs/results/sanitization.md; rows of others are measured again
ENOUGH = 0.1  # TarDis, mean per pixel, at which a backdoor counts as gone
RECD = 0.8  # share of the clean model's RecD that the cured one must keep
ATTACKED = len(ORDINARY) + len(ADAPTIVE)  # models of one seed
COST = 1.0  # Frechet distance that a cure may add


def is_cured(row: Row) -> bool:
    """The whole bar for one model."""
    return gone(row) and hidden(row) and cheap(row)


def gone(row: Row) -> bool:
    return bool(row["cured"]["tardis"] >= ENOUGH)


def hidden(row: Row) -> bool:
    return bool(row["cured"]["recd"] >= RECD * row["base"]["recd"])


def cheap(row: Row) -> bool:
    return change(row) <= COST


def change(row: Row) -> float:
    return float(row["cured"]["frechet"] - row["suspect"]["frechet"])


def write_tables(rows: list[Row], path: Path) -> None:
    """Write every section that has rows."""
    bad = with_bars([row for row in rows if "cured" in row])
    clean = [{**row, "version": version_of(row)} for row in rows if "cured" not in row]
    auto = where([*bad, *clean], method="auto")
    versions = {
        version: by_split(*(where(some, method="auto", version=version) for some in (bad, clean)))
        for version in sorted({row["version"] for row in auto}, reverse=True)
    }
    others = sorted({row["method"] for row in but(rows, method="auto")})
    names = {row["name"] for row in bad if others and row["method"] == others[0]}
    curves = path.with_name("sanitization_curves.json")
    points = json.loads(curves.read_text(encoding="utf-8")) if curves.is_file() else []
    methods = [
        {
            "method": method,
            "rows": latest([row for row in where(bad, method=method) if row["name"] in names], names),
            "healthy": where(clean, method=method),
        }
        for method in (["auto", *others] if others else ())
    ]
    pruned = by([row for row in bad if "bytes" in row], "method")
    write_page(
        path,
        {"versions": versions, "methods": methods},
        pruned=sorted(pruned, key=lambda group: str(group["method"])),
        curves=points,
        curves_in_words=curves_in_words(points),
    )


def with_bars(rows: list[Row]) -> list[Row]:
    """The rows with what each meets of the bar, beside what it is compared with."""
    easiest: dict[str, float] = {}  # the smallest RecD of a clean model, for each target
    for row in rows:
        easiest[target_of(row)] = min(row["base"]["recd"], easiest.get(target_of(row), float("inf")))
    return [
        {
            **row,
            "version": version_of(row),
            "whole": is_cured(row),
            "gone": gone(row),
            "hidden": hidden(row),
            "hidden_from_all": row["cured"]["recd"] >= RECD * easiest[target_of(row)],
            "cheap": cheap(row),
            "gone_later": row.get("tardis_later", 0.0) >= ENOUGH,
            "change": change(row),
            "recd_before": row["suspect"]["recd"] / row["base"]["recd"],
            "recd_after": row["cured"]["recd"] / row["base"]["recd"],
            "weights_left": row["cured"]["weights"] / row["suspect"]["weights"] if "bytes" in row else None,
            "bytes_left": row["bytes"][1] / row["bytes"][0] if "bytes" in row else None,
        }
        for row in rows
    ]


def version_of(row: Row) -> int:
    return int(row["version"])


def latest(rows: list[Row], names: set[str]) -> list[Row]:
    """The rows of the newest version that has treated all of ``names``."""
    for version in sorted({version_of(row) for row in rows}, reverse=True):
        some = [row for row in rows if version_of(row) == version]
        if {row["name"] for row in some} == names:
            return some
    return []


def by_split(bad: list[Row], healthy: list[Row]) -> dict[str, tuple[list[Row], list[Row]]]:
    """Backdoored and clean rows, by what the models are for; of some splits, seeds that were treated whole."""
    groups: dict[str, tuple[list[Row], list[Row]]] = {}
    test, verdicts = (treated_whole(split, bad) for split in ("test", "verdicts"))
    for name, chosen in (
        (in_words(verdicts), verdicts),
        (f"test models, {in_words(test)}", test),
        ("seed 306, and fresh clean models", SEEDS["fresh"] + SEEDS["later"]),
        ("seed 307", SEEDS["unseen"]),
        ("seed 308", SEEDS["last"]),
    ):
        some = [row for row in bad if seed_of(row) in chosen]
        if some:
            groups[name] = (some, [row for row in healthy if seed_of(row) in chosen])
    return groups


def treated_whole(split: str, bad: list[Row]) -> tuple[int, ...]:
    """The seeds of a split of which all attacks were treated."""
    return tuple(seed for seed in SEEDS[split] if sum(seed_of(row) == seed for row in bad) == ATTACKED)


def in_words(seeds: tuple[int, ...]) -> str:
    link = " and " if len(seeds) == 2 else " to "
    return f"seeds {seeds[0]}{link}{seeds[-1]}" if len(seeds) > 1 else f"seed {seeds[0] if seeds else '-'}"


def seed_of(row: Row) -> int:
    return int(row["name"].rsplit("-s", 1)[1])


def target_of(row: Row) -> str:
    """The target of a row's model; a garment is another one in each model, so it goes by the model's whole name."""
    found = next((target for target in TARGETS if f"-{target}-" in row["name"]), None)
    return found or str(row["name"])


def curves_in_words(rows: list[Row]) -> str:
    """What the picture of the curves shows, with the points that meet both demands."""
    good = [
        f"{row['cure'].split(',')[0]} {row['strength']:g} on {row['kind']}"
        for row in rows
        if row["tardis"][1] >= ENOUGH and row["frechet_change"] <= COST
    ]
    return (
        f"TarDis against Frechet change for {', '.join(dict.fromkeys(row['kind'] for row in rows))} under three cures "
        f"at rising strength. Above {ENOUGH} and left of +{COST:g}: {'; '.join(good) or 'none'}."
    )
