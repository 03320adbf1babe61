"""The rows of ``docs/results/detection.json`` as the Markdown tables of ``docs/results/detection.md``."""

import statistics
from pathlib import Path

from row_store import VERDICTS, Row, markdown, mean_and_most, share, write_page
from sklearn.metrics import roc_auc_score

COPIES = ("copy", "rescaled")  # benign ones


def write_tables(sections: dict[str, list[Row]], path: Path) -> None:
    """Write the page."""
    parts = [
        "# Detection",
        "Made by `make bench NAME=detect` from `detection.json`: the blind detectors of tier T2 (weights), one scan a "
        "model. All choices were made on the tune models; the test models share no seed with these. They are the "
        "second set of test models: the detectors were changed after they had been judged on the first, which then "
        "served no more. After a first look at this second set one thing was changed: silent units give the sign of "
        "the trigger estimate. The verdicts are on models of two seeds that were made for them alone. They were "
        "measured while a rank among clean models of ours was evidence, too; [decision "
        "11](../decisions/11_four_verdicts.md) says what moves without it. All other tables are the scores of 0.1.",
    ]
    if sections.get("verdict"):
        parts += _verdicts(sections["verdict"])
    for split in ("test", "tune"):
        some = [row for row in sections["scan"] if row["split"] == split]
        if some:
            parts += _split(split, some)
    test = [row for row in sections["targets"] if row["split"] == "test"]
    if test:
        parts += _targets(test)
    if sections["access"]:
        parts += _access(sections["access"])
    if sections["guard"]:
        parts += _guard(sections["guard"])
    write_page(path, parts)


def _verdicts(rows: list[Row]) -> list[str]:
    """What ``detect.scan`` says as it is."""
    clean, bad = ([row for row in rows if (row["kind"] in ("clean", *COPIES)) == healthy] for healthy in (True, False))
    raised = [row for row in bad if row["verdict"] in ("backdoored", "suspicious")]
    areas = {
        kind: area([row["score"] for row in clean], [row["score"] for row in bad if row["kind"] == kind])
        for kind in dict.fromkeys(row["kind"] for row in bad)
    }
    worst = min(areas, key=lambda kind: areas[kind])
    lines = [
        ("AUC of the score", f"{area(*([row['score'] for row in some] for some in (clean, bad))):.3f}"),
        (f"mean of the AUC of {len(areas)} kinds; worst kind", f"{statistics.fmean(areas.values()):.3f}; {worst}"),
        ("clean called backdoored", share(clean, lambda row: row["verdict"] == "backdoored")),
        ("clean called suspicious", share(clean, lambda row: row["verdict"] == "suspicious")),
        ("backdoored found (backdoored or suspicious)", share(bad, lambda row: row in raised)),
        ("called backdoored", share(bad, lambda row: row["verdict"] == "backdoored")),
        ("attacker's picture shown (correlation 0.5), of the found", share(raised, lambda row: row["likeness"] >= 0.5)),
        ("CPU-seconds a scan, mean and most", mean_and_most([row["cpu_s"] for row in rows], 1)),
    ]
    kinds = []
    for kind in dict.fromkeys(row["kind"] for row in [*clean, *bad]):
        some = [row for row in rows if row["kind"] == kind]
        counts = (str(sum(row["verdict"] == verdict for row in some)) for verdict in VERDICTS)
        most = [max(value for key, value in row.items() if key.startswith("strength ")) for row in some]
        kinds.append((kind, str(len(some)), *counts, f"{min(most):.2f} to {max(most):.2f}"))
    return [
        f"## The verdicts: {len(clean)} clean, {len(bad)} backdoored models of our own family",
        markdown(("what", "measured"), lines),
        markdown(("kind", "models", *VERDICTS, "strongest evidence, as a share of its limit"), kinds),
    ]


def _targets(rows: list[Row]) -> list[str]:
    clean = [row for row in rows if row["kind"] == "clean"]
    bad = [row for row in rows if row["kind"] != "clean"]
    reference, others = clean[0], clean[1:]

    def score(row: Row, name: str, how: str) -> float:
        """A score of a row's target; with a clean reference (T3), how much worse that shows the same target."""
        tried: Row = row["targets"][name]
        if how == "reference":
            return float(reference["targets"][name]["error"] / tried["error"])
        return float(tried[how])

    lines = []
    for kind in ["all off-manifold", *sorted({row["kind"] for row in bad})]:
        some = [
            row for row in bad if row["kind"] == kind or (kind.startswith("all") and row["kind"] != "in-distribution")
        ]
        areas = []
        for how in ("alone", "helped", "reference"):
            ours = [score(row, row["target"], how) for row in some]
            names = {row["target"] for row in some}
            theirs = [score(row, name, how) for row in others for name in row["targets"] if name in names]
            areas.append(f"{area(theirs, ours):.3f}")
        lines.append((kind, str(len(some)), *areas))
    return [
        "## Reconstruction of the known target (T1)",
        f"AUC against {len(others)} clean test models, each tried with the same targets, one pooled threshold: black "
        "box, started from the directions that the weights suggest, and black box beside one clean reference model "
        "(T3). The first two compare the target with its own mirror image, the third with the reference's error. An "
        "in-distribution target is a garment; there the clean models are tried with one garment each.",
        markdown(("attack", "models", "black box", "with directions", "with a reference"), lines),
    ]


def _access(rows: list[Row]) -> list[str]:
    """AUC of what other access than weights gives."""
    lines = []
    for how, what in (
        ("T0", "oddest of 2,000 outputs"),
        ("T4", "of 2,000 outputs, the one farthest from the training data"),
        ("T3, another clean model", "first layer beside that of another clean model"),
        ("T3, the clean original", "first layer beside that of the model it was made of"),
    ):
        original = how == "T3, the clean original"
        clean = [row for row in rows if row["kind"] in (COPIES if original else ("clean",))]
        bad = [row for row in rows if row["kind"] not in ("clean", *COPIES)]
        compared = [row for row in bad if row[how] is not None]
        ours, theirs = ([row[how] or 0.0 for row in some] for some in (bad, clean))
        against = f"{len(clean)} {'copies' if original else 'clean'}"
        lines.append((how[:2], what, against, f"{len(compared)}", f"{area(theirs, ours):.3f}"))
    return [
        "## Other access",
        "AUC of each score, among single models; a comparison that finds no common origin gives no score and counts "
        "as zero. The last row asks a harder question: which copies of a known clean model carry a backdoor, and which "
        "are honest copies?",
        markdown(("access level", "what", "against", "backdoored with a score", "AUC"), lines),
    ]


def _guard(rows: list[Row]) -> list[str]:
    lines = [
        (row["kind"], f"{row['ordinary']:.3%}", f"{row['caught']:.1%}" if "caught" in row else "-") for row in rows
    ]
    return [
        "## The runtime guard",
        "One test model of each kind: flagged among 20,000 ordinary latents, and among 1,000 latents "
        "within 5 degrees of the trigger.",
        markdown(("model", "ordinary flagged", "near the trigger flagged"), lines),
    ]


def _split(split: str, rows: list[Row]) -> list[str]:
    clean = [row for row in rows if row["kind"] == "clean"]
    bad = [row for row in rows if row["kind"] not in ("clean", *COPIES)]
    adaptive = [row for row in bad if row["adaptive"]]
    names = list(rows[0]["scores"])
    areas = (area(*([row["scores"][name] for row in some] for some in (clean, bad))) for name in names)
    lines = [
        *((f"AUC, {name} alone", f"{value:.3f}") for name, value in zip(names, areas, strict=True)),
        ("trigger: cosine at least 0.9", share(bad, lambda row: row["cosine"] >= 0.9)),
        ("target shown: error at most 0.05", share(bad, lambda row: row["picture_error"] <= 0.05)),
        ("CPU-seconds a model, mean and most", mean_and_most([row["cpu_s"] for row in rows], 1)),
    ]
    kinds = sorted({(row["adaptive"], row["kind"]) for row in bad})
    table = []
    for is_adaptive, kind in kinds:
        some = [row for row in bad if row["kind"] == kind]
        best = {name: statistics.median(row["scores"][name] for row in some) for name in some[0]["scores"]}
        table.append(
            (
                kind + (" (adaptive)" if is_adaptive else ""),
                str(len(some)),
                *(f"{value:.3g}" for value in best.values()),
                f"{statistics.median(row['cosine'] for row in some):.2f}",
                f"{statistics.median(row['picture_error'] for row in some):.2g}",
            )
        )
    reference = [
        (f"clean, {what}", *(f"{of(row['scores'][name] for row in clean):.3g}" for name in names))
        for what, of in (("median", statistics.median), ("largest", max))
    ]
    head = ("attack", "models", *names, "cosine", "picture error")
    return [
        f"## The {split} models: {len(clean)} clean, {len(bad)} backdoored, {len(adaptive)} of them adaptive",
        markdown(("what", "measured"), lines),
        "By attack, medians of scores, cosine with the trigger and error of the best of the 36 pictures shown:",
        markdown(head, table),
        markdown(("clean models", *names), reference),
    ]


def area(theirs: list[float], ours: list[float]) -> float:
    """Area under the ROC curve of scores of clean models and of backdoored ones."""
    return float(roc_auc_score([0] * len(theirs) + [1] * len(ours), theirs + ours))
