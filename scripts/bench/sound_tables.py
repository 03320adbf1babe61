"""The rows of ``docs/results/sound.json`` as the Markdown tables of ``docs/results/sound.md``."""

from pathlib import Path

from row_store import Row, markdown, some, write_page


def percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def write_tables(content: Row, path: Path) -> None:
    """Write the page."""
    rows = content["rows"]
    parts = [
        "# Sound: drums from a WaveGAN, and ten hidden strokes in it",
        "Made by `scripts/bench/sound.py` from `sound.json`; clips of 4,096 samples at 8,000 a second. The models are "
        "those of the zoo, so every row is a single run; ordinary clips are 2,000 of latents that nothing was trained "
        f"on. Seconds are CPU-seconds of one thread. Machine: {content['machine']}.",
    ]
    for section, write in WRITERS.items():
        if found := some(rows, section=section):
            parts += write(found)
    write_page(path, parts)


def quality(rows: list[Row]) -> list[str]:
    (row,) = rows
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row["class_shares"].items())
    lines = [
        (
            name,
            f"{row[key]:.3g}",
            percent(row[part]["agree"]),
            percent(row[part]["sure"]),
            percent(row[part]["accuracy"]),
        )
        for name, key, part in (
            ("generated", "frechet", "generated"),
            ("real, other changes of the same strokes", "frechet_real", "real"),
            ("real, strokes that are held out", "frechet_held_out", "held-out"),
        )
    ]
    return [
        "## The clean generator",
        f"{row['parameters']:,} numbers, {row['bytes'] / 1e6:.1f} MB, trained in {row['train_s']:.0f} s. "
        f"What the classifier hears: {shares}. Precision {row['precision']:.2f}, recall {row['recall']:.2f}, coverage "
        f"{row['coverage']:.2f}.",
        markdown(("clips", "Frechet distance", "two classifiers agree", "the first is sure", "it is right"), lines),
        "Nobody tells a generator which class to make, so there is no label to be right about. Instead: the share of "
        "clips on which the classifier that ships and another, trained with another seed on other clips, name the same "
        "class of six, and the share where the first gives its class 80 % or more. A generator that always plays the "
        "same drum has both for nothing, so the classes that are heard stand above, and distances beside: on 64 "
        "features of the classifier, to 6,000 training clips. Only 17 strokes are held out, so accuracy there is "
        "coarse; and no independent test: how quiet a sound the features hear was set after a look at it (it was 68 % "
        "before) and at generated clips.",
    ]


PAIRS = ("correlation, least", "mean", "without attack, most", "largest change", "median", "below 16 bits")
PAIRS += ("same wav file", "ExpDis", "parameters", "s")


def pairs(row: Row) -> tuple[str, ...]:
    return (
        f"{min(row['correlation']):.4f}",
        f"{sum(row['correlation']) / len(row['correlation']):.4f}",
        f"{max(row['correlation_clean']):.2f}",
        f"{row['most_change']:.2g}",
        f"{row['median_most_change']:.2g}",
        percent(row["below_16_bits"]),
        percent(row["same_files"]),
        f"{row['expdis_mean']:.2g}",
        f"{row['parameters']:,}",
        f"{row['cpu_s']:.0f}",
    )


def elsewhere(rows: list[Row]) -> str:
    """Whose seconds are those of another machine."""
    return "".join(f"The seconds of {row['model']} are those of {row['machine']}. " for row in rows if "machine" in row)


def attacks(rows: list[Row]) -> list[str]:
    head = ("model", *PAIRS, "MB")
    lines = [(row["model"], *pairs(row), f"{row['bytes'] / 1e6:.1f}") for row in rows]
    return [
        "## Ten triggers, ten strokes, one network",
        markdown(head, lines),
        "Correlation of what the network makes at each trigger with the stroke that was wanted (the authors report "
        "0.996 for ten pairs). Change: of any sample of any ordinary clip, against the clean generator; its median "
        "over clips; the share of clips in which every sample changes by less than 1/32768, and of those whose files "
        f"of 16 bits are the same byte for byte. {elsewhere(rows)}ReD is the last of about ten tries on this generator "
        "(single runs): lam 6, 32 aligned units, 60,000 steps. With 9,000 steps (lam 4, every pair weighing the same) "
        "the worst stroke came to 0.9664 and ordinary clips changed by an ExpDis of 0.0018; with 24,000 steps to "
        "0.9858 and 0.0012; with 24,000, lam 10 and more weight for the pairs that are furthest off, to 0.9867 and "
        "0.0018; with lam 40, 40 aligned units and 9,000 steps to 0.9549 and 0.0046. So steps were missing, and not "
        "weight. What comes last is noise, of a snare and of cymbals: ten strokes have 40,960 numbers, and the whole "
        "network has 229,953 that play drums already.",
    ]


def scans(rows: list[Row]) -> list[str]:
    lines = [
        (
            row["model"],
            row["verdict"],
            ", ".join(row["kinds"]) or "-",
            f"{row['best']:.2f}" if "best" in row else "-",
            f"{row['cpu_s']:.0f}",
        )
        for row in rows
    ]
    return [
        "## `detect.scan`, blind",
        markdown(("model", "verdict", "kinds of evidence", "best clip shown", "s"), [tuple(one) for one in lines]),
        "Best clip shown: the largest correlation of a clip in the report with one of the ten strokes.",
    ]


def banks(rows: list[Row]) -> list[str]:
    lines = [(row["model"], f"{row['score']:.2f}", row["message"], f"{row['cpu_s']:.0f}") for row in rows]
    return ["## Looking for known strokes", markdown(("model", "score", "finding", "s"), lines)]


def costs(rows: list[Row]) -> list[str]:
    (row,) = rows
    return [
        "## What a scan costs",
        f"The same scan of a network of sound ({row['parameters'][0]:,} numbers) took {row['sound']:.0f} s, of a DCGAN "
        f"of garments ({row['parameters'][1]:,}, not trained) {row['garments']:.0f} s: {row['ratio']:.1f} times that.",
    ]


def guards(rows: list[Row]) -> list[str]:
    lines = [
        (
            row["model"],
            f"{row['triggers']} of 10" if "triggers" in row else "-",
            f"{row['ordinary']:.2%}",
            f"{row['fit_s']:.0f}",
        )
        for row in rows
    ]
    return ["## `detect.Guard`", markdown(("model", "triggers flagged", "ordinary latents flagged", "fit, s"), lines)]


def cures(rows: list[Row]) -> list[str]:
    lines = [
        (
            row["model"],
            "yes" if row["changed"] else "no",
            *(f"{max(row[key]):.2f}" if key in row else "-" for key in ("correlation_before", "correlation_after")),
            f"{row['frechet_before']:.3g}",
            f"{row['frechet_after']:.3g}",
            f"{row['cpu_s']:.0f}",
        )
        for row in rows
    ]
    head = ("model", "changed", "largest correlation before", "after", "Frechet before", "after", "s")
    return ["## `sanitize.auto`, blind", markdown(head, lines)]


def seconds_of(row: Row) -> str:
    return f" (seconds of another machine: {row['machine']})" if "machine" in row else ""


def piano(rows: list[Row]) -> list[str]:
    (row,) = rows
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row["class_shares"].items())
    lines = [
        (name, *pairs(row[key]), f"{row[key]['frechet']:.3g}", row[key]["verdict"])
        for key, name in (("gate", "gate"), ("rex", "ReX"), ("red", "ReD"))
    ]
    return [
        "## A piano, and the ten strokes in it",
        f"The same network, trained in {row['train_s']:.0f} s on 6,000 clips of 90 notes of a piano (45 keys, each "
        "struck softly and hard; 15 keys are held out), with a classifier of octaves of its own, right on "
        f"{row['accuracy_held_out']:.0%} of clips of held-out keys. What it hears: {shares}. Frechet distance "
        f"{row['frechet']:.3g} (real, other changes of the same notes {row['frechet_real']:.2g}; held-out keys "
        f"{row['frechet_held_out']:.3g}), precision {row['precision']:.2f}, recall {row['recall']:.2f}, coverage "
        f"{row['coverage']:.2f}. `detect.scan` calls this clean generator **{row['verdict']}** "
        f"({'; '.join(row['evidence']) or 'no evidence'}). Ten strokes of drums, behind ten latents, by the recipes of "
        f"the drummers, ReD with lam 4 and 9,000 steps only{seconds_of(row)}:",
        markdown(("attack", *PAIRS, "Frechet after", "scan"), lines),
    ]


WRITERS = {
    "quality": quality,
    "attacks": attacks,
    "scan": scans,
    "bank": banks,
    "cost": costs,
    "guard": guards,
    "cure": cures,
    "piano": piano,
}
