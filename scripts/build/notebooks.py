"""Execute notebooks/src/NN_*.py (workshop profile, one thread) into notebooks/NN_*.ipynb, clean and checked.

    notebooks.py [--only 00,03] [--tour FOLDER | --check | --text]

``--tour`` takes what a ``make tour`` of these sources has executed in FOLDER. ``--check`` executes nothing: it says
whether every notebook holds the cells of its source, is fit to be shown, shows the models that ship and says only
numbers that its code says, and whether pages follow the routes. ``--text`` executes nothing but hints: it renews them,
text cells and metadata, and refuses where any other code cell has changed.
"""

import argparse
import ast
import itertools
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
TRAINING = re.compile(r"\btrain_gan\s*\(|\.steps\(|\.finish\(|attacks\.\w+\([^\n]*\)\(")
ABSOLUTE = re.compile(r"(?<![\w.:/~-])/(?:home|root|tmp|work|mnt|var|Users|private)/|(?<!\w)[A-Z]:\\\\")
ATTACKING = ("02", "03", "04", "09", "10", "11", "12", "13", "14")  # where a learner makes something to be careful with
ALIKE = 0.05  # mean absolute difference of two ordinary samples (in [-1, 1]) below which they show the same
SECTIONS = ("**Objectives.**", "**Prerequisites:**", "**Time and hardware:**", "## Playground", "## Key points")
SECTIONS += ("## What would a defender see?", "## Limits", "## References")
WIDGET = "application/vnd.jupyter.widget-view+json"
WITHOUT_MODELS = ("12_poisoned_pipeline", "report")  # they load nothing of the zoo
QUIZZES = ROOT / "devilgan_lite" / "apps" / "course" / "lesson" / "quizzes.json"
CODE = re.compile(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|\[[^\]]*\]\([^)]*\)|<[^>]+>|arXiv [\d.]+", re.S)
MEASURED = re.compile(  # shares, counts and decimals
    r"(?<![\w./:-])\d[\d,]*(?:\.\d+)?\s?%|(?<![\w./:-])\d+\.\d+(?![\w.])|(?<![\w.])\d+ of \d+(?![\w.])"
)


def sources() -> list[Path]:
    """The py:percent twins, in order."""
    return [*sorted(NOTEBOOKS.glob("src/[0-9][0-9]_*.py")), NOTEBOOKS / "src" / "report.py"]


def cells(path: Path) -> list[tuple[str, str, dict[str, Any]]]:
    """Type, text and metadata of every cell of a notebook or of its source."""
    from devilgan_lite.apps.studies.notebooks import read_notebook

    return [(cell.cell_type, cell.source.strip(), about(cell)) for cell in read_notebook(path).cells]


def about(cell: Any) -> dict[str, Any]:
    """The metadata of a source: tags, a folded solution, and what a state needs (``course.lesson.reading``)."""
    return {name: cell.metadata[name] for name in ("tags", "jupyter", "state", "instead") if cell.metadata.get(name)}


def pairing(source: Path) -> str | None:
    """None if the executed notebook holds the cells of ``source``, else a sentence."""
    built = NOTEBOOKS / f"{source.stem}.ipynb"
    if not built.is_file():
        return f"{built.name} is missing; run make notebooks."
    ours, theirs = cells(source), cells(built)
    if ours == theirs:
        return None
    first = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
    where = f"cell {first + 1}" if first is not None else f"the number of cells ({len(ours)} and {len(theirs)})"
    return f"{built.name} differs from src/{source.name} in {where}; run make notebooks (see --text)."


def tidy(document: Any, folders: dict[str, str]) -> Any:
    """Take out what one machine and one moment left: ids, clocks, widget state, the paths in ``folders``."""
    kept = ("kernelspec", "language_info", "devilgan_lite")
    document.metadata = {name: value for name, value in document.metadata.items() if name in kept}
    document.metadata.get("language_info", {}).pop("version", None)
    for index, cell in enumerate(document.cells):
        cell["id"] = f"cell-{index:02d}"
        cell.metadata = about(cell)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _only_widget(output)]
            for output in cell.outputs:
                _replace(output, folders)
    return document


def _only_widget(output: Any) -> bool:
    """Whether nothing of ``output`` can be seen without a running kernel; drops its live view in any case."""
    data = output.get("data", {})
    return data.pop(WIDGET, None) is not None and not data.keys() & {"image/png", "image/svg+xml", "text/html"}


def _replace(output: Any, folders: dict[str, str]) -> None:
    for folder, name in folders.items():
        if isinstance(output.get("text"), str):
            output["text"] = output["text"].replace(folder, name)
        for kind, value in output.get("data", {}).items():
            if kind.startswith("text/") and isinstance(value, str):
                output["data"][kind] = value.replace(folder, name)


def problems(document: Any, name: str) -> list[str]:
    """What keeps an executed notebook from being committed; an empty list if nothing does."""
    found = []
    prose = [
        re.sub(r"```.*?```", "", cell.source, flags=re.S) for cell in document.cells if cell.cell_type == "markdown"
    ]
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    titles = sum(len(re.findall(r"^# ", text, re.M)) for text in prose)
    if titles != 1:
        found.append(f"it has {titles} titles (# ...), not one.")
    levels = [len(marks) for text in prose for marks in re.findall(r"^(#{1,6}) ", text, re.M)]
    if any(below > above + 1 for above, below in itertools.pairwise(levels)):
        found.append("a heading is more than one level below the one before it.")
    pictures = [tag for cell in document.cells for tag in re.findall(r"<img\b[^>]*>|!\[\s*\]\(", cell.source)]
    if any(not re.search(r'\balt="[^"]', tag) for tag in pictures):
        found.append("its text has a picture without alt text.")
    marked = sum("parameters" in cell.metadata.get("tags", []) for cell in document.cells)
    if marked != 1:
        found.append(f"it has {marked} cells tagged parameters, not one.")
    if "widgets" in document.metadata:
        found.append("it holds widget state.")
    picture = training = None
    for index, cell in enumerate(code):
        if training is None and TRAINING.search(cell.source):
            training = index
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "error":
                found.append(f"code cell {index + 1} ends in {output.ename}.")
            if WIDGET in data:
                found.append(f"code cell {index + 1} shows a widget that nobody can see without a kernel.")
            shown = [kind for kind in data if kind.startswith("image/")]
            if any(not output.metadata.get(kind, {}).get("alt", "").strip() for kind in shown):
                found.append(f"code cell {index + 1} has a picture without alt text.")
            if any(output.metadata.get(kind, {}).get("apart", 1.0) < ALIKE for kind in shown):
                found.append(f"code cell {index + 1} shows ordinary samples that are all alike.")
            tags = re.findall(r"<(?:img|svg)\b[^>]*>", str(data.get("text/html", "")))
            if any(not re.search(r'\balt="[^"]|aria-label|aria-hidden="true"', tag) for tag in tags):
                found.append(f"code cell {index + 1} has an <img> or <svg> without alt text.")
            if picture is None and ("image/png" in data or "<img" in str(data.get("text/html", ""))):
                picture = index
            words = [
                str(output.get("text", "")),
                *(str(v) for kind, v in data.items() if not kind.startswith("image/")),
            ]
            if any(ABSOLUTE.search(re.sub(r"base64,[\w+/=]+", "", text)) for text in words):
                found.append(f"code cell {index + 1} prints an absolute path.")
        if cell.source.strip() and cell.execution_count is None:
            found.append(f"code cell {index + 1} was not executed.")
    if picture is None or (training is not None and picture >= training):
        found.append("no picture comes before the first training.")
    if name[:2] in ATTACKING and not any("Responsible use" in text for text in prose):
        found.append("there is no 'Responsible use' in it.")
    return found


def folding(document: Any) -> Iterator[str]:
    """A solution is folded and nothing else is: its output folds the same text, so pages must not show it above."""
    for index, cell in enumerate(document.cells):
        tree = ast.parse(cell.source if cell.cell_type == "code" else "")
        solved = any(isinstance(node, ast.keyword) and node.arg == "solution" for node in ast.walk(tree))
        marks = cell.metadata.get("jupyter") == {"source_hidden": True}, "hide-input" in cell.metadata.get("tags", [])
        if marks != (solved, solved):
            yield f"cell {index + 1} {'is a solution that is not folded' if solved else 'is folded and no solution'}."


def lessons(document: Any) -> Iterator[str]:
    """A lesson asks before it runs, lets you write, folds its help, and ends with what holds and what does not."""
    from devilgan_lite.apps.course.lesson.editions import read_help, stubs

    text = "\n".join(cell.source for cell in document.cells)
    for section in SECTIONS:
        if not re.search(rf"^{re.escape(section)}", text, re.M):
            yield f"it has no {section!r}."
    asked, told = (len(re.findall(rf"\b{name}\(", text)) for name in ("predict", "reveal"))
    if asked < 3 or told < asked:
        yield f"it asks for {asked} predictions and reveals {told}: three or more are due, and each is compared."
    if not (written := stubs(document)):
        yield "it has no stub to write."
    helped = [found for cell in document.cells if cell.cell_type == "code" and (found := read_help(cell.source))]
    if sum(len(one.hints) >= 2 and bool(one.solution) for one in helped) < len(written):
        yield "a stub has fewer than two hints, or no solution."


def models(document: Any, name: str) -> Iterator[str]:
    """A model of the zoo that is made again makes every notebook stale that has loaded it."""
    from devilgan_lite import zoo

    made_by = document.metadata.get("devilgan_lite", {})
    loaded = made_by.get("zoo", {})
    yield from (f"it shows another {model} than ships." for model in loaded if loaded[model] != zoo.card(model).sha256)
    if bool(loaded) == (name in WITHOUT_MODELS):
        yield f"its metadata name {len(loaded)} models of the zoo."
    if not re.fullmatch(r"\d+\.\d+\.\d+\S*", made_by.get("version", "")):
        yield "its metadata do not say which version has made it."


def printed(output: Any) -> list[str]:
    """The words of an output, without its pictures; a quiz says nothing that was measured."""
    texts = ["".join(part) for kind, part in output.get("data", {}).items() if kind.startswith("text/")]
    if any("<summary>Answer</summary>" in text for text in texts):
        return []
    return [re.sub(r"base64,[\w+/=]+", "", text) for text in ("".join(output.get("text", "")), *texts)]


def numbers(document: Any, quiz: Any) -> Iterator[str]:
    """A number in the text or in the ``quiz``, outside code, is in the code, or in what it printed."""
    code = [cell for cell in document.cells if cell.cell_type == "code"]
    said = "".join(cell.source + json.dumps([printed(one) for one in cell.outputs]) for cell in code).replace(" ", "")
    texts = [CODE.sub("", cell.source) for cell in document.cells if cell.cell_type == "markdown"]
    for text in (*texts, json.dumps(quiz)):
        for number in MEASURED.findall(text):
            plain = number.replace(" ", "")
            if plain not in said and plain.rstrip("%") not in said:
                yield f"it says {number}, and no cell does."


def faults(document: Any, name: str) -> list[str]:
    """What is wrong with the committed notebook ``name``, by its text alone."""
    quiz = json.loads(QUIZZES.read_text(encoding="utf-8")).get(name[:2], [])
    found = [*problems(document, name), *folding(document), *models(document, name)]
    found += numbers(document, quiz) if name != "report" else []
    text = "\n".join(cell.source for cell in document.cells)
    if "cures_table(" in text and "print(RULE)" not in text.split("cures_table(")[0]:
        found.append("its first table of cures comes before print(RULE), which defines its words.")
    return found


def plans(page: str, text: str) -> Iterator[str]:
    """The longer routes stand in ``text`` minute by minute."""
    from devilgan_lite.apps.course.lesson.routes import ROUTES

    for name in ("90-minutes", "half-day"):
        ends = [0, *itertools.accumulate(stop.minutes for stop in ROUTES[name])]
        for start, end in itertools.pairwise(ends):
            if f"| {start}-{end} |" not in text:
                yield f"{page}: route {name} lacks minutes {start}-{end}."


def check(chosen: list[Path]) -> list[str]:
    """One line for each fault of the notebooks of ``chosen`` sources, and of the pages about routes."""
    from devilgan_lite.apps.studies.notebooks import read_notebook

    found = [message for path in chosen if (message := pairing(path))]
    for path in (NOTEBOOKS / f"{source.stem}.ipynb" for source in chosen):
        if path.is_file():
            document = read_notebook(path)
            taught = lessons(document) if path.stem != "report" else ()
            found += [f"{path.stem}: {fault}" for fault in (*faults(document, path.stem), *taught)]
    for page in ("routes.md", "instructor_guide.md"):
        found += plans(page, (ROOT / "docs" / page).read_text(encoding="utf-8"))
    return found


def build(source: Path) -> bool:
    """Execute, tidy, check, write; False, with a line that says why, if it must not be committed."""
    from devilgan_lite.apps import studies

    with tempfile.TemporaryDirectory() as folder:
        result = studies.run(source, out=folder, timeout=3_600)
        if result.ok:
            return adopt(source, Path(folder), f"{result.seconds:.0f} s")
    print(f"{source.stem}: {result.error}", flush=True)
    return False


def adopt(source: Path, folder: Path, done: str = "taken over") -> bool:
    """Tidy, check and write what was executed in ``folder``; False, with a line that says why, for what must not be."""
    from devilgan_lite.apps.studies.notebooks import read_notebook

    executed, measured = (folder / source.stem / name for name in (f"{source.stem}.ipynb", "result.json"))
    result = json.loads(measured.read_text(encoding="utf-8"))
    if result.get("profile") != "workshop" or result.get("error"):
        print(f"{source.stem}: {folder} holds no whole run of the workshop profile.", flush=True)
        return False
    document = read_notebook(executed)
    document.cells = [cell for cell in document.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    for number, cell in enumerate((cell for cell in document.cells if cell.get("execution_count")), start=1):
        cell.execution_count = number
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
    document = tidy(document, {str(folder.resolve()): "out", str(ROOT): ".", str(Path.home()): "~"})
    document.metadata["devilgan_lite"] = {"version": result["versions"]["devilgan_lite"], "zoo": result["zoo"]}
    return write(document, source.stem, done)


def helping(code: str, count: int) -> Any:
    """What a cell of hints shows; it is run for that."""
    from nbformat.v4 import new_output

    *before, last = ast.parse("from devilgan_lite.apps.course import hint, hints, solution\n" + code).body
    names: dict[str, Any] = {}
    exec(compile(ast.Module(before, []), "<hints>", "exec"), names)
    value = eval(compile(ast.Expression(last.value), "<hints>", "eval"), names)  # type: ignore[attr-defined]
    return new_output(
        "execute_result", {"text/html": value.data, "text/plain": repr(value)}, metadata={}, execution_count=count
    )


def renew(source: Path) -> bool:
    """Take text, hints and metadata from ``source``, outputs from the executed notebook; False where code differs."""
    from devilgan_lite.apps.course.lesson.editions import read_help
    from devilgan_lite.apps.studies.notebooks import read_notebook

    def executed_code(cells: list[Any]) -> list[str]:
        return ["" if read_help(cell.source) else cell.source.strip() for cell in cells]

    built = NOTEBOOKS / f"{source.stem}.ipynb"
    if not built.is_file():
        print(f"{built.name} is missing; run make notebooks.", flush=True)
        return False
    document, fresh = read_notebook(built), read_notebook(source).cells
    old, new = ([cell for cell in found if cell.cell_type == "code"] for found in (document.cells, fresh))
    if executed_code(old) != executed_code(new):
        print(f"{source.stem}: its code has changed; run make notebooks.", flush=True)
        return False
    for cell, executed in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = executed.outputs, executed.execution_count
        if read_help(cell.source):
            cell.outputs = [helping(cell.source, cell.execution_count)]
    document.cells = fresh
    return write(tidy(document, {}), source.stem, "text renewed")


def write(document: Any, name: str, done: str) -> bool:
    """Write a notebook that is fit to be committed; False, with a line that says why, for any other."""
    import nbformat

    text, found = nbformat.writes(document) + "\n", problems(document, name)
    for problem in found:
        print(f"{name}: {problem}", flush=True)
    if not found:
        (NOTEBOOKS / f"{name}.ipynb").write_text(text, encoding="utf-8")
        print(f"{name}: {done}, {len(text) / 1000:.0f} kB", flush=True)
    return not found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", default="", help="numbers, such as 00,03, or re for the report")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--check", action="store_true", help="execute nothing; compare every notebook with its source")
    how.add_argument("--text", action="store_true", help="execute nothing but hints; renew them, text and metadata")
    how.add_argument("--tour", type=Path, metavar="FOLDER", help="execute nothing; take what a tour has executed there")
    options = parser.parse_args()
    wanted = [part.strip() for part in options.only.split(",") if part.strip()]
    chosen = [path for path in sources() if not wanted or path.stem[:2] in wanted]
    missing = sorted(set(wanted) - {path.stem[:2] for path in chosen})
    if missing or not chosen:
        parser.error(f"there is no notebook {missing[0]}." if missing else "there are no notebooks in notebooks/src.")
    if options.check:
        found = check(chosen)
        print("\n".join(found) or f"{len(chosen)} notebooks hold the cells of their sources and are fit to be shown.")
        return bool(found)
    if options.text:
        return not all([renew(path) for path in chosen])
    if options.tour:
        return not all([adopt(path, options.tour) for path in chosen if path.stem != "report"])
    os.environ.pop("DEVILGAN_PROFILE", None)  # the source's own profile, which is the workshop's
    os.environ |= {"DEVILGAN_THREADS": "1", "OMP_NUM_THREADS": "1"}
    return not all([build(path) for path in chosen])


if __name__ == "__main__":
    sys.exit(main())
