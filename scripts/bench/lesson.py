"""How long and how hard to read the notebooks are: make bench NAME=lesson.

    lesson.py [--only 00,03] [--sentences 10]

For each source of notebooks/src: core cells (without the tag ``bonus``), words of text, lines of code, cells and texts
that are too long, lines of set-up before the first round, and the reading grade of its text (the automated readability
index: years of school, so less is easier). ``--sentences`` prints the hardest ones of each.
"""

import argparse
import re
from pathlib import Path
from typing import Any

import textstat

from devilgan_lite.apps.course.lesson.editions import is_bonus
from devilgan_lite.apps.studies.notebooks import read_notebook

ROOT = Path(__file__).resolve().parents[2]
HEAD = ("cells", "core", "words", "code lines", "code > 25", "text > 120", "set-up", "reading grade")
CODE, TEXT = 25, 120  # lines of a code cell and words of a text cell, at most
LIMITS = {"core": 320, "words": 9_000, "code lines": 3_000}


def lines_of(cell: Any) -> int:
    """Lines of code that are not empty."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def words_of(text: str) -> int:
    return len(text.split())


def prose(text: str) -> str:
    """Markdown as sentences: no code, formulas, links, tables, headings or marks."""
    text = re.sub(r"```.*?```|\$\$.*?\$\$|<[^>]+>|^\|.*$|^#.*$", "", text, flags=re.S | re.M)
    text = re.sub(r"\[([^\]]+)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"`[^`]*`|\$[^$]*\$", "it", text)
    text = re.sub(r"^\* (.*[^.:!?])$", r"\1.", text, flags=re.M)
    return re.sub(r"[*_]", "", text)


def sentences(text: str) -> list[str]:
    """Those of at least six words."""
    found = re.split(r"(?<=[.!?])\s+|\n\s*\n", text)
    return [" ".join(one.split()) for one in found if words_of(one) >= 6]


def measured(path: Path) -> dict[str, float]:
    """The row of one source."""
    cells = read_notebook(path).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    texts = [cell for cell in cells if cell.cell_type == "markdown"]
    first = next((at for at, cell in enumerate(cells) if re.search(r"^## Round", cell.source, re.M)), len(cells))
    starts = [lines_of(cell) for cell in cells[:first] if cell.cell_type == "code"]
    return {
        "cells": len(cells),
        "core": sum(not is_bonus(cell) for cell in cells),
        "words": sum(words_of(cell.source) for cell in texts),
        "code lines": sum(map(lines_of, code)),
        "code > 25": sum(lines_of(cell) > CODE for cell in code),
        "text > 120": sum(words_of(cell.source) > TEXT for cell in texts),
        "set-up": max(starts, default=0),
        "reading grade": round(textstat.automated_readability_index(" ".join(prose(cell.source) for cell in texts)), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", default="", help="numbers, such as 00,03")
    parser.add_argument("--sentences", type=int, default=0, help="print so many of the hardest ones of each")
    options = parser.parse_args()
    wanted = [part.strip() for part in options.only.split(",") if part.strip()]
    paths = [path for path in sorted(ROOT.glob("notebooks/src/[0-9]*.py")) if not wanted or path.stem[:2] in wanted]
    rows = {path.stem[:2]: measured(path) for path in paths}
    print("   " + "".join(f"{title:>14}" for title in HEAD))
    for number, row in rows.items():
        print(f"{number} " + "".join(f"{row[title]:>14}" for title in HEAD))
    total = {title: sum(row[title] for row in rows.values()) for title in HEAD[:-2]}
    print("all" + "".join(f"{value:>14}" for value in total.values()))
    print("   at most: " + ", ".join(f"{title} {most:,}" for title, most in LIMITS.items()))
    for path in paths if options.sentences else ():
        text = " ".join(prose(cell.source) for cell in read_notebook(path).cells if cell.cell_type == "markdown")
        hardest = sorted(sentences(text), key=textstat.automated_readability_index, reverse=True)[: options.sentences]
        print(
            f"\n{path.stem}\n"
            + "\n".join(f"  {textstat.automated_readability_index(one):6.0f}  {one}" for one in hardest)
        )


if __name__ == "__main__":
    main()
