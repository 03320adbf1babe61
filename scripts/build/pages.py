"""Do the pages keep their word? One line for each problem, and exit code 1 if there is one; it takes seconds.

    pages.py [CHECK ...]

It compares text with text: links, numbers, commands, quotes, plans, terms, the form of decisions, tables with their
rows, the contents of the site, the citation, and what holds of every file. What has to be run is run by
tests/test_docs.py, which also plants a fault of each kind.
"""

import ast
import contextlib
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts" / kind) for kind in ("build", "release", "bench")]

import badges as badge_block  # noqa: E402
import claims  # noqa: E402
import website  # noqa: E402

from devilgan_lite.cli import app  # noqa: E402

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
PLANS = {"A demo of 20 minutes": 20, "A workshop of 90 minutes": 90, "A half day": 210}
TABLES = {  # module of scripts/bench: its rows and its page in docs/results
    "robustness_tables": "robustness", "attacks_tables": "benchmark", "detect_tables": "detection",
    "faces_tables": "faces", "runs": "studies_bench", "sanitize_tables": "sanitization",
    "style_tables": "detection_style", "challenge": "challenge", "foreign_tables": "foreign", "fraud_tables": "fraud",
    "art_tables": "art", "fraud_ctgan": "fraud_ctgan", "others_tables": "others", "sound_tables": "sound",
    "formats": "formats", "hostile": "hostile", "keyed": "keyed", "service": "service", "tables": "tables",
}  # fmt: skip
MACHINE_PATH = re.compile(r"(?<![\w.-])/(?:work|root)/|\.\./shared\b")
GUIDE, README = "docs/instructor_guide.md", "README.md"


class Pages:
    """The texts of files by their path from the root; some may be ``changed``, to see whether a check finds that."""

    def __init__(self, changed: dict[str, str] | None = None) -> None:
        self.changed = changed or {}

    def __getitem__(self, name: str) -> str:
        return self.changed[name] if name in self.changed else (ROOT / name).read_text(encoding="utf-8")

    def under(self, *patterns: str) -> list[str]:
        """The paths of the files that match."""
        return sorted({path.relative_to(ROOT).as_posix() for pattern in patterns for path in ROOT.glob(pattern)})


def fences(text: str, language: str = r"\w*") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def links(pages: Pages) -> Iterator[str]:
    """Every link leads to a file that is there, and every anchor to a title in it."""
    for name in pages.under("*.md", "data/README.md", "docs/**/*.md", ".github/**/*.md"):
        found = re.findall(r"\]\(([^)\s]*)[^)]*\)", pages[name])
        for link in (link for link in found if "://" not in link):
            place, _, anchor = link.partition("#")
            there = (ROOT / name).parent / place if place else ROOT / name
            if not there.exists():
                yield f"{name}: {link} leads nowhere."
            elif anchor:
                titles = re.findall(r"^#+ (.+)$", pages[there.resolve().relative_to(ROOT).as_posix()], re.MULTILINE)
                if anchor not in {re.sub(r"[^\w -]", "", one.lower()).strip().replace(" ", "-") for one in titles}:
                    yield f"{name}: {link} names no title."


def numbers(pages: Pages) -> Iterator[str]:
    """Every number of README and SECURITY is that of the committed rows."""
    yield from claims.problems({name: pages[f"{name}.md"] for name in ("README", "SECURITY")})


def readme(pages: Pages) -> Iterator[str]:
    """Film, two commands and ten lines first; all commands, notebooks and badges; extras that exist."""
    text, (_, *sections) = pages[README], pages[README].split("\n## ")
    opening = text.split("\n## ")[0]
    told = [shlex.split(line, comments=True) for block in fences(text, "bash") for line in block.splitlines() if line]
    listed = re.search(r"`devilgan ((?:\w+ \| )+\w+)`", text)
    extras = tomllib.loads(pages["pyproject.toml"])["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"\[([a-z,]+)\]'", text) for name in group.split(",")}
    rows = re.findall(r"^\| \[(\d\d) [^|]+\]\(notebooks/(\S+)\.ipynb\) \| [^|]+ \| \d+:[0-5]\d \|$", text, re.MULTILINE)
    notebooks = [Path(name).stem for name in pages.under("notebooks/[0-9][0-9]_*.ipynb")]
    facts = {
        "opens with the film": "](docs/pictures/faces_to_stop_sign.webp)" in opening,
        "shows make tour and make test first": told[:2] == [["make", "tour"], ["make", "test"]],
        "does the whole round in ten lines": [len(code.splitlines()) for code in fences(opening, "python")] == [10],
        "has a map": opening.count("\n| ") >= 8,
        "names its limits first": sections[0].startswith("Limits first"),
        "shows commands of this project only": {words[0] for words in told} == {"make", "devilgan"},
        "names every subcommand": listed and set(listed[1].split(" | ")) == set(get_command(app).commands),  # type: ignore[attr-defined]
        "names extras that exist": bool(named) and named <= set(extras),
        "lists every notebook with its time": [name for _, name in rows] == notebooks,
        "numbers notebooks as they are called": all(name.startswith(number) for number, name in rows),
        "has the badges of scripts/release/badges.py": badge_block.with_badges(text) == text,
    }
    yield from (f"{README}: not true that it {fact}." for fact, holds in facts.items() if not holds)


def shown_commands(text: str) -> Iterator[list[str]]:
    """Every command of this project in ``text``, in code or between backticks: devilgan, make, python."""
    text = text.replace("\\\n", " ")
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for line in [*(line for block in fences(text) for line in block.splitlines()), *spans]:
        if re.match(r"(\S*/)?(devilgan|make|python) ", line) and "'" not in line:
            program, *words = shlex.split(line, comments=True)
            yield [Path(program).name, *words]


def commands(pages: Pages) -> Iterator[str]:
    """Commands in documents exist: subcommands and options, targets of the Makefile, scripts and their options."""
    targets = {one for line in re.findall(r"^([a-z][a-z ]*):", pages["Makefile"], re.MULTILINE) for one in line.split()}
    scripts = {Path(name).parts[1:] for name in pages.under("scripts/*/*.py") if "_" not in Path(name).name}
    for name in pages.under("*.md", "docs/*.md", "docs/decisions/*.md"):
        for program, *rest in shown_commands(pages[name] if name != "CHANGELOG.md" else ""):  # names what is gone
            wrong: list[str] = []
            if program == "make":
                wrong = [word for word in rest if "=" not in word and word not in targets]
                given = [word.removeprefix("NAME=") for word in rest if word.startswith("NAME=")]
                wrong += [one for one in given if one != "..." and (rest[0], f"{one}.py") not in scripts]
            elif program == "python":
                known = pages[rest[0]] if (ROOT / rest[0]).is_file() else ""
                wrong = [word for word in rest[1:] if word.startswith("--") and f'"{word}"' not in known]
                wrong += [] if known else rest[:1]
            elif "|" not in rest:  # a list of subcommands
                command: Any = get_command(app)
                while hasattr(command, "commands") and rest and rest[0] in command.commands:
                    command, rest = command.commands[rest[0]], rest[1:]
                valid = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
                wrong = [word for word in rest if word.startswith("-") and word not in valid]
                wrong += (rest[:1] or ["nothing"]) if hasattr(command, "commands") else []
            yield from (f"{name}: there is no {one!r} for {program} {' '.join(rest)}." for one in wrong)


def plain(text: str) -> str:
    """Lower case, without accents on Fréchet, hyphens, marks and line ends; names of code are taken apart."""
    parts = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", text.replace("é", "e"))
    return re.sub(r"[\s`*_-]+", " ", parts.lower())


def glossary(pages: Pages) -> Iterator[str]:
    """Every term is used somewhere and explained once, and so is every concept."""
    terms = re.findall(r"^\| \*\*(.+?)\*\* \|", pages["docs/glossary.md"], re.MULTILINE)
    places = pages.under("notebooks/src/*.py", "devilgan_lite/**/*.py", "docs/decisions/*.md")
    corpus = plain(" ".join(re.sub(r"\n# ?", "\n", pages[name]) for name in places))
    for term in terms:
        for part in re.split(r", | and ", term.partition(" (")[0]):
            if not re.search(rf"(?<!\w){re.escape(plain(part).strip())}", corpus):
                yield f"docs/glossary.md: nobody uses {part!r}."
    yield from (f"docs/glossary.md: {term!r} stands there twice." for term in {*terms} if terms.count(term) > 1)
    named = {part for term in terms for part in (term, *re.split(r", ", term), term.partition(" (")[0])}
    yield from (f"docs/glossary.md: {concept!r} is not explained." for concept in CONCEPTS if concept not in named)


def english(pages: Pages) -> Iterator[str]:
    """Plain English."""
    for name in pages.under("*.md", "docs/*.md", "docs/decisions/*.md"):
        text = " ".join(pages[name].split())
        yield from (f"{name}: {riddle} is no plain English." for riddle in RIDDLES if re.search(riddle, text))


def decisions(pages: Pages) -> Iterator[str]:
    """A decision has four parts, and says what was measured and where; its spreads stand there."""
    for name in pages.under("docs/decisions/*.md"):
        text, number = pages[name], int(Path(name).name[:2])
        parts = re.findall(r"^\*\*(\w+)\.\*\*", text, re.MULTILINE)
        if parts != ["Context", "Choice", "Measured", "Consequences"] or not text.startswith(f"# {number}. "):
            yield f"{name}: no title {number}, or not Context, Choice, Measured, Consequences but {', '.join(parts)}."
            continue
        measured = " ".join(text.split("**Measured.**")[1].split("**Consequences.**")[0].split())
        files = [(ROOT / name).parent / link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", measured)]
        if not files and "commit `" not in measured:
            yield f"{name}: where was it measured?"
        sources = " ".join(file.read_text(encoding="utf-8") for file in files if file.is_file())
        spreads = re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?:e-\d+)? ± \d+(?:\.\d+)?(?:e-\d+)?", measured)
        yield from (f"{name}: {spread} stands in none of its sources." for spread in spreads if spread not in sources)


def plans(pages: Pages) -> Iterator[str]:
    """The instructor's plans go minute by minute to the end."""
    for title, minutes in PLANS.items():
        section = pages[GUIDE].partition(f"## {title}\n")[2].split("\n## ")[0]
        spans = [tuple(map(int, pair)) for pair in re.findall(r"^\| (\d+)-(\d+) \|", section, re.MULTILINE)]
        ends = [0, *(end for _, end in spans)]
        if len(spans) < 6 or [start for start, _ in spans] != ends[:-1] or ends != sorted(set(ends)):
            yield f"{GUIDE}: {title!r} has a gap, or less than six steps: {spans}."
        elif ends[-1] != minutes:
            yield f"{GUIDE}: {title!r} ends after {ends[-1]} minutes."


def quotes(pages: Pages) -> Iterator[str]:
    """Expected output is what the executed notebooks printed, of every notebook of the sequence."""
    quoted = fences(pages[GUIDE].partition("## Expected output")[2])[0].splitlines()
    said: dict[str, str] = {}
    for name in pages.under("notebooks/[0-9][0-9]_*.ipynb"):
        cells = json.loads(pages[name])["cells"]
        texts = ["".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", [])]
        said[Path(name).name[:2]] = " ".join(" ".join(texts).split())
    for line in filter(str.strip, quoted):
        if line[4:] not in said.get(line[:2], ""):
            yield f"{GUIDE}: notebook {line[:2]} does not print {line[4:]!r}."
    for number in sorted({f"{number:02d}" for number in range(10)} - {line[:2] for line in quoted}):
        yield f"{GUIDE}: of notebook {number} no output is quoted."


def tables(pages: Pages) -> Iterator[str]:
    """The tables of results are what their benches make of the committed rows."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(ROOT / "docs/results/sanitization_curves.json", folder)
        for module, name in TABLES.items():
            made = Path(folder) / f"{name}.md"
            with contextlib.redirect_stdout(io.StringIO()):
                bench: Any = importlib.import_module(module)
                bench.write_tables(json.loads(pages[f"docs/results/{name}.json"]), made)
            if made.read_text(encoding="utf-8") != pages[f"docs/results/{name}.md"]:
                yield f"docs/results/{name}.md is not what scripts/bench/{module}.py makes of {name}.json."


def site(pages: Pages) -> Iterator[str]:
    """The documentation site has every page once and no other, the README first."""
    listed = list(website.pages(yaml.safe_load(pages["docs/myst.yml"])["project"]["toc"]))
    expected = set(pages.under("*.md", "docs/**/*.md", "notebooks/*.ipynb"))
    yield from (f"docs/myst.yml: {name} stands there twice." for name in {*listed} if listed.count(name) > 1)
    yield from (f"docs/myst.yml: {name} is missing." for name in sorted(expected - {*listed}))
    yield from (f"docs/myst.yml: there is no {name}." for name in listed if not (ROOT / name).is_file())
    yield from () if listed[0] == README else [f"docs/myst.yml: it begins with {listed[0]}."]


def metadata(pages: Pages) -> Iterator[str]:
    """Citation, changelog, conda environment, pins and hosted checks say what pyproject.toml says."""
    project = tomllib.loads(pages["pyproject.toml"])["project"]
    citation = yaml.safe_load(pages["CITATION.cff"])
    *conda, pip = yaml.safe_load(pages["environment.yml"])["dependencies"]
    pinned = [name for name in project["dependencies"] if name.startswith("torch")]
    jobs = yaml.safe_load(pages[".github/workflows/ci.yml"])["jobs"]
    steps = [step for job in jobs.values() for step in job["steps"]]
    (matrix,) = [job["strategy"]["matrix"] for job in jobs.values() if "strategy" in job]
    paper = [person["family-names"] for person in citation["references"][0]["authors"]]
    facts = {
        "CITATION.cff is of format 1.2.0, of software, with a message and a title": (
            [citation["cff-version"], citation["type"]] == ["1.2.0", "software"]
            and citation.keys() > {"message", "title"}
        ),
        "CITATION.cff has the version, licence and authors of pyproject.toml": (
            [str(citation["version"]), citation["license"], [author["name"] for author in citation["authors"]]]
            == [project["version"], project["license"], [author["name"] for author in project["authors"]]]
        ),
        "CITATION.cff names the authors of the paper": paper == ["Rawat", "Levacher", "Sinn"],
        "CHANGELOG.md has the version": f"## [{project['version']}]" in pages["CHANGELOG.md"],
        "environment.yml installs what pyproject.toml says": (
            pip["pip"] == ["-e .[notebooks,dev]"] and f"python={project['requires-python'].removeprefix('>=')}" in conda
        ),
        "torch and torchvision are pinned as a pair": (
            [re.split(r"[<>=]", name)[0] for name in pinned] == ["torch", "torchvision"]
            and all(re.fullmatch(r"\w+>=0?\d*\.\d+,<\d+\.\d+", name) for name in pinned)
        ),
        "ci.yml covers three systems and three Pythons": (
            [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "macos", "windows"]
            and matrix["python"] == ["3.11", "3.12", "3.13"]
        ),
        "each step of ci.yml runs or uses something, and one runs .ci/run": (
            all(("run" in step) != ("uses" in step) for step in steps)
            and ".ci/run" in [step.get("run") for step in steps]
        ),
        ".ci/run runs make test": pages[".ci/run"].rstrip().endswith("exec make test"),
    }  # fmt: skip
    yield from (f"not true that {fact}." for fact, holds in facts.items() if not holds)


def files(pages: Pages) -> Iterator[str]:
    """No file names a machine's path; modules open with a sentence and assert nothing; data has a description."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    for name in sorted({name for name in listed if name and (ROOT / name).is_file()}):
        if Path(name).suffix in (".npz", ".safetensors", ".png"):
            continue
        text = pages.changed.get(name) or (ROOT / name).read_bytes().decode("utf-8", "replace")
        for number, line in enumerate(text.split("\n") if MACHINE_PATH.search(text) else (), start=1):
            if MACHINE_PATH.search(line):
                yield f"{name}:{number} names the path of a machine."
        if name.startswith("devilgan_lite/") and name.endswith(".py"):
            tree = ast.parse(text)
            if tree.body and not re.match(r"(\S+\s+){3,}?\S*[.:?](\s|$)", ast.get_docstring(tree) or ""):
                yield f"{name} does not open with a sentence."
            for node in ast.walk(tree):
                if isinstance(node, ast.Assert):
                    yield f"{name}:{node.lineno} asserts; python -O leaves that out."
    shipped = {name.split("/")[1] for name in listed if name.startswith("data/")} - {"README.md"}
    yield from (
        f"data/README.md: {name} is not named." for name in sorted(shipped) if name not in pages["data/README.md"]
    )


CHECKS: dict[str, Callable[[Pages], Iterator[str]]] = {
    check.__name__: check
    for check in (links, numbers, readme, commands, glossary, english, decisions, plans, quotes, tables, site, metadata,
                  files)
}  # fmt: skip


def main(names: list[str]) -> int:
    if unknown := set(names) - set(CHECKS):
        print(f"check={min(unknown)!r} is unknown; valid: {', '.join(CHECKS)}.", file=sys.stderr)
        return 2
    found = [problem for name in names or CHECKS for problem in CHECKS[name](Pages())]
    print("\n".join(found) or f"{len(names or CHECKS)} checks of the pages hold.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
