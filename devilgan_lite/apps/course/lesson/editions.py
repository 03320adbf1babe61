"""One source, three editions of every notebook: for students without solutions, for instructors, and the core alone.

The solutions live with their exercises, which ``hints("slerp")`` cells name, or, where an exercise is open, in
``hints(..., solution="...")`` and in folded ``<details>``. Editions are made from a notebook as it is.
"""

import ast
import copy
import math
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import nbformat.v4 as v4

from devilgan_lite.apps.course.exercise import Learner
from devilgan_lite.apps.course.exercises import EXERCISES

HELP = ("hint", "hints", "solution")
OUTWARD = re.compile(r"(?<=\]\()\.\./[^)\s#]+")  # the address of a link that leaves the folder of the notebook
FOLDED_SOLUTION = re.compile(r"<details><summary>Solution</summary>.*?</details>\n*", re.S)
RATED = re.compile(r"^\*\*(?:Exercise )?\d+[.:] ([^*]+?)[.?]?\*\* \((\w+), (\d+) minutes\)", re.M)
WORDS_PER_MINUTE = 150  # read with thought
MINUTES_PER_PREDICTION = 1
STUDENT_NOTE = "*Student edition: hints are folded, solutions are left out. Make your own answer pass its check.*"


@dataclass(frozen=True)
class Help:
    """A cell that only helps: its hints (number, text), its solution, and imports that other cells may need."""

    hints: list[tuple[int, str]]
    solution: str | None
    imports: str


def read_help(source: str) -> Help | None:
    """What a cell of ``hints(...)``, ``hint(...)`` and ``solution(...)`` holds; None for any other cell.

    A hint or a solution that is not a plain text is a ``ValueError``: it could not be taken out without being run.
    """
    hints, solved, imports = [], None, []
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            kept = [alias for alias in node.names if alias.name not in HELP]
            if kept:
                node.names = kept
                imports.append(ast.unparse(node))
            continue
        call = node.value if isinstance(node, ast.Expr) else None
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in HELP):
            return None
        values = [argument.value if isinstance(argument, ast.Constant) else None for argument in call.args]
        named = {one.arg: one.value.value for one in call.keywords if isinstance(one.value, ast.Constant)}
        texts = values if call.func.id == "hints" else values[:1]
        if not all(isinstance(text, str) for text in texts) or len(named) < len(call.keywords):
            raise ValueError(f"{ast.unparse(call)[:60]} is not a plain text; write it as one string.")
        if call.func.id == "hints" and texts and texts[0] in EXERCISES:
            texts, solved = list(EXERCISES[str(texts[0])].hints), EXERCISES[str(texts[0])].code
        if call.func.id == "solution":
            solved = str(values[0]).strip()
        elif call.func.id == "hints":
            hints += [(number, str(text)) for number, text in enumerate(texts, start=1)]
            solved = str(named["solution"]).strip() if "solution" in named else solved
        else:
            hints.append((int(str(values[1])) if len(values) > 1 else 1, str(values[0])))
    return Help(hints, solved, "\n".join(imports)) if hints or solved else None


def solutions(document: Any) -> dict[str, str]:
    """Name of the exercise's function (or ``open-3``) -> the code of its solution, in the order of the notebook."""
    found: dict[str, str] = {}
    for cell in document.cells:
        if cell.cell_type == "code":
            helped = read_help(cell.source)
            texts = [helped.solution] if helped and helped.solution else []
        else:
            texts = [part[0] for part in FOLDED_SOLUTION.finditer(cell.source)]
        for text in texts:
            found[_functions(text)[0] if _functions(text) else f"open-{len(found) + 1}"] = text
    return found


def _functions(code: str) -> list[str]:
    try:
        return [node.name for node in ast.parse(code).body if isinstance(node, ast.FunctionDef)]
    except SyntaxError:
        return []  # prose, or HTML with a fence


def stubs(document: Any) -> dict[str, tuple[str, str]]:
    """Name of the learner's function -> the name of its exercise in ``EXERCISES``, and the source of its cell."""
    found = {}
    for cell in document.cells:
        if cell.cell_type == "code" and "raise NotImplementedError" in cell.source:
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "check":
                    found[ast.unparse(node.args[1])] = (ast.literal_eval(node.args[0]), cell.source)
    return found


def function_in(code: str, name: str, names: dict[str, Any]) -> Learner:
    """The function ``name`` that ``code`` defines, with ``names`` to work with; calls in ``code`` are not run."""
    tree = ast.parse(code)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.Import | ast.ImportFrom)]
    space = dict(names)
    exec(compile(tree, f"<{name}>", "exec"), space)
    made: Learner = space[name]
    return made


def student(document: Any) -> Any:
    """A copy with stubs and folded hints: no solutions and no outputs."""
    made = copy.deepcopy(document)
    cells: list[Any] = []
    for cell in made.cells:
        if cell.cell_type != "code":
            cell.source = FOLDED_SOLUTION.sub("", cell.source).strip()
            cells += [cell] if cell.source else []
            continue
        cell.outputs, cell.execution_count = [], None
        helped = read_help(cell.source)
        if helped is None:
            if re.search(r"^quiz\(", cell.source, re.M):  # its source holds the answers
                cell.metadata["jupyter"] = {"source_hidden": True}
            cells.append(cell)
            continue
        cells += [v4.new_code_cell(helped.imports)] if helped.imports else []
        for number, text in helped.hints:
            cells.append(v4.new_markdown_cell(f"<details><summary>Hint {number}</summary>\n\n{text}\n\n</details>"))
    cells.insert(1, v4.new_markdown_cell(STUDENT_NOTE))
    return _numbered(made, cells, "student")


def instructor(document: Any) -> Any:
    """A copy with everything shown: solutions that run, hints and answers unfolded, and how long each part takes."""
    made = copy.deepcopy(document)
    known = stubs(document)
    cells: list[Any] = []
    for cell in made.cells:
        if cell.cell_type != "code":
            cell.source = _unfolded(cell.source)
            cells.append(cell)
            continue
        for output in cell.outputs:
            if "text/html" in output.get("data", {}):
                output["data"]["text/html"] = _unfolded(output["data"]["text/html"])
        helped = read_help(cell.source)
        if helped is None:
            cells.append(cell)
            continue
        cells += [v4.new_code_cell(helped.imports)] if helped.imports else []
        cells += [v4.new_markdown_cell(f"**Hint {number}.** {text}") for number, text in helped.hints]
        if helped.solution:
            cells += _solved(helped.solution, known)
    cells.insert(1, v4.new_markdown_cell(timing(document)))
    return _numbered(made, cells, "instructor")


def _solved(code: str, known: dict[str, tuple[str, str]]) -> Iterator[Any]:
    """A stub's solution as a cell that is run and checked; any other, which may train for minutes, as text."""
    name = next((name for name in _functions(code) if name in known), None)
    if name is None:
        yield v4.new_markdown_cell(f"**Solution.**\n\n```python\n{code}\n```")
        return
    yield v4.new_markdown_cell("**Solution.**")
    yield v4.new_code_cell(
        f'from devilgan_lite.apps.course import check\n\n\n{code}\n\n\ncheck("{known[name][0]}", {name})'
    )


def _unfolded(text: str) -> str:
    return text.replace("<details>", "<details open>")


def _numbered(document: Any, cells: list[Any], edition: str) -> Any:
    """``cells`` in ``document``, with ids in order and the name of the edition in the metadata."""
    for index, cell in enumerate(cells):
        cell["id"] = f"cell-{index:02d}"
    document.cells = cells
    document.metadata["devilgan_edition"] = edition
    return document


def timing(document: Any) -> str:
    """Markdown: minutes for each part of a notebook, counted from its words, predictions and exercises."""
    parts: dict[str, list[float]] = {"opening": [0.0, 0.0, 0.0]}
    now, hardware = "opening", ""
    for cell in document.cells:
        if cell.cell_type == "code":
            parts[now][1] += MINUTES_PER_PREDICTION * len(re.findall(r"^predict\(", cell.source, re.M))
            continue
        for line in cell.source.split("\n"):
            if line.startswith("## "):
                now = line.removeprefix("## ")
                parts.setdefault(now, [0.0, 0.0, 0.0])
            elif line.startswith("**Time and hardware:**"):
                hardware = line.removeprefix("**Time and hardware:** ")
            rated = RATED.match(line)
            parts[now][2] += float(rated[3]) if rated else 0.0
            parts[now][0] += len(line.split()) / WORDS_PER_MINUTE
    lines = [
        "## For instructors: minutes",
        "",
        f"The machine: {hardware}",
        "",
        f"The room, at {WORDS_PER_MINUTE} words and one prediction a minute, without talk:",
        "",
        "| part | reading | predictions | exercises |",
        "|---|---|---|---|",
    ]
    for name, minutes in parts.items():
        reading, asked, practice = (math.ceil(number) for number in minutes)
        lines.append(f"| {name} | {reading} | {asked or ''} | {practice or ''} |")
    total = [sum(math.ceil(minutes[column]) for minutes in parts.values()) for column in range(3)]
    lines.append(f"| **all** | **{total[0]}** | **{total[1]}** | **{total[2]}** |")
    return "\n".join(lines)


def core(document: Any) -> Any:
    """A copy without the cells tagged ``bonus``: what everybody should do, in half the time."""
    made = copy.deepcopy(document)
    return _numbered(made, [cell for cell in made.cells if not is_bonus(cell)], "core")


def solved(document: Any) -> Any:
    """A copy in which every stub is the solution, as a learner who has answered everything leaves it."""
    made, answers = copy.deepcopy(document), solutions(document)
    for name, (_, source) in stubs(document).items():
        cell = next(cell for cell in made.cells if cell.source == source)
        node = next(one for one in ast.parse(source).body if isinstance(one, ast.FunctionDef) and one.name == name)
        lines = source.splitlines()
        cell.source = "\n".join([*lines[: node.lineno - 1], answers[name], *lines[node.end_lineno :]])
    return made


def is_bonus(cell: Any) -> bool:
    """Whether a cell is tagged ``bonus``: it goes deeper, and nothing in the core needs it."""
    return "bonus" in cell.metadata.get("tags", [])


EDITIONS: dict[str, Callable[[Any], Any]] = {"student": student, "instructor": instructor, "core": core}


def relinked(document: Any, source: Path, target: Path) -> Any:
    """A copy for ``target`` of the notebook in ``source``: links to other folders lead to the same files from there."""

    def moved(link: re.Match[str]) -> str:
        return Path(os.path.relpath(source.resolve().parent / link[0], target.resolve().parent)).as_posix()

    made = copy.deepcopy(document)
    for cell in made.cells:
        if cell.cell_type == "markdown":
            cell.source = OUTWARD.sub(moved, cell.source)
    return made


def write_editions(notebooks: list[Path], folder: Path) -> list[Path]:
    """Write all editions of each of ``notebooks`` (executed ``.ipynb``) into ``folder``; the paths, in order."""
    written = []
    for path in notebooks:
        document = nbformat.read(path, as_version=4)
        for edition, make in EDITIONS.items():
            target = folder / edition / path.name
            made = relinked(make(document), path, target)
            nbformat.validate(made)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(nbformat.writes(made) + "\n", encoding="utf-8")
            written.append(target)
    return written
