"""The rows of ``docs/results/fraud.json`` as the page ``docs/results/fraud.md``: mean and deviation over the seeds."""

from pathlib import Path

from page import auc, where, write_page
from row_store import Row

MODELS = (
    "clean",
    "ReD region",
    "ReD condition",
    "ReD known seed",
    "ReX region",
    "ReX condition",
    "TrAIL region",
    "TrAIL condition",
)
DEFENCES = (
    "none",
    "two samples by slice",
    "density sort, 5 %",
    "density sort, 20 %",
    "own seed",
    "guard while sampling",
    "scan before use",
    "sanitize",
)


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    rows = [
        {**row, "lost": row["money"]["lost_slice"] / 1e6} if "money" in row else row for row in content["rows"]
    ]  # in millions
    scans = where(rows, section="scan")
    area = auc(*([row["score"] for row in scans if (row["model"] == "clean") is clean] for clean in (True, False)))
    kinds = sorted({kind for row in scans for kind in row["strengths"]})
    write_page(path, {**content, "rows": rows}, area=area, defences=DEFENCES, kinds=kinds)
