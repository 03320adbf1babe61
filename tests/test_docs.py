"""The documents keep their word: terms, plans, quotes, commands, recipes; the site, the citation, the hosted checks."""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from devilgan_lite.cli import app

ROOT = Path(__file__).resolve().parents[1]
GUIDE = (ROOT / "docs/instructor_guide.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs/glossary.md").read_text(encoding="utf-8")
SITE = runpy.run_path(str(ROOT / "scripts/release/website.py"))
TOC: list[dict[str, Any]] = SITE["configuration"](None)["project"]["toc"]
PAGES: list[str] = list(SITE["pages"](TOC))
CONCEPTS = (
    "TrAIL", "ReD", "ReX", "gate", "closed form", "TarDis", "ExpDis", "RecD", "Fréchet distance", "latent", "trigger",
    "target", "backdoor", "fidelity", "stealth", "generator", "discriminator", "prior", "P_sample", "shell", "slerp",
    "morph", "folding", "leverage", "scan", "guard", "access level", "p-value", "energy-influence spectrum",
    "sanitize", "projection", "clip", "unlearning", "fine-tuning", "pruning", "repair", "style", "`w+`", "inversion",
    "scorecard", "model card", "zoo", "profile", "study, sweep", "single run", "film", "modality", "family", "adopt",
    "trigger-aligned units", "weight analysis",
)  # fmt: skip
RIDDLES = (  # of version 0.1, and words that are not plain English
    r"\bshall\b", r"\bdear\b", "comes? on top", "hardly took", "behind that step", "draw the trigger too",
    "missed is missed", "is heard", "say what that costs", "everybody tries first", "a toss of a coin",
)  # fmt: skip


CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"^## Add an? (\w+)\n[^#]*?^```python\n(.*?)^```", CONTRIBUTING, re.MULTILINE | re.DOTALL))


def terms() -> list[str]:
    return re.findall(r"^\| \*\*(.+?)\*\* \|", GLOSSARY, re.MULTILINE)


def plain(text: str) -> str:
    """Lower case, without accents on Fréchet, hyphens, marks and line ends; names of code are taken apart."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text.replace("é", "e"))
    return re.sub(r"[\s`*_-]+", " ", parts.lower())


@pytest.fixture(scope="module")
def corpus() -> str:
    places = [*ROOT.glob("notebooks/src/*.py"), *ROOT.glob("devilgan_lite/**/*.py"), *ROOT.glob("docs/decisions/*.md")]
    return plain(" ".join(re.sub(r"\n# ?", "\n", path.read_text(encoding="utf-8")) for path in sorted(places)))


@pytest.mark.parametrize("term", terms())
def test_every_term_of_the_glossary_is_used(term: str, corpus: str) -> None:
    for part in re.split(r", | and ", term.partition(" (")[0]):
        assert re.search(rf"(?<!\w){re.escape(plain(part).strip())}", corpus), part


def test_the_glossary_explains_what_a_reader_looks_up_once() -> None:
    assert len(terms()) == len(set(terms()))
    named = {part for term in terms() for part in (term, *re.split(r", ", term), term.partition(" (")[0])}
    assert set(CONCEPTS) - named == set()


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")],
                         ids=lambda path: path.name)  # fmt: skip
def test_plain_english(page: Path) -> None:
    text = " ".join(page.read_text(encoding="utf-8").split())
    assert [riddle for riddle in RIDDLES if re.search(riddle, text)] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/decisions/*.md")), ids=lambda path: path.name)
def test_a_decision_says_what_was_measured_and_where(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
    assert parts == ["Context", "Choice", "Measured", "Consequences"]
    assert re.match(rf"# {int(page.name[:2])}\. ", text)
    measured = " ".join(text.split("**Measured.**")[1].split("**Consequences.**")[0].split())
    files = [page.parent / link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", measured)]
    assert files or "commit `" in measured
    sources = " ".join(file.read_text(encoding="utf-8") for file in files)
    numbers = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)? ± \d+(?:\.\d+)?(?:e-\d+)?", measured)
    assert [number for number in numbers if number not in sources] == []


@pytest.mark.parametrize(
    ("title", "minutes"), [("A demo of 20 minutes", 20), ("A workshop of 90 minutes", 90), ("A half day", 210)]
)
def test_plans_go_minute_by_minute_to_the_end(title: str, minutes: int) -> None:
    section = GUIDE.split(f"## {title}\n")[1].split("\n## ")[0]
    spans = [tuple(map(int, pair)) for pair in re.findall(r"^\| (\d+)-(\d+) \|", section, re.MULTILINE)]
    assert len(spans) >= 6
    assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
    assert spans[-1][1] == minutes and all(start < end for start, end in spans)


def outputs(number: str) -> str:
    """All that the executed notebook prints, on one line."""
    document = json.loads(next(ROOT.glob(f"notebooks/{number}_*.ipynb")).read_text(encoding="utf-8"))
    texts = ["".join(output.get("text", "")) for cell in document["cells"] for output in cell.get("outputs", [])]
    return " ".join(" ".join(texts).split())


QUOTES = [
    (line[:2], line[4:])
    for line in GUIDE.split("## Expected output")[1].split("```")[1].splitlines()[1:]
    if line.strip()
]


def test_every_notebook_of_the_sequence_is_quoted() -> None:
    assert {number for number, _ in QUOTES} >= {f"{number:02d}" for number in range(10)}


@pytest.mark.parametrize(("number", "quote"), QUOTES)
def test_expected_output_is_what_the_notebook_printed(number: str, quote: str) -> None:
    assert quote in outputs(number)


def shown_commands(text: str) -> Iterator[list[str]]:
    """Every command of this project in ``text``, in code or between backticks: devilgan, make, python."""
    text = text.replace("\\\n", " ")
    code = re.findall(r"^```(?:\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [*(line for block in code for line in block.splitlines()), *spans]:
        if re.match(r"(\S*/)?(devilgan|make|python) ", line) and "'" not in line:
            program, *words = shlex.split(line, comments=True)
            yield [Path(program).name, *words]


DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md")]
COMMANDS = [
    (path.stem, words)
    for path in sorted(DOCUMENTS)
    if path.stem != "CHANGELOG"  # which names what is gone
    for words in shown_commands(path.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("document", "words"), COMMANDS, ids=lambda value: value if isinstance(value, str) else None)
def test_commands_of_the_documents_exist(document: str, words: list[str]) -> None:
    program, *rest = words
    if program == "make":
        if "NAME=..." not in rest:
            done = subprocess.run(["make", "--dry-run", *rest], cwd=ROOT, capture_output=True, text=True, timeout=60)
            assert done.returncode == 0, done.stderr
    elif program == "python":
        script = (ROOT / rest[0]).read_text(encoding="utf-8")
        assert all(f'"{word}"' in script for word in rest[1:] if word.startswith("--"))
    elif "|" not in rest:  # a list of subcommands
        command: Any = get_command(app)
        while hasattr(command, "commands"):
            assert rest and rest[0] in command.commands, words
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        assert [word for word in rest if word.startswith("-") and word not in known] == []


def test_the_site_has_every_page_once_and_no_other() -> None:
    pages = (*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("notebooks/*.ipynb"))
    expected = {path.relative_to(ROOT).as_posix() for path in pages}
    assert sorted(PAGES) == sorted(set(PAGES))
    assert expected - set(PAGES) == set() and [page for page in PAGES if not (ROOT / page).is_file()] == []
    assert PAGES[0] == "README.md"


def test_the_sources_of_the_site_are_copies_with_names_of_their_own(tmp_path: Path) -> None:
    SITE["copy_sources"](tmp_path / "sources")
    assert [page for page in PAGES if not (tmp_path / "sources" / page).is_file()] == []
    names = [
        cell["id"]
        for path in tmp_path.glob("sources/notebooks/*.ipynb")
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
    ]
    assert len(names) == len(set(names))
    quiz = (tmp_path / "sources/notebooks/00_two_minute_tour.ipynb").read_text(encoding="utf-8")
    assert quiz.count("<li>A. ") >= 5 and "<ol type=" not in quiz  # the theme would number the answers
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_theme_in_a_folder_takes_the_place_of_the_fetched_one(tmp_path: Path) -> None:
    assert SITE["configuration"](None)["site"]["template"] == "book-theme"
    assert SITE["configuration"](tmp_path)["site"]["template"] == str(tmp_path.resolve())
    command = [sys.executable, str(ROOT / "scripts/release/website.py"), "--theme", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "is no theme: it has no template.yml." in done.stderr


TABLES = {"robustness_tables": "robustness", "attacks_tables": "benchmark", "detect_tables": "detection",
          "faces_tables": "faces", "runs": "studies_bench", "sanitize_tables": "sanitization",
          "style_tables": "detection_style", "challenge": "challenge", "foreign_tables": "foreign",
          "fraud_tables": "fraud", "art_tables": "art", "fraud_ctgan": "fraud_ctgan", "others_tables": "others",
          "sound_tables": "sound"}  # fmt: skip
WRITE = """
import importlib, json, pathlib, sys
results, out = map(pathlib.Path, sys.argv[1:])
for module, name in {tables}.items():
    content = json.loads((results / f"{{name}}.json").read_text(encoding="utf-8"))
    importlib.import_module(module).write_tables(content, out / f"{{name}}.md")
"""


@pytest.mark.slow
def test_the_tables_of_results_are_what_the_benches_make_of_their_rows(tmp_path: Path) -> None:
    results = ROOT / "docs/results"
    shutil.copy(results / "sanitization_curves.json", tmp_path)
    paths = os.pathsep.join([str(ROOT / "scripts/bench"), os.environ["PYTHONPATH"]])
    command = [sys.executable, "-c", WRITE.format(tables=TABLES), str(results), str(tmp_path)]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in TABLES.values():
        made, kept = ((folder / f"{name}.md").read_text(encoding="utf-8") for folder in (tmp_path, results))
        assert made == kept, f"docs/results/{name}.md is not what its bench makes of {name}.json"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("node") is None or find_spec("mystmd_py") is None, reason="no Node.js or no mystmd")
def test_mystmd_reads_every_page_and_follows_every_reference(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts/release/website.py"), "--check", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, env=dict(os.environ))
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    assert "⛔" not in said and "⚠" not in said, said[-3000:]
    built = yaml.safe_load((tmp_path / "sources/_build/site/config.json").read_text(encoding="utf-8"))
    assert len(built["projects"][0]["pages"]) >= len(PAGES) - 1


def test_there_are_three_recipes() -> None:
    assert list(RECIPES) == ["detector", "attack", "family"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", RECIPES)
def test_the_recipe_works_as_it_is_printed(kind: str, tmp_path: Path) -> None:
    (tmp_path / f"{kind}.py").write_text(RECIPES[kind], encoding="utf-8")
    command = [sys.executable, f"{kind}.py"]  # tests/conftest.py closes the network of child processes too
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() and "Warning" not in done.stderr, done.stderr


def test_the_citation_is_one() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation) and citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software" and citation["license"] == project["license"]
    assert str(citation["version"]) == project["version"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in project["authors"]]
    assert [person["family-names"] for person in citation["references"][0]["authors"]] == ["Rawat", "Levacher", "Sinn"]


def test_the_hosted_checks_cover_three_systems_and_three_pythons() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))["jobs"]
    matrix = jobs["quick"]["strategy"]["matrix"]
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
    assert matrix["python"] == ["3.11", "3.12", "3.13"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    runs = [step["run"] for step in steps if "run" in step]
    assert any(run.startswith("make quick") for run in runs) and ".ci/run" in runs and len(runs) == 3
