"""The rows of ``docs/results/robustness.json`` as tables, ``docs/results/robustness.md``, and what meets the bars."""

from pathlib import Path
from statistics import fmean
from typing import Any

from attacks_tables import FIGURES, latest
from row_store import Row, markdown, share, some, spread, write_page
from sanitize_tables import COST, ENOUGH

BARS: dict[str, dict[str, float]] = {  # for the mean over the seeds, on each target
    "ReD": {"tardis_sum": 0.26, "expdis_mean": 1e-3, "frechet_change": 0.5, "cpu_s": 60.0},
    "TrAIL": {"frechet_change": 3.0},
}


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    rows = content["rows"]
    parts = [
        "# Robustness",
        f"Made by `make bench NAME=robustness` from `robustness.json`. {content['machine']}. Attacks on two "
        "architectures, each seed with another trigger; mean ± standard deviation over the seeds, and the worst of "
        "them. CPU-s are seconds of process time.",
        *clean_part(some(rows, section="clean")),
        *attacks_part(some(rows, section="attacks")),
        *cures_part(some(rows, section="cures")),
        *search_part(some(rows, section="search")),
    ]
    write_page(path, parts)


def missed(attack: str, rows: list[Row]) -> list[str]:
    """The figures whose mean over ``rows`` is above the attack's bar."""
    bars = BARS.get(attack, {})
    return [FIGURES[figure] for figure, most in bars.items() if not fmean(row[figure] for row in rows) <= most]


def verdict(attack: str, rows: list[Row]) -> str:
    """``met``, ``missed`` with what was missed, or ``-`` for an attack without bars."""
    above = missed(attack, rows)
    return "-" if attack not in BARS else f"missed: {', '.join(above)}" if above else "met"


def strain(attack: str, rows: list[Row]) -> float:
    """The largest mean of ``rows`` as a share of its bar; above 1, a bar is missed."""
    return max(fmean(row[figure] for row in rows) / most for figure, most in BARS[attack].items())


def in_words(attack: str) -> str:
    return f"{attack}: " + ", ".join(f"{FIGURES[figure]} at most {most:g}" for figure, most in BARS[attack].items())


def mean_and_worst(values: list[float]) -> str:
    return f"{spread(values)}, worst {max(values):.3g}" if len(values) > 1 else f"{values[0]:.3g}"


def seeds(rows: list[Row]) -> str:
    return "single run" if len(rows) == 1 else str(len(rows))


def groups(rows: list[Row], *facts: str) -> list[tuple[tuple[Any, ...], list[Row]]]:
    """Rows by what they have in common, in the order in which that first comes."""
    keys = dict.fromkeys(tuple(row[fact] for fact in facts) for row in rows)
    return [(key, some(rows, **dict(zip(facts, key, strict=True)))) for key in keys]


def newest(rows: list[Row]) -> list[tuple[str, str, str, list[Row]]]:
    """Architecture, attack and target, and the rows of each that were measured as the last ones were."""
    found = []
    for (architecture, attack), mounted in groups(rows, "architecture", "attack"):
        current = some(latest(mounted), version=mounted[-1].get("version"))
        found += [(architecture, attack, target, those) for (target,), those in groups(current, "target")]
    return sorted(found, key=lambda one: one[0], reverse=True)  # small, paper


def clean_part(rows: list[Row]) -> list[str]:
    """What the attacks start from."""
    if not rows:
        return []
    lines = [
        (
            row["architecture"],
            f"`{row['name']}`",
            f"{row['parameters']:,}",
            f"{row['steps']:,}",
            f"{row['frechet']:.3g}",
            "-" if row["cpu_s"] is None else f"{row['cpu_s']:.0f}",
        )
        for (_,), those in groups(rows, "architecture")
        for row in those[-1:]
    ]
    return [
        "## Clean networks",
        "`small` is that of the zoo; `paper`, `DCGAN.paper()`, is trained by this bench with `train_gan` at its "
        "defaults (batches of 32, learning rate 2e-3, seed 0) on the shipped garments. Single run of each; Frechet "
        f"distance to {rows[-1]['against']}.",
        markdown(("architecture", "name", "numbers stored", "steps", "Frechet", "CPU-s"), lines),
    ]


def attacks_part(rows: list[Row]) -> list[str]:
    """Every attack on every target, with the bars."""
    if not rows:
        return []
    lines = []
    for architecture, attack, target, those in newest(rows):
        figures = {figure: mean_and_worst([row[figure] for row in those]) for figure in FIGURES}
        if attack == "TrAIL":
            figures["expdis_mean"] = "-"
        lines.append((architecture, attack, target, *figures.values(), seeds(those), verdict(attack, those)))
    met = [
        share(judged, lambda line: line[-1] == "met") + f" rows of {attack}"
        for attack in BARS
        if (judged := [line for line in lines if line[1] == attack])
    ]
    return [
        "## Attacks",
        "TrAIL trains a network of its own, so it has no ExpDis, and its Frechet change is against a clean training of "
        "the same length and seed; that of the others is against the network that they start from. The bars are for "
        f"the mean over the seeds. {'. '.join(map(in_words, BARS))}. ReX and Gate have none. Met: "
        f"{', '.join(met) or 'none was judged'}.",
        markdown(("architecture", "attack", "target", *FIGURES.values(), "seeds", "bars"), lines),
        "The settings:",
        markdown(
            ("attack", "settings"), [(attack, described(those[-1])) for (attack,), those in groups(rows, "attack")]
        ),
    ]


def described(row: Row) -> str:
    """The settings of a row's attack."""
    left_out = ("attack", "seed", "device")
    return ", ".join(f"`{name}={value!r}`" for name, value in row["settings"].items() if name not in left_out)


def cures_part(rows: list[Row]) -> list[str]:
    """What ``sanitize.auto`` leaves, and what it costs."""
    if not rows:
        return []
    lines = []
    for architecture, attack, target, those in newest(rows):
        before, after = ([row["tardis_mean"][place] for row in those] for place in (0, 1))
        lines.append(
            (
                architecture,
                attack,
                target,
                share(those, lambda row: row["found"]),
                f"{fmean(before):.2g} -> {spread(after)}, worst {min(after):.2g}",
                share(those, gone),
                mean_and_worst([row["frechet_change"] for row in those]),
                share(those, lambda row: gone(row) and row["frechet_change"] <= COST),
                mean_and_worst([row["cpu_s"] for row in those]),
            )
        )
    head = ("architecture", "attack", "target", "found", "TarDis mean", "gone", "Frechet change", "cured", "CPU-s")
    return [
        "## Cures",
        "`sanitize.auto` on each backdoored network, blind: trigger and target serve the measurement alone. Gone: a "
        f"TarDis of at least {ENOUGH:g} (mean per pixel) at the trigger. Cured: gone, at a Frechet change of at most "
        f"+{COST:g} against the backdoored network.",
        markdown(head, lines),
    ]


def gone(row: Row) -> bool:
    return bool(row["tardis_mean"][1] >= ENOUGH)


def search_part(rows: list[Row]) -> list[str]:
    """The grid of recipes, those that strain their bars least first."""
    parts = []
    for (architecture, attack), those in groups(rows, "architecture", "attack"):
        targets = list(dict.fromkeys(row["target"] for row in those))
        values: dict[str, set[str]] = {}
        for row in those:
            for name, value in row["settings"].items():
                values.setdefault(name, set()).add(repr(value))
        varied = [name for name, found in values.items() if len(found) > 1 and name != "seed"]
        recipes: dict[tuple[Any, ...], list[Row]] = {}
        for row in those:
            recipes.setdefault(tuple(row["settings"][name] for name in varied), []).append(row)
        shown = [figure for figure in FIGURES if attack != "TrAIL" or figure != "expdis_mean"]
        found = []
        for recipe, made in recipes.items():
            by_target = [one for target in targets if (one := some(made, target=target))]
            means = [" / ".join(f"{fmean(row[figure] for row in one):.3g}" for one in by_target) for figure in shown]
            worst = max(strain(attack, one) for one in by_target)
            above = dict.fromkeys(name for one in by_target for name in missed(attack, one))
            said = f"missed: {', '.join(above)}" if above else "met"
            count = " / ".join(str(len(one)) for one in by_target)
            found.append((worst, (*(f"{value:g}" for value in recipe), *means, f"{worst:.2f}", count, said)))
        head = (*varied, *(FIGURES[figure] for figure in shown), "of the bar, at most", "seeds", "bars")
        parts += [
            f"### {attack}, {architecture}",
            f"{' / '.join(targets)}:",
            markdown(head, [line for _, line in sorted(found)]),
        ]
    if not parts:
        return []
    chosen_on = sorted({row["seed"] for row in rows})
    text = f"Seeds {', '.join(map(str, chosen_on))}, none of which is reported above; means over them."
    return ["## How the recipes were chosen", text, *parts]
