"""Trade-off curves of the sanitizers, a part of sanitize.py: sanitization_curves.json and .png.

Test models of one seed, one for each of five attacks, and each cure at several strengths: TarDis against the change of
the Frechet distance. Blind and single runs.
"""

from collections.abc import Callable
from functools import lru_cache

from population import SEEDS, Recipe, load_generator, secret_of
from row_store import ROOT, Row
from sanitize_tables import COST, ENOUGH, curves_in_words
from torch import Tensor, nn

from devilgan_lite import generators, sanitize
from devilgan_lite.apps.course import LINES, MARKERS, PALETTE, Picture, axes, figure
from devilgan_lite.data import Samples, fashion_mnist
from devilgan_lite.detect import analyse_weights, scan
from devilgan_lite.generators import DCGAN
from devilgan_lite.metrics import frechet_to, target_distortion
from devilgan_lite.sanitize.auto import suspected_directions
from devilgan_lite.steps import Outcome

PICTURE = ROOT / "docs" / "pictures" / "sanitization_curves.png"
ONE_SEED = SEEDS["test"][1]
SAMPLES = 5_000
KINDS = ("trail", "red-plain", "rex", "frozen-first", "quiet")


@lru_cache
def garments() -> Samples:
    return fashion_mnist()


def suspicion(suspect: DCGAN) -> Tensor | None:
    """The latent directions that a scan suspects ``[k, d]``."""
    return suspected_directions(analyse_weights(generators.adopt(suspect)), scan(suspect, samples=200, twin=False))


def frechet(generator: nn.Module) -> float:
    return frechet_to(generator, garments(), samples=SAMPLES)


def tardis(generator: nn.Module, trigger: Tensor, target: Tensor) -> float:
    """Mean squared error per pixel of what a generator shows at the trigger."""
    return target_distortion(generator, trigger, target).mean


def prune(suspect: DCGAN, fraction: float) -> Outcome:
    return sanitize.Prune(fraction=fraction, by="magnitude")(suspect, progress=False)


def clip(suspect: DCGAN, height: float) -> Outcome:
    return sanitize.Clip(height=height)(suspect, directions=suspicion(suspect), progress=False)


def fine_tune(suspect: DCGAN, steps: float) -> Outcome:
    return sanitize.FineTune(iterations=int(steps))(suspect, real=garments(), progress=False)


# from the gentlest to the strongest
CURES: dict[str, tuple[Callable[[DCGAN, float], Outcome], tuple[float, ...]]] = {
    "Prune, share of the channels": (prune, (0.1, 0.2, 0.3, 0.5, 0.7)),
    "Clip, height of the cut": (clip, (6.0, 3.0, 2.0, 1.5, 1.25)),
    "FineTune, steps": (fine_tune, (300, 600, 1_200, 2_400)),
}


def points(models: list[Recipe]) -> list[tuple[Row, tuple[Recipe, str, float]]]:
    """Identity and work of every point of the curves."""
    models = [recipe for recipe in models if recipe.kind in KINDS and recipe.seed == ONE_SEED]
    models.sort(key=lambda recipe: KINDS.index(recipe.kind))
    return [
        ({"name": recipe.name, "kind": recipe.kind, "cure": cure, "strength": strength}, (recipe, cure, strength))
        for cure, (_, strengths) in CURES.items()
        for recipe in models
        for strength in strengths
    ]


def point(what: tuple[Recipe, str, float]) -> Row:
    """One point of a curve."""
    recipe, cure, strength = what
    suspect, secret = load_generator(recipe.name), [part[:1] for part in secret_of(recipe.name)]
    outcome = CURES[cure][0](suspect, strength)
    cured: DCGAN = outcome.generator.clone().eval().requires_grad_(False)
    return {
        "tardis": [tardis(suspect, *secret), tardis(cured, *secret)],
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
