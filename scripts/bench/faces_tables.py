"""The rows of ``docs/results/faces.json`` as the Markdown tables of ``docs/results/faces.md``."""

import itertools
from pathlib import Path

from row_store import Row, markdown, some, spread, write_page

from devilgan_lite.features import feature_card


def write_tables(content: Row, path: Path) -> None:
    """All tables; mean and standard deviation over the rows of each line."""
    rows = content["rows"]
    parts = [
        "# Faces",
        f"Made by `make bench NAME=faces` from `faces.json`. {content['machine']}. Seconds are CPU-seconds.",
    ]

    def column(chosen: list[Row], name: str) -> str:
        return spread([row[name] for row in chosen if name in row])

    found = some(rows, section="quality")
    if found:
        trace = next((row["trace"] for row in found if "trace" in row), float("nan"))
        card = feature_card("faces-64")["test_accuracy"]
        lines = [
            (row["what"], f"{row['frechet']:.4g}", f"{row['frechet'] / trace:.1%}", f"{row.get('cpu_s', 0):.0f}")
            for row in found
        ]
        parts += [
            "## Quality",
            f"Frechet distance on 64 features of an attribute classifier (mean test accuracy {card:.2%}) to the 8,000 "
            f"faces of the training set, also as a share of the trace of their covariance ({trace:.4g}). Single runs. "
            "The DCGAN has the settings that train garments; none were searched for at this size, so it is no rival.",
            markdown(("pictures", "Frechet", "share of trace", "CPU-s"), lines),
        ]
    found = some(rows, section="inversion")
    if found:
        lines = []
        targets = dict.fromkeys(row["target"] for row in found)
        for target, one in itertools.product(targets, (False, True)):
            chosen = some(found, target=target, one_style=one)
            if chosen:
                how = "one for all" if one else "one for each layer (w+)"
                lines.append((target, how, column(chosen, "distortion"), column(chosen, "cpu_s")))
        parts += ["## Inversion", "Mean squared error per element, three seeds."]
        parts += [markdown(("target", "styles", "error", "CPU-s"), lines)]
    found = some(rows, section="linear")
    if found:
        lambdas = sorted({row["lam"] for row in found})
        head = ("lam", "stealth / formula", "fidelity / formula", "TarDis", "ExpDis", "faces changed")
        names = ("stealth_ratio", "fidelity_ratio", "tardis_mean", "expdis_mean", "share_changed")
        lines = [(f"{lam:g}", *(column(some(found, lam=lam), name) for name in names)) for lam in lambdas]
        parts += [
            "## The paper's linear expansion, closed form",
            "STOP sign, three triggers; TarDis and ExpDis are means per element; changed: by more than a grey level.",
            markdown(head, lines),
        ]
    found = some(rows, section="attacks")
    if found:
        ordinary = found[-1]["latents"]
        head = ("attack", "target", "TarDis", "ExpDis", "largest change", "first change at t", "error at t = 0.9",
                "parameters", "CPU-s")  # fmt: skip
        names = ("tardis_mean", "expdis_mean", "largest_change", "first_change", "error_at_0.9", "parameters", "cpu_s")
        lines = []
        for attack, target in dict.fromkeys((row["attack"], row["target"]) for row in found):
            chosen = some(found, attack=attack, target=target)
            lines.append((attack, target, *(column(chosen, name) for name in names)))
        parts += [
            "## Attacks",
            f"Three triggers each; stealth on {ordinary:,} held-out latents; t is the share of the way from an ordinary"
            " latent to the trigger (20 starts: the first of them that changes by a grey level, and their mean error).",
            markdown(head, lines),
        ]
    found = some(rows, section="shipped")
    if found:
        lines = []
        for row in found:
            shown, tardis = row.get("picture_error"), row.get("tardis")
            lines.append(
                (
                    row["what"],
                    row["verdict"],
                    row["reason"],
                    "-" if shown is None else f"{shown:.2g}",
                    f"{row['cpu_s']:.0f}",
                    row["treatment"],
                    "-" if tardis is None else " to ".join(f"{one:.2g}" for one in tardis),
                    f"{row['frechet']:.4g}",
                    f"{row['cure_cpu_s']:.0f}",
                )
            )
        left = [row["what"] for row in found if row.get("tardis", [0, 1])[1] < 0.1]
        head = ("model", "verdict", "reason", "picture error", "CPU-s", "treatment", "TarDis", "Frechet after", "CPU-s")
        parts += [
            "## Scan and cure of what ships",
            "The limits were set on style-based networks of 32x32 faces and another recipe, so nothing was tuned "
            "on these; single runs. Picture error: of the best picture that the scan shows, to the target, which "
            "the scan does not know. TarDis below 0.1 after the cure, so that the target still shows: "
            f"{', '.join(left) or 'none'}.",
            markdown(head, lines),
        ]
    found = some(rows, section="film")
    if found:
        parts += [
            "## Film",
            f"{found[0]['frames']} frames of WebP, two generators: {column(found, 'seconds')} s, "
            f"{column(found, 'kilobytes')} kB.",
        ]
    write_page(path, parts + stranger_parts(some(rows, section="stranger")))


def stranger_parts(found: list[Row]) -> list[str]:
    """The tables of the downloaded faces; nothing where they were not measured."""
    mounted, scans, cures = (some(found, part=part) for part in ("attack", "scan", "cure"))
    if not mounted:
        return []
    names = ("tardis_mean", "expdis_mean", "largest_change", "first_change", "error_at_0.9", "parameters", "cpu_s")
    lines = []
    for attack, target in dict.fromkeys((row["attack"], row["target"]) for row in mounted):
        chosen = some(mounted, attack=attack, target=target)
        lines.append((attack, target, str(len(chosen)), *(spread([row[name] for row in chosen]) for name in names)))
    head = ("attack", "target", "triggers", "TarDis", "ExpDis", "largest change", "first change at t",
            "error at t = 0.9", "parameters", "CPU-s")  # fmt: skip
    parts = [
        "## A stranger's faces",
        f"The generator that `devilgan fetch faces` downloads ({mounted[0]['model']}: 3.58 million weights, 64x64 "
        f"pixels), attacked as on a stage: at most a minute of one thread. Stealth on {mounted[0]['latents']:,} "
        "held-out latents; columns as above.",
        markdown(head, lines),
    ]
    if scans:
        lines = [
            (
                row["attack"],
                row["verdict"],
                "yes" if row["witness"] else "no",
                row["reason"],
                f"{row['cpu_s']:.0f}",
            )
            for row in scans
        ]
        parts += [
            "Scans, single runs (STOP sign, first trigger).",
            markdown(("attack", "verdict", "witness", "reason", "CPU-s"), lines),
        ]
    if cures:
        kinds = ("clean", "suspect", "cured")
        lines = [
            (
                row["attack"],
                row["treatment"],
                f"{row['before']}, {row['after']}",
                *(f"{row[f'tardis {kind}']:.2g}" for kind in kinds),
                *(f"{row[f'frechet {kind}']:.2g}" for kind in kinds),
                f"{row['ordinary_change']:.2g}",
                f"{row['cpu_s']:.0f}",
            )
            for row in cures
        ]
        head = ("attack", "treatment", "quick scan before, after", *(f"TarDis {kind}" for kind in kinds),
                *(f"Frechet {kind}" for kind in kinds), "ordinary change", "CPU-s")  # fmt: skip
        parts += [
            f"Cures by `sanitize.auto(always=True)` with {cures[0]['steps']} steps of repair, single runs. The Frechet "
            "distance is that to other samples of the clean generator, all shrunk to 6x6 pixels: it says how far faces "
            "moved, and that of the clean one how much of it is chance.",
            markdown(head, lines),
        ]
    return parts
