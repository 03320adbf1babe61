"""The rows of ``docs/results/benchmark.json`` as the Markdown tables of ``docs/results/benchmark.md``."""

from pathlib import Path
from typing import Any

from page import by, has, write_page
from row_store import Row


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    attacks = [row for group in by(has(content["rows"], "attack"), "attack") for row in latest(group["rows"])]
    write_page(path, content, attacks=attacks)


def latest(rows: list[Row]) -> list[Row]:
    """Those rows that were measured as the last one was: the same settings (seed apart) and the same clean model."""

    def made_by(row: Row) -> Any:
        settings = {name: value for name, value in row["settings"].items() if name != "seed"}
        return settings, row["samples"], row["against"], None if row["attack"] == "TrAIL" else row["clean"]

    return [row for row in rows if made_by(row) == made_by(rows[-1])]
