"""The rows of ``docs/results/fraud.json`` as the page ``docs/results/fraud.md``: mean and deviation over the seeds."""

from pathlib import Path

from page import where, write_page
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
    kinds = sorted({kind for row in scans for kind in row["strengths"]})
    write_page(path, {**content, "rows": rows}, defences=DEFENCES, kinds=kinds)
