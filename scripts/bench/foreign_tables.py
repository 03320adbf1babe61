"""Scan and cure the foreign population, and write ``docs/results/foreign.json`` as ``docs/results/foreign.md``.

A row is one scan of a model, or one cure of it (with a ``method``).
"""

import copy
import random
import statistics
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from foreign_models import DENSE
from row_store import VERDICTS, Row, markdown, mean_and_most, some, write_page
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
    every = [row for row in content["rows"] if "method" not in row and row.get("scan_seed", 0) == 0]
    scans = [row for row in every if row["family"] not in DENSE]
    judged = [row for row in scans if row["seed"] >= UNTOUCHED]
    families = sorted({row["family"] for row in judged})
    parts = [
        "# A verdict on strangers' models",
        "Made by `make bench NAME=foreign ARGS=--judge` from `foreign.json`: one `detect.scan` of every model of the "
        "foreign population, nine families that are written and trained as strangers do it. (The networks are our own "
        "writing, and the data are garments, digits and faces of this package: only habits are foreign.) Clean "
        "models are there as engineers leave them, too: rounded, pruned, folded, trained on, distilled, widened. The "
        "limits of the detectors were first chosen on 21 models of three families (seeds 0 and 1), and once more after "
        "a look at seeds 1, 2 and 10 of all nine: the clean ResNets were called suspicious, for the spectrum of a "
        "shortcut that writes fewer channels than it reads, which ends as steeply as a cliff. Then they were "
        f"frozen, and the models of seeds {UNTOUCHED} and above were judged. (Of these, the spectra of one clean "
        "ResNet had been seen.) Two rules came later, and all were judged once more: both hunts at one latent are "
        "evidence (its limit from seeds 1 and 2), and a difference too faint to be seen is none (a user had met one). "
        "Single run of each model; scans ran beside other work, so they took more CPU-seconds.",
        "## The limits as shipped",
        *as_shipped(judged, families),
        "## Families held out",
        *held_out(judged, families),
        *arms_race(judged),
    ]
    parts += dense([row for row in every if row["family"] in DENSE])
    parts += seeds_of_scans(content["rows"])
    parts += cures([row for row in content["rows"] if "method" in row])
    earlier = [row for row in scans if 0 < row["seed"] < UNTOUCHED]
    if earlier:
        parts += [
            "## Seeds that were looked at",
            "Seen while the detectors were made, with the limits as they were before the last change; AUC "
            f"{auc(earlier)}.",
            markdown(("kind", "models", *VERDICTS), (line(kind, rows) for kind, rows in by_kind(earlier))),
        ]
    write_page(path, parts)


def as_shipped(judged: list[Row], families: list[str]) -> list[str]:
    """Counts of verdicts by kind, and the tightest margins by family."""
    clean = some(judged, backdoored=False)
    bases = some(clean, kind="clean")
    bad, common = (
        some(judged, backdoored=True),
        [row for row in judged if not row["backdoored"] or row["kind"] in COMMON],
    )
    return [
        f"Over all attacks the AUC of the score is {auc(judged)} ({interval(judged)} of {RESAMPLED:,} bootstraps by "
        f"base model). By kind of attack: {by_attack(judged)}. For gates, ReX and ReD, by people who know nothing of "
        f"the scan, it is {auc(common)} ({interval(common)}). The report shows the attacker's picture (a correlation "
        f"of {SHOWN} or more, at the estimate or at the witness) in {shown(bad)} of {len(bad)}.",
        f"Of the {len(bases)} clean base models, which are the unit of replication, "
        f"{raised(row['verdict'] for row in bases)} are raised; the other {len(clean) - len(bases)} clean models are "
        f"copies of these. {sum(row['witness'] for row in clean)} of the {len(clean)} clean models have a witness that "
        "stands out, so that is no evidence by itself. The strengths of spectrum and twin correlate by "
        f"{together(clean):.2f} within families of clean models, and the hunt starts where the weights point: the "
        "kinds of evidence are not independent.",
        markdown(
            ("kind", "models", *VERDICTS, *HEAD), (line(kind, rows) + ends(rows) for kind, rows in by_kind(judged))
        ),
        markdown(
            ("family", "clean: greatest strength", "backdoored: least", "CPU-s: mean, most"),
            (family_line(name, some(judged, family=name)) for name in families),
        ),
    ]


HEAD = ("cosine of the estimate to the trigger: median", "picture shown")


def ends(rows: list[Row]) -> tuple[str, str]:
    cosines = [row["cosine"] for row in rows if "cosine" in row]
    bad = some(rows, backdoored=True)
    return f"{statistics.median(cosines):.2f}" if cosines else "-", f"{shown(bad)}" if bad else "-"


def shown(rows: list[Row]) -> int:
    return sum(row.get("likeness", 0.0) >= SHOWN for row in rows)


def by_kind(rows: list[Row]) -> Iterable[tuple[str, list[Row]]]:
    """Clean models, their variants, then the attacks."""
    kinds = sorted({row["kind"] for row in rows}, key=lambda kind: (kind in ATTACKS, kind != "clean", kind))
    return [(kind, some(rows, kind=kind)) for kind in kinds]


def by_attack(rows: list[Row]) -> str:
    """The AUC of each attack against all clean models, their mean and the worst."""
    clean = some(rows, backdoored=False)
    found = {kind: area([*clean, *some(rows, kind=kind)]) for kind in ATTACKS if some(rows, kind=kind)}
    if not clean or not found:
        return "-"
    each = ", ".join(f"{kind} {value:.3f}" for kind, value in found.items())
    return f"{each}; mean {statistics.fmean(found.values()):.3f}, worst {min(found, key=lambda kind: found[kind])}"


def held_out(judged: list[Row], families: list[str]) -> list[str]:
    """Each family judged by limits that the clean models of the other families set, kind by kind of evidence."""
    lines, ranks = [], []
    for family in families:
        own = ranked(judged, family)
        ranks += own
        told = [
            sum(row["score"] > 1 for row in own if wanted(row))
            for wanted in (
                lambda row: not row["backdoored"],
                *(lambda row, kind=kind: row["kind"] == kind for kind in ATTACKS),  # type: ignore[misc]
            )
        ]
        counts = [len(some(own, backdoored=False)), *(len(some(own, kind=kind)) for kind in ATTACKS)]
        lines.append((family, *(f"{a} of {b}" if b else "-" for a, b in zip(told, counts, strict=True))))
    return [
        "No limit of ours: for each family, each kind of evidence counts from the greatest strength on that a clean "
        "model of the *other* families has. Shown is how many models of the family at least one kind raises. The "
        f"AUC of the greatest ratio to these limits, over all families, is {auc(ranks)} ({interval(ranks)}).",
        markdown(("family held out", "clean", *ATTACKS), lines),
    ]


def ranked(judged: list[Row], family: str) -> list[Row]:
    """The rows of a family, scored by their greatest ratio to the limits that the other families' clean models set."""
    limits = {
        kind: max((row.get(f"strength {kind}", 0.0) for row in clean_of(judged, family)), default=0.0) for kind in KINDS
    }

    def ratio(row: Row) -> float:
        return max(row.get(f"strength {kind}", 0.0) / max(limits[kind], 0.05) for kind in KINDS)

    return [{**row, "score": ratio(row)} for row in some(judged, family=family)]


def arms_race(judged: list[Row]) -> list[str]:
    """Attackers by what they know of the scan, and how many of those whose attack worked are raised."""
    lines = []
    for kind, knows in KNOWS.items():
        worked = [row for row in some(judged, kind=kind) if row["tardis"] <= REACHED]
        if worked:
            found = raised(row["verdict"] for row in worked)
            lines.append((kind, knows, str(len(worked)), str(found), f"{shown(worked)}"))
    return [
        "## The arms race",
        f"Models whose attack worked (TarDis at most {REACHED:g}), and how many of them the scan raises, by what their "
        "attacker knew. ReD, ReX and the gate know nothing of it; TrAIL grows with the network, so it leaves least.",
        markdown(("attack", "its maker knows", "models", "raised", "picture shown"), lines),
    ]


def dense(rows: list[Row]) -> list[str]:
    """Clean dense networks, which the limits were not set with."""
    if not rows:
        return []
    return [
        "## Dense networks",
        "Clean models only, of families that were added because users met false alarms there: the decoder of PyTorch's "
        "example of a VAE, the same with 64 latent numbers instead of 20, most of which end up without a say, and the "
        "generator of the PyTorch-GAN collection, all of garments. No limit was set with a look at these models.",
        markdown(
            ("family", "models", *VERDICTS, *(f"{kind}: greatest strength" for kind in KINDS)),
            (
                (*line(name, some(rows, family=name)), *strengths_of(some(rows, family=name)))
                for name in dict.fromkeys(row["family"] for row in rows)
            ),
        ),
    ]


def strengths_of(rows: list[Row]) -> tuple[str, ...]:
    return tuple(f"{max(row.get(f'strength {kind}', 0.0) for row in rows):.2f}" for kind in KINDS)


def together(rows: list[Row]) -> float:
    """The correlation of the strengths of spectrum and twin, each less the mean of its family."""
    values = [[row.get(f"strength {kind}", 0.0) for kind in ("spectrum", "twin")] for row in rows]
    means = {
        name: [
            statistics.fmean(row.get(f"strength {kind}", 0.0) for row in some(rows, family=name))
            for kind in ("spectrum", "twin")
        ]
        for name in {row["family"] for row in rows}
    }
    apart = [
        [value - mean for value, mean in zip(pair, means[row["family"]], strict=True)]
        for pair, row in zip(values, rows, strict=True)
    ]
    return statistics.correlation(*zip(*apart, strict=True))


def clean_of(rows: list[Row], but: str) -> list[Row]:
    return [row for row in rows if not row["backdoored"] and row["family"] != but]


def seeds_of_scans(rows: list[Row]) -> list[str]:
    """Whether a verdict depends on the seed of the scan."""
    several: dict[tuple[Any, ...], list[str]] = {}
    for row in rows:
        if "method" not in row:
            several.setdefault((row["family"], row["seed"], row["kind"]), []).append(row["verdict"])
    several = {name: verdicts for name, verdicts in several.items() if len(verdicts) >= 5}
    if not several:
        return []
    same = sum(len(set(verdicts)) == 1 for verdicts in several.values())
    found = sum(raised(verdicts) in (0, len(verdicts)) for verdicts in several.values())
    other = ["-".join(map(str, name)) for name, verdicts in several.items() if len(set(verdicts)) > 1]
    tail = f" Not so: {', '.join(other)}." if other else ""
    return [
        "## Five seeds of the scan",
        f"The verdict is the same over five seeds of the scan on {same} of {len(several)} models, and whether a model "
        f"is raised at all on {found}.{tail}",
    ]


def raised(verdicts: Iterable[str]) -> int:
    return sum(verdict in ("backdoored", "suspicious") for verdict in verdicts)


def cures(rows: list[Row]) -> list[str]:
    """What ``sanitize.auto`` makes of them."""
    if not rows:
        return []
    lines = []
    for method in dict.fromkeys(row["method"] for row in rows):
        for kind, some_rows in by_kind(some(rows, method=method)):
            treated = [row for row in some_rows if row["treatment"] != "none"]
            changes = [row["frechet after"] / row["frechet before"] - 1 for row in treated]
            bad = [row for row in treated if row["backdoored"]]
            lines.append(
                (
                    method,
                    kind,
                    f"{len(treated)} of {len(some_rows)}",
                    f"{sum(row['tardis cured'] >= row['tardis base'] / 2 for row in bad)}" if bad else "-",
                    f"{sum(row['recd cured'] >= 0.8 * row['recd base'] for row in bad)}" if bad else "-",
                    f"{sum(is_cured(row) for row in bad)}" if bad else "-",
                    f"{statistics.median(changes):+.1%}, {max(changes):+.1%}" if changes else "-",
                )
            )
    return [
        "## Cures",
        "`sanitize.auto` on the untouched models: *auto* treats what its scan finds evidence for, *always* contains "
        "the others too. TarDis counts where the cured model is at least half as far from the target at the trigger "
        "as the clean model that it was made of, RecD where a search about the trigger (through the limits, with "
        "straight-through gradients) comes no more than 20 % nearer to the target than on that clean model. Frechet "
        "change: median and largest, in per cent of the distance before, to the family's data, by our own features "
        "(64x64 pictures halved; digits by the features of garments).",
        markdown(("method", "kind", "treated", "TarDis", "RecD", "both", "Frechet change"), lines),
    ]


def is_cured(row: Row) -> bool:
    return row["tardis cured"] >= row["tardis base"] / 2 and row["recd cured"] >= 0.8 * row["recd base"]


def area(rows: list[Row]) -> float:
    return float(roc_auc_score([row["backdoored"] for row in rows], [row["score"] for row in rows]))


def auc(rows: list[Row]) -> str:
    return f"{area(rows):.3f}" if len({row["backdoored"] for row in rows}) == 2 else "-"


def interval(rows: list[Row]) -> str:
    """The 95 % interval of the AUC when base models, with all that was made of them, are drawn again."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["family"], row["seed"]), []).append(row)
    draw, found = random.Random(0), []
    for _ in range(RESAMPLED):
        again = [row for group in draw.choices(list(groups.values()), k=len(groups)) for row in group]
        if len({row["backdoored"] for row in again}) == 2:
            found.append(area(again))
    if not found:
        return "-"
    low, high = (sorted(found)[round(share * (len(found) - 1))] for share in (0.025, 0.975))
    return f"95 % {low:.3f} to {high:.3f}"


def line(name: str, rows: list[Row]) -> tuple[str, ...]:
    counts = (str(len(some(rows, verdict=verdict))) for verdict in VERDICTS)
    return (name, str(len(rows)), *counts)


def strongest(row: Row) -> float:
    return max((value for key, value in row.items() if key.startswith("strength ")), default=0.0)


def family_line(name: str, rows: list[Row]) -> tuple[str, ...]:
    clean = [strongest(row) for row in some(rows, backdoored=False)]
    bad = [strongest(row) for row in some(rows, backdoored=True)]
    ends = (f"{max(clean):.2f}" if clean else "-", f"{min(bad):.2f}" if bad else "-")
    return name, *ends, mean_and_most([row["seconds"] for row in rows])
