"""The rows of ``docs/results/sound.json`` as the page ``docs/results/sound.md``."""

from pathlib import Path

from page import sections, write_page
from row_store import Row


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    write_page(path, content, found=sections(content["rows"]))
