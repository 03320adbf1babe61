"""The rows of ``docs/results/detection_style.json`` as the page ``docs/results/detection_style.md``."""

import re
from pathlib import Path

from page import where, write_page
from row_store import Row


def write_tables(found: dict[str, list[Row]], path: Path) -> None:
    """Write every section that has rows."""
    test = where(found["scan"], split="test")
    clean = [row["name"] for row in test if not row["attack"]]
    seeds = sorted({seed[1] for name in clean if (seed := re.search(r"-s(\d+)", name))})
    cures = [
        {**row, "change": row["frechet"][1] - row["frechet"][0]} if row["changed"] else row for row in found["auto"]
    ]
    write_page(path, {"test": test, "auto": cures}, seeds=seeds)
