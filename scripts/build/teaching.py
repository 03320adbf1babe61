"""The table of what makes our notebooks lessons: 17 features, each found (or not) in the executed notebooks themselves.

    teaching.py [--check]

Writes docs/results/teaching_features.md; ``--check`` writes nothing and says whether the table is in step.
"""

import argparse
import ast
import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from devilgan_lite.apps.course import EXERCISES

ROOT = Path(__file__).resolve().parents[2]
QUIZZES = ROOT / "devilgan_lite" / "apps" / "course" / "lesson" / "quizzes.json"
TABLE = ROOT / "docs" / "results" / "teaching_features.md"
EXERCISE = re.compile(r"^\*\*(?:Exercise )?\d+[.:] .+$", re.M)
RATED = re.compile(r"^\*\*(?:Exercise )?\d+[.:] [^*]+\*\* \((?:easy|medium|hard|open), \d+ minutes\)")
Feature = Callable[[dict[str, Any]], bool]
WIDGETS = {"LatentSlider", "Explorer", "TradeOff", "Film", "ScanView"}


@dataclass(frozen=True)
class Section:
    """A stretch of a notebook: its markdown, its code, and the kinds of output that its cells show."""

    text: str
    code: str
    shown: str

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Every call of a function with one of ``names``, in the order of the page."""
        found = [node for node in ast.walk(ast.parse(self.code)) if isinstance(node, ast.Call)]
        for node in sorted(found, key=lambda node: (node.lineno, node.col_offset)):
            if isinstance(node.func, ast.Name) and node.func.id in names:
                yield node

    def folded(self, name: str) -> int:
        """How many folded parts are called ``name``, made by code or written as HTML."""
        makers = {"Hint": "hint", "Solution": "solution"}
        found = len(list(self.calls(makers[name]))) + len(re.findall(rf"<details><summary>{name}\b", self.text))
        for call in self.calls("hints"):
            named = EXERCISES.get(str(ast.literal_eval(call.args[0])))
            if name == "Hint":
                found += len(named.hints) if named else len(call.args)
            else:
                found += 1 if named else sum(one.arg == "solution" for one in call.keywords)
        return found


def pieces(notebook: dict[str, Any], starts: re.Pattern[str]) -> list[Section]:
    """What lies between the matches of ``starts`` in the markdown; the first piece is what comes before any."""
    found: list[list[str]] = [["", "", ""]]
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            found[-1][1] += source + "\n"
            for output in cell["outputs"]:
                kinds = [*output.get("data", {}), *re.findall("<img", str(output.get("data", {}).get("text/html", "")))]
                found[-1][2] += " ".join(kinds) + " "
            continue
        places = [match.start() for match in starts.finditer(source)]
        for begin, end in zip([0, *places], [*places, len(source)], strict=True):
            if begin in places:
                found.append(["", "", ""])
            found[-1][0] += source[begin:end] + "\n"
    return [Section(*piece) for piece in found]


def whole(notebook: dict[str, Any]) -> Section:
    return pieces(notebook, re.compile(r"(?!)"))[0]


def under(notebook: dict[str, Any], heading: str) -> Section | None:
    """The section under the ``## heading``, or None; a heading may go on after it."""
    sections = pieces(notebook, re.compile(r"^## .*$", re.M))[1:]
    return next((part for part in sections if part.text.startswith(f"## {heading}")), None)


def exercises(notebook: dict[str, Any]) -> list[Section]:
    """The exercises: each from its bold title to the next one, or to the next heading."""
    found = pieces(notebook, re.compile(rf"{EXERCISE.pattern}|^## .*$", re.M))
    return [part for part in found if EXERCISE.match(part.text)]


def bullets(section: Section | None) -> list[str]:
    return [] if section is None else re.findall(r"^\* (.+)", section.text, re.M)


def objectives(notebook: dict[str, Any]) -> bool:
    """At least three, each with a verb in italics."""
    found = re.search(r"^\*\*Objectives\.\*\* .+\n((?:[* ] .+\n)+)", whole(notebook).text, re.M)
    lines = re.findall(r"^\* (.+)", found[1], re.M) if found else []
    return len(lines) >= 3 and all(re.match(r"\*\w+\* ", line) for line in lines)


def says(pattern: str) -> Feature:
    """A line of the text begins with ``pattern``."""
    return lambda notebook: bool(re.search(pattern, whole(notebook).text, re.M))


def picture_first(notebook: dict[str, Any]) -> bool:
    """The first code cell shows one."""
    first = next(cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    shown = whole({"cells": [first]}).shown
    return "image/png" in shown or "<img" in shown


def _keys(notebook: dict[str, Any], function: str) -> list[tuple[int, str]]:
    """Number of the cell and key of every prediction that is asked, or revealed."""
    found = []
    for index, cell in enumerate(notebook["cells"]):
        if cell["cell_type"] == "code":
            for call in whole({"cells": [cell]}).calls(function):
                place = 2 if function == "predict" else 0
                values = [keyword.value for keyword in call.keywords if keyword.arg == "key"] or call.args[place:]
                if values and isinstance(values[0], ast.Constant):
                    found.append((index, str(values[0].value)))
    return found


def predict_then_run(notebook: dict[str, Any]) -> bool:
    """At least three questions, each in a cell before one that runs."""
    return len({key for _, key in _keys(notebook, "predict")}) >= 3


def compared(notebook: dict[str, Any]) -> bool:
    """Each prediction is revealed in a later cell."""
    asked, revealed = _keys(notebook, "predict"), _keys(notebook, "reveal")
    return bool(asked) and all(any(key == other and later > at for later, other in revealed) for at, key in asked)


def each_exercise(good: Callable[[Section], object]) -> Feature:
    """There are exercises, and all of them are good."""
    return lambda notebook: bool(found := exercises(notebook)) and all(map(good, found))


def checked(notebook: dict[str, Any]) -> bool:
    """At least two exercises have a stub, and each stub is handed to a check of that name."""
    stubs, tested = set(), set()
    for part in exercises(notebook):
        functions = [node for node in ast.parse(part.code).body if isinstance(node, ast.FunctionDef)]
        stubs |= {node.name for node in functions if "raise NotImplementedError" in ast.unparse(node)}
        tested |= {ast.unparse(call.args[1]) for call in part.calls("check") if len(call.args) == 2}
    return len(stubs) >= 2 and stubs <= tested


def quiz(notebook: dict[str, Any]) -> bool:
    """Five questions, each with at least two options, the place of the right one, and a reason."""
    calls = list(whole(notebook).calls("quiz"))
    if not calls or not isinstance(calls[0].args[0], ast.Constant):
        return False
    questions = json.loads(QUIZZES.read_text(encoding="utf-8")).get(calls[0].args[0].value, [])
    return len(questions) == 5 and all(one["why"] and len(one["options"]) > 1 for one in questions)


def playground(notebook: dict[str, Any]) -> bool:
    """A widget to play with, and a figure beside it for print."""
    section = under(notebook, "Playground")
    return section is not None and any(section.calls(*WIDGETS)) and "image/png" in section.shown


def written(heading: str) -> Feature:
    """At least 25 words stand under the ``heading``."""
    return lambda notebook: (section := under(notebook, heading)) is not None and len(section.text.split()) >= 25


def references(notebook: dict[str, Any]) -> bool:
    """At least two, the paper among them."""
    lines = bullets(under(notebook, "References"))
    return len(lines) >= 2 and any("The Devil is in the GAN" in line for line in lines)


FEATURES: dict[str, Feature] = {
    "objectives, each a verb": objectives,
    "prerequisites": says(r"^\*\*Prerequisites:\*\* \w"),
    "minutes": says(r"^\*\*Time and hardware:\*\* .*\bminutes?\b"),
    "a picture first": picture_first,
    "predict, then run": predict_then_run,
    "predictions compared afterwards": compared,
    "three exercises or more": lambda notebook: len(exercises(notebook)) >= 3,
    "difficulty and minutes of each": each_exercise(lambda part: RATED.match(part.text)),
    "checks of the learner's own functions": checked,
    "two folded hints each": each_exercise(lambda part: part.folded("Hint") >= 2),
    "a solution on request each": each_exercise(lambda part: part.folded("Solution") >= 1),
    "a quiz of five with feedback": quiz,
    "a playground, and its figure for print": playground,
    "key points": lambda notebook: len(bullets(under(notebook, "Key points"))) >= 3,
    "what would a defender see?": written("What would a defender see?"),
    "limits": written("Limits"),
    "references": references,
}


def notebooks() -> dict[str, dict[str, Any]]:
    """Number -> executed notebook, in order."""
    paths = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
    return {path.stem[:2]: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def table() -> str:
    """The page: a row for each feature, a column for each notebook."""
    every = notebooks()
    lines = [
        "# What every notebook has",
        "",
        "Found in the executed notebooks by `python scripts/build/teaching.py`, which says what counts as a yes; a",
        "test holds this page in step with them.",
        "",
        f"| feature | {' | '.join(every)} |",
        f"|---|{'---|' * len(every)}",
    ]
    for name, found in FEATURES.items():
        lines.append(f"| {name} | {' | '.join('yes' if found(one) else '**no**' for one in every.values())} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; compare the page with the notebooks")
    page = table()
    if parser.parse_args().check:
        same = TABLE.is_file() and TABLE.read_text(encoding="utf-8") == page
        print(f"{TABLE.name} is in step." if same else f"{TABLE.name} is not in step; run make notebooks.")
        return not same
    TABLE.write_text(page, encoding="utf-8")
    print(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
