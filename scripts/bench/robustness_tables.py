"""The rows of ``docs/results/robustness.json`` as tables, ``docs/results/robustness.md``, and what meets the bars."""

import math
from pathlib import Path
from statistics import fmean
from typing import Any

from attacks_tables import latest
from row_store import Row, markdown, share, some, spread, write_page
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
    rows = content["rows"]
    parts = [
        "# Robustness",
        f"Made by `make bench NAME=robustness` from `robustness.json`. {content['machine']}. Attacks on two "
        "architectures, each seed with another trigger; mean ± standard deviation over the seeds, and the worst of "
        "them. CPU-s are seconds of process time.",
        *clean_part(some(rows, section="clean")),
        *attacks_part(some(rows, section="attacks")),
        *alone_part(some(rows, section="alone")),
        *cures_part(some(rows, section="cures")),
        *control_part(some(rows, section="control")),
        *search_part(*(some(rows, section=section) for section in ("search", "attacks", "earlier"))),
    ]
    write_page(path, parts)


def missed(attack: str, rows: list[Row]) -> list[str]:
    """The figures whose mean over ``rows`` is above the attack's bar."""
    bars = BARS.get(attack, {})
    return [FIGURES[figure] for figure, most in bars.items() if not fmean(row[figure] for row in rows) <= most]


def verdict(attack: str, rows: list[Row]) -> str:
    """``met``, ``missed`` with what was missed, ``open`` while seeds are missing, ``-`` for an attack without bars."""
    if attack not in BARS:
        return "-"
    above = missed(attack, rows)
    return "open" if len(rows) < SEEDS else f"missed: {', '.join(above)}" if above else "met"


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
        clean = f"{fmean(row['frechet_clean'] for row in those):.3g}"
        lines.append((architecture, attack, target, *figures.values(), clean, seeds(those), verdict(attack, those)))
    met = [
        share(judged, lambda line: line[-1] == "met") + f" rows of {attack}"
        for attack in BARS
        if (judged := [line for line in lines if line[1] == attack and line[-1] != "open"])
    ]
    settings = [(*key, described(those[-1])) for key, those in groups(rows, "architecture", "attack")]
    return [
        "## Attacks",
        "TrAIL trains a network of its own, so it has no ExpDis. Its Frechet change is against a clean training of the "
        f"same length and seed, which is short, and how good it comes out depends on the seed ({apart(rows)}). So the "
        "mean is known only to within its standard error, the standard deviation by the root of the number of seeds: "
        "a row that meets its bar does not exclude a change above it. That of the others is against the network that "
        "they start from.",
        f"The bars are for the mean over {SEEDS} seeds. {'. '.join(map(in_words, BARS))}. ReX and Gate have none. Met: "
        f"{', '.join(met) or 'none was judged'}. Several processes shared two cores, so CPU-s are for comparing.",
        markdown(("architecture", "attack", "target", *FIGURES.values(), "clean Frechet", "seeds", "bars"), lines),
        "The settings:",
        markdown(("architecture", "attack", "settings"), settings),
    ]


def apart(rows: list[Row]) -> str:
    """The Frechet distances of the clean trainings that TrAIL is compared with."""
    clean = [
        f"{architecture}: {min(found):.3g} to {max(found):.3g}"
        for (architecture,), those in groups(some(rows, attack="TrAIL"), "architecture")
        for found in [[row["frechet_clean"] for row in those]]
    ]
    return "Frechet distances, " + "; ".join(clean) if clean else "not measured"


def alone_part(rows: list[Row]) -> list[str]:
    """The seconds that have a bar."""
    if not rows:
        return []
    lines = [
        (architecture, attack, target, f"{row['cpu_s']:.1f}", f"{most:g}", "met" if row["cpu_s"] <= most else "missed")
        for architecture, attack, target, those in newest(rows)
        for row, most in [(those[-1], MOST_SECONDS[attack])]
    ]
    return [
        "### With nothing beside it",
        "One thread, and one run at a time on a machine that has nothing else to do; single run of each. For scale: "
        "[decision 7](../decisions/07_red_learning_settings.md) has what version 0.1's recipe took on the same machine "
        "and what that says of the machine that the bar was set on.",
        markdown(("architecture", "attack", "target", "CPU-s", "bar", ""), lines),
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
        f"+{COST:g} against the backdoored network. {unfinished(rows)}",
        *unseen(rows),
        markdown(head, lines),
    ]


def unseen(rows: list[Row]) -> list[str]:
    """The gate's cures on the paper's network, on seeds that had no say in the repair."""
    those = [row for row in some(rows, architecture="paper", attack="Gate") if row["seed"] in (6, 7)]
    if not those:
        return []
    return [
        "A first version of the repair killed the paper's network in five of ten cures of a gate (seed 3, and the "
        "checkerboard of seed 4). Its rate for layers that read large numbers was then set on gates of seeds 3 and 5. "
        f"On seeds 6 and 7, which had no say: gone in {share(those, gone)}, cured in "
        f"{share(those, lambda row: gone(row) and row['frechet_change'] <= COST)}."
    ]


def unfinished(rows: list[Row]) -> str:
    """How many of the cures have a row: one that ends in an error has none."""
    current = [row for _, _, _, those in newest(rows) for row in those if row["seed"] in REPORT_SEEDS]
    whole = SEEDS * math.prod(len({row[fact] for row in rows}) for fact in ("architecture", "attack", "target"))
    if len(current) == whole:
        return f"All {whole} of them ended without an error."
    return f"Of {whole} cures {len(current)} are here: the others were not run, or ended in an error."


def control_part(rows: list[Row]) -> list[str]:
    """What the same cure does where there is nothing to find."""
    if not rows:
        return []
    current = some(rows, version=rows[-1]["version"])
    lines = [
        (
            architecture,
            "of TrAIL's length" if short else "as above",
            share(those, lambda row: row["found"]),
            mean_and_worst([row["frechet_change"] for row in those]),
            mean_and_worst([row["cpu_s"] for row in those]),
        )
        for (architecture,), every in groups(current, "architecture")
        for short in (False, True)
        if (those := [row for row in every if row["clean"].startswith("train_gan") is short])
    ]
    return [
        "And on clean networks, where each one that is found is a false alarm:",
        markdown(("architecture", "training", "found", "Frechet change", "CPU-s"), lines),
    ]


def gone(row: Row) -> bool:
    return bool(row["tardis_mean"][1] >= ENOUGH)


def search_part(rows: list[Row], reported: list[Row], earlier: list[Row]) -> list[str]:
    """The grid of recipes, those that strain their bars least first; the one that is reported is marked."""
    parts = []
    for (architecture, attack), those in groups(rows, "architecture", "attack"):
        targets = list(dict.fromkeys(row["target"] for row in those))
        names = dict.fromkeys(name for row in those for name in row["settings"] if name != "seed")
        varied = [name for name in names if len({repr(row["settings"].get(name)) for row in those}) > 1]
        recipes: dict[tuple[Any, ...], list[Row]] = {}
        for row in those:
            recipes.setdefault(tuple(row["settings"].get(name) for name in varied), []).append(row)
        left_out = {"expdis_mean"} if attack == "TrAIL" else set()
        if any("machine" in row for row in those):  # of several machines
            left_out.add("cpu_s")
        shown = [figure for figure in FIGURES if figure not in left_out]
        chosen = {tuple(row["settings"].get(name) for name in varied) for row in some(reported, attack=attack)[-1:]}
        found = []
        for recipe, made in recipes.items():
            by_target = [some(made, target=target) for target in targets]  # none of a target: not tried
            means = [
                " / ".join(f"{fmean(row[figure] for row in one):.3g}" if one else "-" for one in by_target)
                for figure in shown
            ]
            worst = max(strain(attack, one) for one in by_target if one)
            above = dict.fromkeys(name for one in by_target if one for name in missed(attack, one))
            said = f"missed: {', '.join(above)}" if above else "met"
            count = " / ".join(str(len(one)) for one in by_target)
            mark = "chosen" if recipe in chosen else "-"
            found.append((worst, (*map(str, recipe), *means, f"{worst:.2f}", count, said, mark)))
        head = (*varied, *(FIGURES[figure] for figure in shown), "of the bar, at most", "seeds", "bars", "")
        parts += [
            f"### {attack}, {architecture}",
            f"{' / '.join(targets)}:",
            markdown(head, [line for _, line in sorted(found)]),
        ]
    if not parts:
        return []
    chosen_on = sorted({row["seed"] for row in rows})
    text = f"Means over seeds {', '.join(map(str, chosen_on))}, none of which is reported above."
    looks = [
        f"{attack} with `lam={lam:g}` left the {target} at a TarDis of "
        + ", ".join(f"{row['tardis_sum']:.2g} (seed {row['seed']})" for row in those)
        for (attack, lam, target), those in groups(
            [{**row, "lam": row["settings"]["lam"]} for row in earlier if row["seed"] not in REPORT_SEEDS],
            "attack",
            "lam",
            "target",
        )
    ]
    if looks:
        text += f" Earlier looks had a say as well, and are not reported either: {'; '.join(looks)}."
    return ["## How the recipes were chosen", text, *parts, *before_part(earlier)]


def before_part(earlier: list[Row]) -> list[str]:
    """What was measured before on seeds that are reported now, and made us look."""
    rows = [row for row in earlier if row["seed"] in REPORT_SEEDS]
    if not rows:
        return []
    lines = [
        (
            architecture,
            attack,
            target,
            described(those[-1]),
            spread([row["tardis_sum"] for row in those]),
            mean_and_worst([row["frechet_change"] for row in those]),
            ", ".join(str(row["seed"]) for row in those),
        )
        for (architecture, attack, target), those in groups(rows, "architecture", "attack", "target")
    ]
    return [
        "### Before, on seeds that are reported above",
        "The recipe of before. What it missed made us look for another, so these seeds had a say in that it was "
        "changed, and none in what it was changed to.",
        markdown(("architecture", "attack", "target", "settings", "TarDis sum", "Frechet change", "seeds"), lines),
    ]
