"""The rows of ``docs/results/detection.json`` as the page ``docs/results/detection.md``."""

from pathlib import Path

from page import auc, but, by, values, where, write_page
from row_store import Row

COPIES = ["copy", "rescaled"]  # benign ones
HEALTHY = ["clean", *COPIES]
ACCESS = {
    "T0": "oddest of 2,000 outputs",
    "T4": "of 2,000 outputs, the one farthest from the training data",
    "T3, another clean model": "first layer beside that of another clean model",
    "T3, the clean original": "first layer beside that of the model it was made of",
}


def write_tables(sections: dict[str, list[Row]], path: Path) -> None:
    """Write every section that has rows."""
    access, verdict = sections["access"], sections.get("verdict", [])
    given = {"access": with_access(access), "verdict": verdict, "targets": where(sections["targets"], split="test")}
    clean = [row["score"] for row in where(verdict, kind=HEALTHY)]
    kinds = by(but(verdict, kind=HEALTHY), "kind")
    areas = [{"kind": one["kind"], "area": auc(clean, values(one["rows"], "score"))} for one in kinds]
    write_page(path, {**sections, **given}, areas=areas, healthy=HEALTHY, area_of_target=area_of_target)


def area_of_target(rows: list[Row], kind: str, how: str) -> float:
    """AUC of a score of the targets of backdoored models against clean ones, tried with the same targets."""
    reference, *others = where(rows, kind="clean")
    bad = but(rows, kind=["clean", "in-distribution"]) if kind.startswith("all") else where(rows, kind=kind)

    def score(row: Row, name: str) -> float:
        """A score of a row's target; with a clean reference (T3), how much worse that shows the same target."""
        tried: Row = row["targets"][name]
        return float(reference["targets"][name]["error"] / tried["error"] if how == "reference" else tried[how])

    names = {row["target"] for row in bad}
    theirs = [score(row, name) for row in others for name in row["targets"] if name in names]
    return auc(theirs, [score(row, row["target"]) for row in bad])


def with_access(rows: list[Row]) -> list[Row]:
    """What each access other than weights gives: how many models it was judged on, and its AUC."""
    bad, found = but(rows, kind=HEALTHY), []
    for how, what in ACCESS.items() if rows else ():
        original = how == "T3, the clean original"
        clean = where(rows, kind=COPIES if original else "clean")
        area = auc(*([row[how] or 0.0 for row in some] for some in (clean, bad)))
        against = f"{len(clean)} {'copies' if original else 'clean'}"
        scored = len([row for row in bad if row[how] is not None])
        found.append({"level": how[:2], "what": what, "against": against, "scored": scored, "area": area})
    return found
