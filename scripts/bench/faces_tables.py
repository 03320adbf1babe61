"""The rows of ``docs/results/faces.json`` as the page ``docs/results/faces.md``."""

from pathlib import Path

from page import sections, write_page
from row_store import Row

from devilgan_lite.features import feature_card


def write_tables(content: Row, path: Path) -> None:
    """Write every section that has rows."""
    found = sections(content["rows"])
    stranger = sections(found["stranger"], "part")
    write_page(path, content, found=found, stranger=stranger, accuracy=feature_card("faces-64")["test_accuracy"])
