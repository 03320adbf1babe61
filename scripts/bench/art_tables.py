"""The rows of ``docs/results/art.json`` as the tables and curves of ``docs/results/art.md``."""

from pathlib import Path

from page import write_page
from row_store import Row


def write_tables(content: Row, path: Path) -> None:
    """Write the page."""
    write_page(path, content, given={row["by"].partition(",")[0]: row for row in content["rows"]})
