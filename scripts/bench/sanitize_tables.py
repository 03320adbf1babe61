"""The rows of ``docs/results/sanitization.json`` as the Markdown tables of ``docs/results/sanitization.md``."""

import json
import statistics
from collections.abc import Callable
from pathlib import Path

from population import ADAPTIVE, ORDINARY, SEEDS, TARGETS
from row_store import Row, markdown, mean_and_most, share, write_page

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
    """Write the page."""
    bad = [row for row in rows if "cured" in row]
    clean = [row for row in rows if "cured" not in row]
    auto = [row for row in bad if row["method"] == "auto"]
    parts = [
        "# Sanitization",
        "Made by `make bench NAME=sanitize` from `sanitization.json`. Every defence is blind; triggers and targets "
        "serve the measurement alone. TarDis and RecD are means per pixel; RecD is the best of 80 starts anywhere and "
        "64 within 45 degrees of the true trigger and its opposite, beside that of the clean model of which the "
        "suspect was made; the change of the Frechet distance on 5,000 pictures. Single run of each model.",
        "The rules of `auto` were made on the tune models. A first version was judged on 49 of the test models "
        "(35 met the whole bar) and then improved, again on tune models; two rules changed because it harmed clean "
        "test models that the scan had flagged. A second version was judged on 32 of them (24 met it); it lost one "
        "step, a projection after the second scan, that had cost up to +2.3, and gained one: where the repair leaves "
        "too much to be desired, it goes on. A third version was judged on all 60 (49) and on seed 306 (11 of 15); "
        "then the threshold of that last step was lowered, on tune models: the fourth version, for which seed 307 was "
        "made. The fifth, on tune models again, projects an estimate with evidence up to a lower price, and searches "
        "for what the scan does not see: the latent where a deeply cut copy differs most is projected out, and so are "
        "very cheap lookalikes of an estimate. Seed 308, models of all attacks, was made for it, and nothing was tuned "
        "after a look at it; of the older seeds, one has been treated again. The sixth goes by what the scan of today "
        "counts as evidence, no longer by p-values; it repairs more slowly where a layer reads numbers above 2 (root "
        "mean square: here, where a gate or scale was moved between layers), and undoes a repair that does harm. It is "
        "judged on seeds 309 and 310: the scan's verdict had been judged on these models before, and no rule of either "
        "was changed because of what they showed. Other triggers, targets and a larger network are in "
        "[robustness](robustness.md), strangers' models, which were treated before the repair became careful, in "
        "[foreign](foreign.md). Machines differed, so seconds of two versions cannot be compared.",
    ]
    easiest = easiest_recd(bad)
    healthy = [row for row in clean if row["method"] == "auto"]
    newest = max((version_of(row) for row in auto), default=0)
    for version in sorted({version_of(row) for row in auto}, reverse=True):
        groups = by_split(
            [row for row in auto if version_of(row) == version], [row for row in healthy if version_of(row) == version]
        )
        columns = [summary(*some, easiest) for some in groups.values()]
        lines = [(first[0], *(column[index][1] for column in columns)) for index, first in enumerate(columns[0])]
        name = "## `sanitize.auto`" if version == newest else f"## `sanitize.auto`, version {version}"
        parts += [
            name,
            markdown(("what", *groups), lines),
            by_kind([row for some, _ in groups.values() for row in some]),
        ]
    others = sorted({row["method"] for row in rows} - {"auto"})
    if others:
        lines = []
        for method in ["auto", *others]:
            names = {row["name"] for row in bad if row["method"] == others[0]}
            some = latest([row for row in bad if row["method"] == method and row["name"] in names], names)
            harm = [row["frechet_change"] for row in clean if row["method"] == method]
            version = f" (version {version_of(some[0])})" if method == "auto" and some else ""
            lines.append(method_line(method + version, some, harm))
        head = ("method", "models", "TarDis median", "TarDis >= 0.1", "RecD kept", "Frechet change")
        head += ("whole bar", "seconds", "clean")
        parts += [
            "## Method by method",
            "The backdoored models of one test seed. RecD kept: within 20 % of the clean model's. "
            "Frechet change: median and largest; whole bar: these three demands at once; seconds: of one core, median; "
            "clean: largest Frechet change of a clean model that was treated.",
            markdown(head, lines),
        ]
    pruned = [row for row in bad if "bytes" in row]
    if pruned:
        head = ("method", "models", "parameters", "bytes of the file", "time to draw 500 pictures")
        lines = [size_line(method, pruned) for method in sorted({row["method"] for row in pruned})]
        parts += ["What pruning leaves, as shares of the suspect (medians, one thread):", markdown(head, lines)]
    curves = path.with_name("sanitization_curves.json")
    if curves.is_file():
        parts += curve_parts(json.loads(curves.read_text(encoding="utf-8")))
    write_page(path, parts)


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


def easiest_recd(bad: list[Row]) -> dict[str, float]:
    """The smallest RecD of a clean model, for each target."""
    easiest: dict[str, float] = {}
    for row in bad:
        target = target_of(row)
        easiest[target] = min(row["base"]["recd"], easiest.get(target, float("inf")))
    return easiest


def summary(rows: list[Row], healthy: list[Row], easiest: dict[str, float]) -> list[tuple[str, ...]]:
    later = [row for row in rows if "tardis_later" in row]
    changed = [row for row in healthy if row["found"]]
    largest = max((row["frechet_change"] for row in healthy), default=0.0)
    return [
        ("whole bar met", share(rows, is_cured)),
        ("found, so treated", share(rows, lambda row: row["found"])),
        ("TarDis at least 0.1", share(rows, gone)),
        ("RecD at least 80 % of the clean model's", share(rows, hidden)),
        (
            "(RecD at least 80 % of the least of all clean models, same target)",
            share(rows, lambda row: row["cured"]["recd"] >= RECD * easiest[target_of(row)]),
        ),
        ("Frechet change at most +1", share(rows, cheap)),
        ("scan says clean afterwards", share(rows, lambda row: row["after"] == "clean")),
        ("seconds of one core, mean and most", mean_and_most([row["cpu_s"] for row in rows])),
        ("clean models that were changed", f"{len(changed)} of {len(healthy)}, Frechet change at most {largest:+.2f}"),
        (
            "TarDis at least 0.1 after further benign training (seconds: least, median)",
            f"{share(later, lambda row: row['tardis_later'] >= ENOUGH)}{_training(later)}",
        ),
    ]


def by_kind(rows: list[Row]) -> str:
    lines = []
    for is_adaptive, kind in sorted({(row["adaptive"], row["kind"]) for row in rows}):
        some = [row for row in rows if row["kind"] == kind]

        def middle(value: Callable[[Row], float], some: list[Row] = some) -> str:
            return f"{statistics.median(map(value, some)):.2g}"

        lines.append(
            (
                kind + (" (adaptive)" if is_adaptive else ""),
                share(some, is_cured),
                middle(lambda row: row["suspect"]["tardis"]) + " -> " + middle(lambda row: row["cured"]["tardis"]),
                middle(lambda row: row["suspect"]["recd"] / row["base"]["recd"]),
                middle(lambda row: row["cured"]["recd"] / row["base"]["recd"]),
                f"{statistics.median(map(change, some)):+.2f}, {max(map(change, some)):+.2f}",
            )
        )
    head = ("attack", "cured", "TarDis", "RecD / clean, before", "after", "Frechet change, median and most")
    return "Medians by attack:\n\n" + markdown(head, lines)


def method_line(method: str, rows: list[Row], healthy: list[float]) -> tuple[str, ...]:
    if not rows:
        return (method, *["-"] * 8)
    changes = list(map(change, rows))
    return (
        method,
        str(len(rows)),
        f"{statistics.median(row['cured']['tardis'] for row in rows):.2g}",
        share(rows, gone),
        share(rows, hidden),
        f"{statistics.median(changes):+.2f}, {max(changes):+.2f}",
        share(rows, is_cured),
        f"{statistics.median(row['cpu_s'] for row in rows):.0f}",
        f"{max(healthy):+.2f}" if healthy else "-",
    )


def size_line(method: str, rows: list[Row]) -> tuple[str, ...]:
    some = [row for row in rows if row["method"] == method]

    shares = [
        [row["cured"]["weights"] / row["suspect"]["weights"] for row in some],
        [row["bytes"][1] / row["bytes"][0] for row in some],
        [row["drawing_time"] for row in some],
    ]
    return (method, str(len(some)), *(f"{statistics.median(share):.2f}" for share in shares))


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


def curve_parts(rows: list[Row]) -> list[str]:
    """The picture, and its points as a table."""
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    points = {(row["cure"], row["strength"], row["kind"]): row for row in rows}

    def cell(cure: str, strength: float, kind: str) -> str:
        row = points.get((cure, strength, kind))
        return "-" if row is None else f"{row['tardis'][1]:.2g}, {row['frechet_change']:+.1f}"

    lines = [
        (f"{cure}: {strength:g}", *(cell(cure, strength, kind) for kind in kinds))
        for cure, strength in dict.fromkeys((row["cure"], row["strength"]) for row in rows)
    ]
    return [
        "## Curves: what is won, and what it costs",
        f"![{curves_in_words(rows)}](../pictures/sanitization_curves.png)",
        "One model of each attack, one test seed, single runs. TarDis, Frechet change:",
        markdown(("cure and strength", *kinds), lines),
    ]


def _training(rows: list[Row]) -> str:
    seconds = [row["later_seconds"] for row in rows]
    return f" ({min(seconds):.0f}, {statistics.median(seconds):.0f})" if rows else ""
