"""What the victim can do: look at the rows, look at the generator, watch it, treat it, or choose the latents himself.

Each defence returns what it ``Seen``: whether it raised an alarm, why in one sentence, and which rows or which
generator it lets through. Defences of rows need no access to the generator; the others need the module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import binom
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier
from torch import Tensor, nn

from devilgan_lite import detect, sanitize
from devilgan_lite.checks import in_range, whole_number
from devilgan_lite.data.tables import Table

NEAR = 5  # the neighbour whose distance says how dense the real rows are
LEAF, DEPTH = 20, 4  # fewest rows in a slice, and most questions that lead to it
FEWEST = 100  # rows of each table for a comparison
FAR, FAR_ALARM = 0.999, 0.01  # quantile of the real distances, and the share of rows beyond it that is too much


@dataclass(frozen=True, eq=False)
class Seen:
    """What a defence saw. ``passes`` bool ``[n]``: the rows let through (None: it looked at no rows).

    ``generator``: the module let through (None: it looked at none, or keeps it out). ``details`` are plain data.
    """

    defence: str
    alarm: bool
    says: str
    passes: np.ndarray | None = field(default=None, repr=False)
    generator: nn.Module | None = field(default=None, repr=False)
    details: dict[str, Any] = field(default_factory=dict, repr=False)


def two_samples_by_slice(real: Table, made: Table, *, level: float = 0.01, ratio: float = 8.0, seed: int = 0) -> Seen:
    """A test of two samples, slice by slice: where do the rows ``made`` crowd, compared with ``real`` ones?

    Each class is tested by itself, so that another share of positives is no alarm. The slices are the leaves of a
    shallow tree that learns, from half of the rows, to tell the two tables apart; the other half is counted. A slice is
    flagged that has ``ratio`` times its share of the real rows or more, where the exact test of two rates (binomial,
    one-sided) says so at ``level`` / slices (Bonferroni). Rows of flagged slices do not pass.
    """
    in_range("level", level, 0.0, 0.5, open_low=True)
    in_range("ratio", ratio, 1.0, 1e6)
    whole_number("seed", seed, 0, 2**32 - 1)
    _same_columns(real, made)
    passes, found, slices = np.ones(len(made), dtype=bool), list[dict[str, Any]](), 0
    for label, level_name in enumerate(made.column(made.label).levels):
        mine = np.flatnonzero(made.labels() == label)
        own = real.features()[real.labels() == label]
        if min(len(mine), len(own)) < FEWEST:
            continue
        rows, is_made = np.concatenate([own, made.features()[mine]]), np.arange(len(own) + len(mine)) >= len(own)
        learns = np.random.default_rng([seed, label]).permutation(len(rows)) < len(rows) // 2
        tree = DecisionTreeClassifier(
            max_depth=DEPTH, min_samples_leaf=LEAF, class_weight="balanced", random_state=seed
        ).fit(rows[learns], is_made[learns])
        where = tree.apply(rows)
        leaves = np.unique(where[learns])
        slices += len(leaves)
        in_made, in_real = (np.bincount(where[~learns & one], minlength=leaves[-1] + 1) for one in (is_made, ~is_made))
        in_made, in_real = in_made[leaves], in_real[leaves]
        crowd = np.log((in_made + 0.5) / in_made.sum()) - np.log((in_real + 0.5) / in_real.sum())
        p_values = binom.sf(in_made - 1, in_made + in_real, in_made.sum() / (in_made.sum() + in_real.sum()))
        flagged = (p_values <= level / len(leaves)) & (crowd >= np.log(ratio))
        passes[mine] = ~np.isin(where[is_made], leaves[flagged])
        for index in np.flatnonzero(flagged):
            rule = f"{made.label}={level_name} and {_rule(tree, int(leaves[index]), made)}"
            found.append({"slice": rule, "times": float(np.exp(crowd[index])), "rows": int(in_made[index])})
    found.sort(key=lambda one: -one["times"])
    says = f"none of {slices} slices is crowded"
    if found:
        says = f"{len(found)} of {slices} slices are crowded, most: {found[0]['slice']} ({found[0]['times']:.0f} times)"
    return Seen("two samples by slice", bool(found), says, passes, details={"slices": slices, "flagged": found})


def density_sort(real: Table, made: Table, *, dropped: float = 0.05) -> Seen:
    """Sort the rows made by how far they are from real ones of the same label, and drop the farthest.

    The distance is that to the fifth nearest real row, with columns in standard deviations. ``dropped`` in [0, 1) is
    the share of the farthest rows. It raises an alarm where one row in a hundred is farther than all but one in a
    thousand real rows are from each other.
    """
    in_range("dropped", dropped, 0.0, 0.99)
    _same_columns(real, made)
    scale = StandardScaler().fit(real.features())
    distance, usual = np.empty(len(made)), np.empty(len(real))
    for label in np.unique(made.labels()):
        own = scale.transform(real.features()[real.labels() == label])
        rows = made.labels() == label
        if len(own) <= NEAR:
            raise ValueError(f"{real.name} has {len(own)} rows with label {label}; more than {NEAR} are needed.")
        search = NearestNeighbors(n_neighbors=NEAR).fit(own)
        distance[rows] = search.kneighbors(scale.transform(made.features()[rows]))[0][:, -1]
        usual[real.labels() == label] = search.kneighbors()[0][:, -1]  # a row is not its own neighbour
    passes = np.ones(len(made), dtype=bool)
    passes[np.argsort(-distance, kind="stable")[: round(dropped * len(made))]] = False
    far = float((distance > np.quantile(usual, FAR)).mean())
    says = f"{far:.1%} of the rows are farther from real ones than {FAR:.1%} of these are from each other"
    return Seen("density sort", far > FAR_ALARM, says, passes, details={"far": far, "dropped": dropped})


def scan_before_use(generator: nn.Module, *, seed: int = 0, twin: bool = True) -> Seen:
    """``detect.scan``: the generator is let through only if the verdict is clean."""
    report = detect.scan(generator, seed=seed, twin=twin)
    clean = report.verdict == "clean"
    details = {"verdict": report.verdict, "strengths": report.strengths, "seconds": report.seconds}
    says = f"the scan says {report.verdict} ({report.reason})"
    return Seen("scan before use", not clean, says, generator=generator if clean else None, details=details)


def guard_while_sampling(generator: nn.Module, z: Tensor, *, seed: int = 0, fitting: int = 20_000) -> Seen:
    """``detect.Guard`` on the latents ``z`` ``[n, d]`` that the rows are made of; rows of flagged ones do not pass.

    The guard learns from the generator's own ordinary draws. A trigger that five in a hundred of these are is
    ordinary to it; latents that someone else chose are not.
    """
    guard = detect.Guard(generator, fitting=fitting, seed=seed)
    flags = detached(guard.check(z).flags)
    share = float(flags.mean())
    expected = guard.false_positive_rate
    says = f"{share:.2%} of the latents are flagged, where {expected:.2%} of ordinary ones should be"
    details = {"flagged": share, "expected": expected}
    return Seen("guard while sampling", share > 10 * expected + 3 / len(z), says, ~flags, details=details)


def sanitized(generator: nn.Module, *, seed: int = 0, always: bool = True, iterations: int = 1_500) -> Seen:
    """``sanitize.auto``: scan, cure what is found and, with ``always``, contain the copy; it lets the copy through."""
    outcome = sanitize.auto(generator, always=always, iterations=iterations, seed=seed, progress=False)
    found = outcome.before is not None and bool(outcome.before.kinds)
    details = {"treatment": outcome.treatment, "scorecard": outcome.scorecard, "seconds": outcome.seconds}
    says = str(outcome).splitlines()[0]
    return Seen("sanitize", found, says, generator=outcome.generator, details=details)


def rows_that_pass(defence: Callable[..., Seen], **settings: Any) -> Callable[[Table, Table], np.ndarray]:
    """A defence of rows as ``pipeline.run`` takes it: real rows, rows made -> which pass, bool ``[n]``."""

    def passes(real: Table, made: Table) -> np.ndarray:
        found = defence(real, made, **settings).passes
        if found is None:
            raise ValueError(f"{defence.__name__} looks at no rows, so it cannot choose among them.")
        return found

    return passes


def detached(flags: Tensor) -> np.ndarray:
    return flags.cpu().numpy().astype(bool)


def _same_columns(real: Table, made: Table) -> None:
    if made.columns != real.columns or made.label != real.label:
        raise ValueError(f"{made.name} has other columns than {real.name}, so the two cannot be compared.")
    if min(len(real), len(made)) < FEWEST:
        raise ValueError(f"tables have {len(real)} and {len(made)} rows; a comparison needs {FEWEST} of each.")


def _rule(tree: DecisionTreeClassifier, leaf: int, table: Table) -> str:
    """The questions that lead to a leaf, in words; of several about one column, the narrowest."""
    names = [column.name for column in table.columns if column.name != table.label]
    found, bounds, node = tree.tree_, dict[tuple[str, str], float](), leaf
    while node:
        left = np.flatnonzero(found.children_left == node)
        parent = int(left[0] if len(left) else np.flatnonzero(found.children_right == node)[0])
        key = (names[found.feature[parent]], "<=" if len(left) else ">")
        bounds.setdefault(key, float(found.threshold[parent]))  # from the leaf up, so the narrowest comes first
        node = parent
    return " and ".join(f"{name} {sign} {value:g}" for (name, sign), value in bounds.items())
