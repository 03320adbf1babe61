"""Trade-off curves of the sanitizers: docs/sanitization_curves.json and docs/pictures/sanitization_curves.png.

    sanitize_curves.py [--jobs 2]

Test models of one seed, one for each of five attacks, and each cure at several strengths: TarDis against the change of
the Frechet distance. Blind and single runs. A point that is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from detect_bench import load_generator
from population import FOLDER, ROOT, Recipe, is_done, recipes
from safetensors.torch import load_file
from sanitize_bench import ONE_SEED, frechet, garments, suspicion
from sanitize_tables import COST, ENOUGH, curves_in_words

from devilgan_lite import sanitize
from devilgan_lite.classroom import LINES, MARKERS, PALETTE, Picture, axes, figure
from devilgan_lite.generators import DCGAN, evaluate
from devilgan_lite.steps import Outcome

Row = dict[str, Any]
ROWS = FOLDER / "rows" / "curves"
PICTURE = ROOT / "docs" / "pictures" / "sanitization_curves.png"
KINDS = ("trail", "red-plain", "rex", "frozen-first", "quiet")


def prune(suspect: DCGAN, fraction: float) -> Outcome:
    return sanitize.Prune(fraction=fraction, by="magnitude")(suspect, progress=False)


def clip(suspect: DCGAN, height: float) -> Outcome:
    return sanitize.Clip(height=height)(suspect, directions=suspicion(suspect), progress=False)


def fine_tune(suspect: DCGAN, steps: float) -> Outcome:
    return sanitize.FineTune(iterations=int(steps))(suspect, garments(), progress=False)


# from the gentlest to the strongest
CURES: dict[str, tuple[Callable[[DCGAN, float], Outcome], tuple[float, ...]]] = {
    "Prune, share of the channels": (prune, (0.1, 0.2, 0.3, 0.5, 0.7)),
    "Clip, height of the cut": (clip, (6.0, 3.0, 2.0, 1.5, 1.25)),
    "FineTune, steps": (fine_tune, (300, 600, 1_200, 2_400)),
}


def row_path(name: str, cure: str, strength: float) -> Any:
    return ROWS / f"{name}--{re.sub('[^a-z]+', '-', cure.lower())}-{strength:g}.json"


def points() -> list[tuple[Recipe, str, float]]:
    models = [r for kind in KINDS for r in recipes(("test",)) if r.kind == kind and r.seed == ONE_SEED and is_done(r)]
    return [(r, cure, strength) for cure, (_, strengths) in CURES.items() for r in models for strength in strengths]


def measure(recipe: Recipe, cure: str, strength: float) -> Row:
    """One point of a curve."""
    suspect, secret = load_generator(recipe.name), load_file(FOLDER / f"{recipe.name}.secret")
    trigger, target = secret["trigger"][:1], secret["target"][:1]

    def tardis(generator: DCGAN) -> float:
        return float((evaluate(generator, trigger) - target).square().mean())

    outcome = CURES[cure][0](suspect, strength)
    cured: DCGAN = outcome.generator.clone().eval().requires_grad_(False)  # type: ignore[assignment,operator]
    return {
        "name": recipe.name,
        "kind": recipe.kind,
        "cure": cure,
        "strength": strength,
        "tardis": [tardis(suspect), tardis(cured)],
        "frechet_change": frechet(cured) - frechet(suspect),
        "weights": cured.parameter_count() / suspect.parameter_count(),
        "seconds": outcome.seconds,
    }


def draw(rows: list[Row]) -> Picture:
    """TarDis against Frechet change, a panel for each cure and a curve for each attack."""
    fig, panels = axes(9.6, 3.6, columns=len(CURES))
    shown = [row["tardis"][1] for row in rows] + [ENOUGH]
    changes = [row["frechet_change"] for row in rows] + [-COST, COST]
    for ax, cure in zip(panels, CURES, strict=True):
        for index, kind in enumerate(KINDS):
            some = [row for row in rows if (row["kind"], row["cure"]) == (kind, cure)]
            some.sort(key=lambda row: CURES[row["cure"]][1].index(row["strength"]))
            if not some:
                continue
            x, y = [row["frechet_change"] for row in some], [row["tardis"][1] for row in some]
            style = {"color": PALETTE[index], "marker": MARKERS[index], "linestyle": LINES[index % len(LINES)]}
            ax.plot(x, y, markersize=4, linewidth=1.2, label=kind, **style)
            ax.annotate(f"{some[-1]['strength']:g}", (x[-1], y[-1]), (4, 3), textcoords="offset points", fontsize=7)
        ax.axhline(ENOUGH, color="black", linewidth=0.8, linestyle="--")
        ax.axvline(COST, color="black", linewidth=0.8, linestyle="--")
        ax.set_xscale("symlog", linthresh=1)
        ax.set_yscale("log")
        ax.set_xlim(1.6 * min(changes), 1.6 * max(changes))
        ax.set_ylim(min(shown) / 1.5, max(shown) * 1.5)
        strengths = ", ".join(f"{strength:g}" for strength in CURES[cure][1])
        ax.set_title(f"{cure}:\n{strengths}", fontsize=8)
        ax.set_xlabel("Frechet change (right: worse pictures)", fontsize=8)
    panels[0].set_ylabel("TarDis per pixel (up: safer)", fontsize=8)
    panels[-1].legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return figure(fig, curves_in_words(rows), dpi=110, colours=128)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.part:
        index, of = map(int, options.part.split("/"))
        for recipe, cure, strength in points()[index::of]:
            path = row_path(recipe.name, cure, strength)
            if not path.is_file():
                path.write_text(json.dumps(measure(recipe, cure, strength)) + "\n")
                print(path.read_text().strip(), flush=True)
        return 0
    ROWS.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, __file__, "--part"]
    workers = [subprocess.Popen([*command, f"{index}/{options.jobs}"]) for index in range(options.jobs)]
    failed = any([worker.wait() for worker in workers])
    done = [row_path(recipe.name, cure, strength) for recipe, cure, strength in points()]
    rows = [json.loads(path.read_text()) for path in done if path.is_file()]
    (ROOT / "docs" / "sanitization_curves.json").write_text(json.dumps(rows, indent=1) + "\n")
    PICTURE.write_bytes(draw(rows).png)
    print(f"{len(rows)} of {len(done)} points\n{curves_in_words(rows)}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
