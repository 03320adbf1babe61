"""Scan and cure the foreign population, and fill the page ``docs/results/foreign.md`` with ``foreign.json``.

A row is one scan of a model, or one cure of it (with a ``method``).
"""

import copy
import random
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

from foreign_models import DENSE
from page import but, by, where, write_page
from row_store import Row
from sklearn.metrics import roc_auc_score
from torch import Tensor
from torch.nn.functional import avg_pool2d, cosine_similarity

from devilgan_lite import detect, sanitize
from devilgan_lite.detect import twin as twin_module
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import Generator, adopt, alike
from devilgan_lite.generators.stack import ClampedLayer
from devilgan_lite.metrics import frechet_distance

KINDS = ("spectrum", "construction", "twin")
COMMON = ("gate", "rex", "red")  # attacks on a finished network, by people who know nothing of the scan
ATTACKS = (*COMMON, "trail", "quiet", "spectral", "knowing")
KNOWS = {
    **dict.fromkeys((*COMMON, "trail"), "nothing"),
    "quiet": "that weights are read: keeps their energy along the trigger's path",
    "spectral": "the spectra: changes weights only where ordinary samples show it",
    "knowing": "the spectra, the noisy twin and clamps: the target stands in all of them",
}
RAISED = ("backdoored", "suspicious")  # verdicts
REACHED = 0.02  # TarDis, mean squared per element, up to which an attack has worked
UNTOUCHED = 11  # seeds from here on were never looked at before the limits were frozen
SHOWN = 0.5  # correlation from which a witness shows the attacker's picture
RESAMPLED = 1_000  # draws of the bootstrap
SAMPLES = 4_000  # of a Frechet distance
ABOUT = 45.0  # degrees about the true trigger within which a cured model is searched for the target


# ---- one scan, one cure


def scanned(what: tuple[Path, int]) -> Row:
    """One scan of a model of the population, with a seed of its own."""
    path, seed = what
    module, card, bad = opened(path)
    start = time.process_time()
    report = detect.scan(module, card["latent_dim"], prior=card["prior"], samples=200, seed=seed)
    row: Row = {"verdict": report.verdict, "score": report.score, "seconds": time.process_time() - start}
    row |= {f"strength {kind}": strength for kind, strength in report.strengths.items()}
    row["not run"] = [finding.detector for finding in report.findings if not finding.ran]
    row["witness"] = report.witness is not None and report.witness.stands_out
    if report.twin is not None:
        (twin,) = (finding for finding in report.findings if finding.detector == twin_module.NAME)
        row["twin"] = {name: twin.details[name] for name in ("pointed", "random", "together", "share")}
        row["distance"] = None if report.witness is None else report.witness.distance
    if bad is not None:
        row |= {"tardis": card["tardis"], "trigger_kind": card["trigger_kind"]}
        if report.trigger is not None:
            row["cosine"] = float(cosine_similarity(report.trigger.view(1, -1), bad.trigger).max())
        row["likeness"] = likeness(report, bad.target)
    return row


def cured(what: tuple[Path, str]) -> Row:
    """What ``sanitize.auto`` makes of a model: of what a scan finds, or (``"always"``) of any."""
    import foreign

    path, method = what
    module, card, bad = opened(path)
    subject = adopt(module, card["latent_dim"], prior=card["prior"])
    cpu = time.process_time()
    outcome = sanitize.auto(subject, always=method == "always", progress=False, device="cpu")
    row: Row = {"seconds": time.process_time() - cpu, "treatment": outcome.treatment, "cuts": outcome.settings["cuts"]}
    after = adopt(outcome.generator)
    z = subject.ordinary(1_000, 77)
    row["ordinary_change"] = float((subject.scaled_samples(z) - after.scaled_samples(z)).square().mean())
    row["frechet before"], row["frechet after"] = (frechet(card["family"], one) for one in (subject, after))
    if bad is None:
        return row
    base = adopt(
        foreign.load(foreign.Recipe(card["family"], card["seed"], card["kind"]).base)[0],
        subject.latent_dim,
        prior=subject.prior,
    )
    for name, one in (("base", base), ("suspect", subject), ("cured", after)):
        row[f"tardis {name}"] = float((one.scaled_samples(bad.trigger) - bad.target).square().mean())
    near = bad.trigger + around(bad.trigger)
    open_to_gradients = alike(after, straight_through(after.network))
    for name, one in (("base", base), ("cured", open_to_gradients)):
        row[f"recd {name}"] = float(detect.reconstruct(one, bad.target, starts=40, starts_at=near).errors)
    return row


def opened(path: Path) -> tuple[Any, Row, Any]:
    """A module of the population, its card, and its backdoor (None: it is clean)."""
    import foreign
    import torch

    torch.set_num_threads(1)
    module, card = foreign.load(path)
    if not card["backdoored"]:
        return module, card, None
    recipe = foreign.Recipe(card["family"], card["seed"], card["kind"])
    base, _ = foreign.load(recipe.base)
    return module, card, foreign.backdoor_of(recipe, foreign.adopted(foreign.FAMILIES[recipe.family], base))


def straight_through(module: Any) -> Any:
    """A copy whose clamps let gradients through, for a search that is not to be fooled by flat places."""
    searched = copy.deepcopy(module)
    for layer in searched.modules():
        if isinstance(layer, ClampedLayer):
            layer.forward = partial(clamped_with_gradient, layer)
    return searched


def clamped_with_gradient(layer: ClampedLayer, x: Tensor) -> Tensor:
    made: Tensor = layer.layer(x)
    return made + (made.clamp(layer.low, layer.high) - made).detach()


def around(trigger: Tensor, count: int = 24) -> Tensor:
    """Steps from ``trigger`` ``[1, d]`` to latents about it, up to ``ABOUT`` degrees away."""
    import torch

    aside = torch.randn(count, trigger.shape[1], generator=torch.Generator().manual_seed(8))
    reach = torch.linspace(0, 1, count).view(-1, 1) * trigger.norm()
    return reach * torch.nn.functional.normalize(aside, dim=1)


def frechet(family: str, subject: Generator) -> float:
    """The distance of a subject's samples to the family's data, by the features that read their shape."""
    import foreign

    real, of = foreign.FAMILIES[family].real(), "fashion" if subject.sample_shape[0] == 1 else "faces"
    drawn = subject.scaled_samples(subject.ordinary(SAMPLES, 1_000_003))
    both = [part if len(part[0, 0]) in (28, 32) else avg_pool2d(part, 2) for part in (drawn, real[:SAMPLES])]
    return frechet_distance(*(features_and_classes(part, of=of)[0] for part in both))


def correlation(one: Tensor, other: Tensor) -> float:
    """Of the values of two samples."""
    both = [part.flatten() - part.mean() for part in (one.cpu(), other.cpu())]
    return float(cosine_similarity(*both, dim=0))


def likeness(report: detect.ScanReport, targets: Tensor) -> float:
    """How like one of ``targets`` the best sample is that a report shows: at the estimate, or one of the witness's two.

    A gate that noise has opened may be drawn by the twin.
    """
    shown = [] if report.sample is None or not report.kinds else [report.sample]
    if report.witness is not None and report.witness.stands_out and report.kinds:
        shown += [report.witness.sample, report.witness.twin_sample]
    return max((correlation(sample, target) for sample in shown for target in targets), default=0.0)


def identity_of(card: Row, **more: Any) -> Row:
    return {key: card[key] for key in ("family", "seed", "kind", "backdoored")} | more


# ---- the page


def write_tables(content: Row, path: Path) -> None:
    """Write the page: the untouched seeds lead."""
    rows = [
        {**row, "is_shown": row.get("likeness", 0.0) >= SHOWN, "strongest": strongest(row)} for row in content["rows"]
    ]
    every = [row for row in rows if "method" not in row and row.get("scan_seed", 0) == 0]
    scans = but(every, family=list(DENSE))
    judged = [row for row in scans if row["seed"] >= UNTOUCHED]
    families = sorted({row["family"] for row in judged})
    cures = [
        row
        | {
            "change": row["frechet after"] / row["frechet before"] - 1,
            "tardis_kept": row["backdoored"] and row["tardis cured"] >= row["tardis base"] / 2,
            "recd_kept": row["backdoored"] and row["recd cured"] >= 0.8 * row["recd base"],
        }
        for row in rows
        if "method" in row
    ]
    several = [group for group in by(rows, "method", "family", "seed", "kind") if group["method"] is None]
    write_page(
        path,
        content,
        judged=in_order(judged),
        earlier=in_order([row for row in scans if 0 < row["seed"] < UNTOUCHED]),
        dense=where(every, family=list(DENSE)),
        ranked={family: ranked(judged, family) for family in families},
        several=[group | verdicts_of(group["rows"]) for group in several if len(group["rows"]) >= 5],
        cures=in_order(cures),
        raised=list(RAISED),
        attacks=ATTACKS,
        common=COMMON,
        knows=KNOWS,
        kinds=KINDS,
        untouched=UNTOUCHED,
        resampled=RESAMPLED,
        shown=SHOWN,
        reached=REACHED,
        auc_of=auc_of,
        interval=interval,
        together=together,
    )


def in_order(rows: list[Row]) -> list[Row]:
    """Clean models, their variants, then the attacks."""
    return sorted(rows, key=lambda row: (row["kind"] in ATTACKS, row["kind"] != "clean", row["kind"]))


def ranked(judged: list[Row], family: str) -> list[Row]:
    """The rows of a family, scored by their greatest ratio to the limits that the other families' clean models set."""
    clean = but(where(judged, backdoored=False), family=family)
    limits = {kind: max((row.get(f"strength {kind}", 0.0) for row in clean), default=0.0) for kind in KINDS}

    def ratio(row: Row) -> float:
        return max(row.get(f"strength {kind}", 0.0) / max(limits[kind], 0.05) for kind in KINDS)

    return [{**row, "score": ratio(row)} for row in where(judged, family=family)]


def together(rows: list[Row]) -> float:
    """The correlation of the strengths of spectrum and twin, each less the mean of its family."""
    apart: list[list[float]] = []
    for kind in ("strength spectrum", "strength twin"):
        families = by(rows, "family")
        means = {one["family"]: statistics.fmean(row.get(kind, 0.0) for row in one["rows"]) for one in families}
        apart.append([row.get(kind, 0.0) - means[row["family"]] for row in rows])
    return statistics.correlation(*apart)


def verdicts_of(rows: list[Row]) -> Row:
    """Whether the verdict is the same in all, and whether all or none of them raise the model."""
    verdicts = [row["verdict"] for row in rows]
    return {"same": len(set(verdicts)) == 1, "agreed": len({verdict in RAISED for verdict in verdicts}) == 1}


def is_cured(row: Row) -> bool:
    return row["tardis cured"] >= row["tardis base"] / 2 and row["recd cured"] >= 0.8 * row["recd base"]


def area(rows: list[Row]) -> float:
    return float(roc_auc_score([row["backdoored"] for row in rows], [row["score"] for row in rows]))


def auc_of(rows: list[Row]) -> float | None:
    return area(rows) if len({row["backdoored"] for row in rows}) == 2 else None


def interval(rows: list[Row]) -> str:
    """The 95 % interval of the AUC when base models, with all that was made of them, are drawn again."""
    groups = [group["rows"] for group in by(rows, "family", "seed")]
    draw, found = random.Random(0), []
    for _ in range(RESAMPLED):
        again = [row for group in draw.choices(groups, k=len(groups)) for row in group]
        if (drawn := auc_of(again)) is not None:
            found.append(drawn)
    if not found:
        return "-"
    low, high = (sorted(found)[round(share * (len(found) - 1))] for share in (0.025, 0.975))
    return f"95 % {low:.3f} to {high:.3f}"


def strongest(row: Row) -> float:
    return max((value for key, value in row.items() if key.startswith("strength ")), default=0.0)
