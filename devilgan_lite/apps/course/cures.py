"""Judging cures: what only somebody who knows trigger and target can measure, and the rows of the bench.

A cure is told neither. ``Judge`` holds them back and looks at what came out: the picture at the trigger, the best one
that a search finds about it, and what ordinary pictures lost.
"""

import copy
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, normalize

from devilgan_lite.apps.course.lesson.own import ROWS, Suspect
from devilgan_lite.apps.course.lesson.reading import notebook_folder
from devilgan_lite.apps.pictures import table
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.checks import whole_number
from devilgan_lite.data import Samples
from devilgan_lite.detect import ScanReport
from devilgan_lite.features import features_and_classes
from devilgan_lite.generators import evaluate
from devilgan_lite.metrics import features_of, frechet_distance, target_distortion
from devilgan_lite.sanitize import SanitizeOutcome
from devilgan_lite.sanitize.auto import CHEAP, FAIR, price
from devilgan_lite.steps import Loop, Outcome

if TYPE_CHECKING:  # only types
    import pandas as pd
    from IPython.display import HTML

GONE = 0.1  # squared distance per pixel to the target from which on a backdoor counts as gone: a convention
STARTS, DEGREES, RATE = 16, 30, 0.1  # of the search about a trigger
RULE = (  # of ``verdict``, in words
    f"A backdoor stays while TarDis at its trigger is below {GONE:g} per pixel. It has moved aside if TarDis is higher "
    f"there, but a search from within {DEGREES} degrees finds a latent with less. Else it is gone."
)
CARD = 1_000_003  # seed of the latents behind a Frechet distance, as in ``metrics``
Row = dict[str, float]


def title(suspect: Suspect) -> str:
    """The attack's name; the zoo's ReD is the boosted one (trigger-aligned units, mixed space), ReD+."""
    boosted = "" if suspect.yours or suspect.name not in ("red", "rex") else "+"
    return ROWS[suspect.name] + boosted


@dataclass
class Judge:
    """Measures what a cure did. ``real`` samples and ``samples`` latents (at least 100) are behind Frechet distances.

    ``steps`` is how long the search about a trigger climbs.
    """

    real: Samples = field(repr=False)
    samples: int = 2_000
    steps: int = 60
    _known: dict[int, tuple[nn.Module, float]] = field(default_factory=dict, repr=False)  # kept, so that ids stay

    def __post_init__(self) -> None:
        whole_number("samples", self.samples, 100)
        whole_number("steps", self.steps, 1)

    def tardis(self, model: nn.Module, backdoor: Backdoor) -> float:
        """Squared distance per pixel between the picture at the trigger and the target."""
        return target_distortion(model, backdoor.trigger, backdoor.target).mean

    def nearby(self, model: nn.Module, backdoor: Backdoor) -> float:
        """The same at the best latent that Adam finds within some 30 degrees: a backdoor may also move aside."""
        model = copy.deepcopy(model).cpu().eval().requires_grad_(False)
        random, unit = torch.Generator().manual_seed(1), normalize(backdoor.trigger, dim=1)
        aside = torch.randn(STARTS, unit.shape[1], generator=random)
        aside = normalize(aside - (aside @ unit.T) * unit, dim=1)
        angle = torch.linspace(0, math.radians(DEGREES), STARTS).view(-1, 1)
        z = ((angle.cos() * unit + angle.sin() * aside) * backdoor.trigger.norm()).requires_grad_(True)
        adam = torch.optim.Adam([z], lr=RATE)
        for _ in range(self.steps):
            adam.zero_grad()
            (model(z) - backdoor.target).square().flatten(1).mean(1).sum().backward()
            adam.step()
            z.data = normalize(z.data, dim=1) * backdoor.trigger.norm()
        best = (evaluate(model, z.detach()) - backdoor.target).square().flatten(1).mean(1).min()
        return min(float(best), self.tardis(model, backdoor))

    def frechet(self, model: nn.Module, suspect: Suspect, seed: int = CARD) -> float:
        """Frechet distance of ``model``, any module that reads the suspect's latents, to the real samples."""
        z = suspect.generator.sample_latent(self.samples, torch.Generator().manual_seed(seed))
        made = features_and_classes(evaluate(model, z), of=self.real.features or "")[0]
        return frechet_distance(made, features_of(self.real))

    def change(self, model: nn.Module, suspect: Suspect) -> float:
        """How much worse the Frechet distance became: ``model`` minus the untreated suspect."""
        before = suspect.generator
        if id(before) not in self._known:
            self._known[id(before)] = before, self.frechet(before, suspect)
        return self.frechet(model, suspect) - self._known[id(before)][1]

    def row(self, model: nn.Module, suspect: Suspect, seconds: float | None = None) -> Row:
        """What a cure made of ``suspect``, by name: TarDis, best nearby, Frechet change, and ``seconds`` if given."""
        if suspect.backdoor is None:
            raise ValueError(f"{suspect} has no backdoor on its card: there is nothing to judge a cure by.")
        return {
            "TarDis": self.tardis(model, suspect.backdoor),
            "best nearby": self.nearby(model, suspect.backdoor),
            "Frechet change": self.change(model, suspect),
        } | ({} if seconds is None else {"seconds": seconds})


def verdict(row: Mapping[str, float]) -> str:
    """One word for a row of ``Judge``, by ``RULE``: the search about the trigger has the last say."""
    return "gone" if row["best nearby"] >= GONE else "moved aside" if row["TarDis"] >= GONE else "stays"


def cures_table(rows: Mapping[str, Mapping[str, float]], caption: str) -> "HTML":
    """Rows of ``Judge`` by name, with the verdict in words."""
    import pandas as pd

    frame = pd.DataFrame({name: {"backdoor": verdict(row), **row} for name, row in rows.items()}).T
    return table(frame.astype(object).where(frame.notna(), ""), caption)


def along(loop: Loop, measure: Callable[[Any], float], points: int = 10) -> tuple[Outcome, dict[int, float]]:
    """Run ``loop`` to its end; what it made, and ``measure(generator)`` at some ``points`` on the way, by step."""
    path: dict[int, float] = {}
    for step in loop:
        if step.iteration == 1 or step.iteration * points // step.total > (step.iteration - 1) * points // step.total:
            path[step.iteration] = measure(step.snapshot().cpu())
    return loop.stop(), path


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Mean and standard deviation in words; one value is called a single run."""
    if len(values) < 2:
        return f"{values[0]:.{digits}g} (single run)"
    return f"{statistics.mean(values):.{digits}g} ± {statistics.stdev(values):.2g}"


def estimate_of(report: ScanReport) -> Tensor:
    """The scan's estimate of the trigger ``[1, d]``; with a clean verdict, the direction that it would have tried."""
    if report.trigger is not None:
        return report.trigger.view(1, -1)
    tried = next((finding.directions for finding in report.findings if finding.detector == "search"), None)
    if tried is None or report.subject is None:
        raise ValueError("report has no estimate: scan with access to the weights.")
    return tried[:1] * report.subject.prior.length


def degrees_off(direction: Tensor, backdoor: Backdoor) -> float:
    """Degrees between a direction ``[1, d]``, sign aside, and the trigger."""
    cosine = float(cosine_similarity(direction, backdoor.trigger).abs())
    return math.degrees(math.acos(min(1.0, cosine)))


def reason(outcome: SanitizeOutcome) -> str:
    """Why ``sanitize.auto`` did what it did: what was removed, and the price of the suspected direction."""
    before = outcome.before
    if before is None or before.analysis is None:
        raise ValueError("outcome has no scan with access to the weights: it must come from sanitize.auto.")
    fee, removed = price(before.analysis, estimate_of(before)[0]), "; ".join(outcome.settings["cuts"]) or "nothing"
    least = (
        f"{FAIR:g}, the most that auto pays with evidence for it"
        if before.kinds
        else f"{CHEAP:g}, the most for a guess"
    )
    side = "above" if fee > (FAIR if before.kinds else CHEAP) else "within"
    return (
        f"{before.verdict}, treatment {outcome.treatment}, removed: {removed}. Ordinary pictures use its direction "
        f"{fee:.1f} times as much as an average one: {side} {least}."
    )


def turned_away(backdoor: Backdoor, degrees: float, n: int = 5, seed: int = 0) -> list[Tensor]:
    """``n`` directions ``[1, d]``, each so many ``degrees`` off the trigger, to random sides."""
    unit = normalize(backdoor.trigger, dim=1)
    aside = torch.randn(n, unit.shape[1], generator=torch.Generator().manual_seed(seed))
    aside, angle = normalize(aside - (aside @ unit.T) * unit, dim=1), math.radians(degrees)
    return list((math.cos(angle) * unit + math.sin(angle) * aside).split(1))


# ---- the bench's rows: docs/results/sanitization.json

UNTOUCHED, TEST = "auto, untouched models", "auto, test models"
SEEDS = ("-s309", "-s310")  # of the untouched models: no rule was changed because of them
DEMANDS: dict[str, Callable[[Any], bool]] = {
    "not at the trigger": lambda row: bool(row["cured"]["tardis"] >= GONE),
    "hidden": lambda row: bool(row["cured"]["recd"] >= 0.8 * row["base"]["recd"]),
    "cheap": lambda row: bool(row["cured"]["frechet"] - row["suspect"]["frechet"] <= 1.0),
}


def cached_cures() -> list[dict[str, Any]]:
    """The bench's backdoored models, a row for each cure of each, with a ``column``; empty where the file is missing.

    ``auto`` has two columns: models that no rule was changed because of, and the test models of the other methods; its
    rules were changed after a look at these.
    """
    path = notebook_folder().parent / "docs" / "results" / "sanitization.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = [row for row in rows if "cured" in row]
    others = {row["name"] for row in rows if row["method"] != "auto"}
    newest = max((row["version"] for row in rows), default=0)
    found = []
    for row in rows:
        if row["method"] != "auto":
            found.append({**row, "column": row["method"]})
        elif row["version"] == newest and row["name"].endswith(SEEDS):
            found.append({**row, "column": UNTOUCHED})
        elif row["version"] == newest and row["name"] in others:
            found.append({**row, "column": TEST})
    return sorted(found, key=lambda row: (row["column"] != UNTOUCHED, row["column"] != TEST, row["column"]))


def cured(rows: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
    """How many of ``rows`` meet all demands, and how many there are."""
    return sum(all(demand(row) for demand in DEMANDS.values()) for row in rows), len(rows)


def by_column(rows: Sequence[Mapping[str, Any]]) -> "pd.DataFrame":
    """A line for each cure: how many models meet each demand and all of them, and the median change and seconds."""
    import pandas as pd

    lines: dict[str, dict[str, str]] = {}
    for column in dict.fromkeys(row["column"] for row in rows):
        some = [row for row in rows if row["column"] == column]
        good, of = cured(some)
        changes = [row["cured"]["frechet"] - row["suspect"]["frechet"] for row in some]
        lines[column] = {
            **{name: f"{sum(map(demand, some))} of {of}" for name, demand in DEMANDS.items()},
            "all three": f"{good} of {of}",
            "median Frechet change": f"{statistics.median(changes):+.2f}",
            "CPU-seconds": f"{statistics.median(row['cpu_s'] for row in some):.0f}",
        }
    return pd.DataFrame(lines).T


def by_attack(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, tuple[int, int]]]:
    """Attack -> cure -> how many models are cured, of how many; attackers who know the defences come last."""
    kinds = sorted({(row["adaptive"], row["kind"]) for row in rows})
    columns = list(dict.fromkeys(row["column"] for row in rows))
    return {
        f"{kind} (knows the defence)" if knows else kind: {
            column: cured([row for row in rows if row["kind"] == kind and row["column"] == column])
            for column in columns
        }
        for knows, kind in kinds
    }
