"""The README keeps its word: commands exist and run, links resolve, its Python runs, its numbers are measured."""

import importlib
import re
import runpy
import shlex
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [*ROOT.glob("*.md"), ROOT / "data/README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob(".github/**/*.md")]
BADGES = runpy.run_path(str(ROOT / "scripts/release/badges.py"))
PLACES = list(sys.path)
CLAIMS = runpy.run_path(str(ROOT / "scripts/build/claims.py"))
sys.path[:] = PLACES  # its neighbours have the names of modules of other tests
CLI: Any = get_command(importlib.import_module("devilgan_lite.cli").app)


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [shlex.split(line, comments=True) for block in blocks("bash") for line in block.splitlines() if line]
# With less to do where a command would take minutes. ``make tour`` and ``make test`` are run by people and by .ci/run.
LESS = {
    "attack": ["--iterations", "3", "--samples", "200"],
    "sanitize": ["--iterations", "2"],
    "run": ["-p", "profile=smoke"],
    "film": ["--frames", "8", "--no-browser"],
}


def test_it_opens_with_the_film_two_commands_ten_lines_and_the_map() -> None:
    opening = README.split("\n## ")[0]
    assert "](docs/pictures/faces_to_stop_sign.webp)" in opening
    assert COMMANDS[:2] == [["make", "tour"], ["make", "test"]]
    assert len(opening.split("```python\n")[1].split("```")[0].splitlines()) == 10
    assert opening.count("\n| ") >= 8
    assert README.split("\n## ")[1].startswith("Limits first")


@pytest.mark.slow
@pytest.mark.parametrize("words", [words[1:] for words in COMMANDS if words[0] != "make"], ids=" ".join)
def test_command_runs(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    done = CliRunner().invoke(importlib.import_module("devilgan_lite.cli").app, [*words, *LESS.get(words[0], [])])
    allowed = {
        "scan": {0, 3, 4},
        "sanitize": {0, 3},
        "stage": {0, 1},
    }  # 3, 4: found; 1: no browser
    assert done.exit_code in allowed.get(words[0], {0}), done.output
    assert done.stdout.strip() and "Traceback" not in done.output
    written = [tmp_path / value for flag, value in zip(words, words[1:], strict=False) if flag in ("--out", "--html")]
    assert words[0] == "sanitize" or all(path.exists() for path in written)  # sanitize may find nothing


def test_only_commands_of_this_project_are_shown() -> None:
    assert {words[0] for words in COMMANDS} == {"make", "devilgan"}


def test_every_subcommand_is_named_and_exists() -> None:
    listed = re.search(r"`devilgan ((?:\w+ \| )+\w+)`", README)
    assert listed and set(listed[1].split(" | ")) == set(CLI.commands)


def test_extras_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    named = {name for group in re.findall(r"\[([a-z,]+)\]'", README) for name in group.split(",")}
    assert named and named <= set(extras)


@pytest.mark.slow
def test_python_runs_offline(capsys: pytest.CaptureFixture[str]) -> None:  # tests/conftest.py has closed the network
    (code,) = blocks("python")
    less = {
        "backdoor, real))": "backdoor, real, samples=500))",
        "report=report))  # cut": "report=report, iterations=50))  #",
    }
    for much, little in less.items():
        assert much in code
        code = code.replace(much, little)
    scope: dict[str, Any] = {}
    exec(code, scope)
    assert scope["picture"].shape == (1, 1, 28, 28)
    printed = capsys.readouterr().out
    assert "tardis" in printed.lower() and "\nbackdoored  (" in printed and "after: " in printed


def test_badges_are_those_of_the_address_in_pyproject() -> None:
    assert BADGES["with_badges"](README) == README, "run python scripts/release/badges.py"


@pytest.mark.parametrize("name", [None, "some-one/a.repo"])
def test_badges_have_the_form_that_the_services_want(name: str | None) -> None:
    found = re.findall(r"\[!\[([^\]]+)\]\(([^)]+)\)\]\(([^)]+)\)", BADGES["badges"](name))
    assert [alt for alt, _, _ in found] == ["Open in Colab", "Launch Binder"]
    assert all((ROOT / picture).is_file() for _, picture, _ in found)
    colab, binder = (address for _, _, address in found)
    if name is None:
        assert (colab, binder) == ("https://colab.research.google.com/github/", "https://mybinder.org/")
        return
    match = re.fullmatch(rf"https://colab\.research\.google\.com/github/{name}/blob/main/(.+\.ipynb)", colab)
    assert match and (ROOT / match[1]).is_file()
    match = re.fullmatch(rf"https://mybinder\.org/v2/gh/{name}/main\?urlpath=lab/tree/(.+\.ipynb)", binder)
    assert match and (ROOT / match[1]).is_file()
    assert f"git clone https://github.com/{name} " in BADGES["badges"](name)


@pytest.mark.parametrize("address", ["https://gitlab.com/a/b", "github.com/a/b", "https://github.com/a"])
def test_an_address_of_another_form_is_one_sentence(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomllib.loads", lambda text: {"project": {"urls": {"Repository": address}}})
    with pytest.raises(ValueError, match="must be https://github.com/OWNER/NAME"):
        BADGES["repository"]()


def test_every_notebook_is_listed_with_its_time() -> None:
    rows = re.findall(
        r"^\| \[(\d\d) [^|]+\]\(notebooks/(\S+)\.ipynb\) \| [^|]+ \| \d+:[0-5]\d \|$", README, re.MULTILINE
    )
    assert [name for _, name in rows] == sorted(path.stem for path in ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))
    assert all(name.startswith(number) for number, name in rows)


def test_every_measured_number_is_that_of_the_committed_rows() -> None:
    assert CLAIMS["problems"](CLAIMS["read_pages"]()) == [], "run python scripts/build/claims.py --write"


@pytest.mark.parametrize(
    ("page", "old", "new", "said"),
    [
        ("README", "AUC of the score | ", "AUC of the score | 1", "the rows say"),
        ("SECURITY", "the same, with ReX | ", "the same, with ReX | 1", "the rows say"),
        ("SECURITY", "## How to report", "It is right in 99 % of all cases.\n## How to report", "no claim derives 99"),
        ("README", "AUC of the score", "area", "stands there 0 times"),
    ],
)
def test_a_number_that_no_row_gives_is_found(page: str, old: str, new: str, said: str) -> None:
    pages = CLAIMS["read_pages"]()
    assert old in pages[page]
    pages[page] = pages[page].replace(old, new, 1)
    assert any(said in problem for problem in CLAIMS["problems"](pages))


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]*)[^)]*\)", page.read_text(encoding="utf-8"))
    for place, _, anchor in (link.partition("#") for link in links if "://" not in link):
        there = page.parent / place if place else page
        assert there.exists(), place
        assert not anchor or anchor in anchors(there), f"{place}#{anchor}"
