"""The README keeps its word: its commands exist, its links resolve, its Python runs."""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "data/README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]


def check_cli(words: list[str]) -> None:
    """Walk ``words`` down the command line's groups; every ``--option`` must be one of the command that it reaches."""
    command: Any = get_command(importlib.import_module("devilgan_lite.cli").app)
    while hasattr(command, "commands"):
        assert words and words[0] in command.commands, f"{words} is none of {sorted(command.commands)}"
        command, words = command.commands[words[0]], words[1:]
    options = {option for parameter in command.params for option in parameter.opts}
    assert [word for word in words if word.startswith("-") and word not in options] == []


def test_readme_has_commands() -> None:
    assert "make tour" in COMMANDS
    assert "make test" in COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_command_exists(command: str) -> None:
    program, *words = shlex.split(command, comments=True)
    if program == "make":
        done = subprocess.run(["make", "--dry-run", *words], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    elif program == "devilgan":
        check_cli(words)
    elif program == "conda":
        assert (ROOT / words[-1]).is_file()
    else:
        pytest.fail(f"the README shows {program!r}, which this test does not know")


# Every command of the README is run as it stands by test_command_runs, with less to do where it would take minutes, or
# by the tests named here: a file and a function, and why.
LESS: dict[str, list[str]] = {
    "devilgan attack": ["--iterations", "3"],
    "devilgan sanitize": ["--iterations", "2"],
    "devilgan run": ["-p", "profile=smoke"],
    "devilgan film": ["--no-browser", "--frames", "8"],
}
ELSEWHERE: dict[str, tuple[str, str, str]] = {
    "make tour": ("tests/test_cli.py", "test_tour_collects_the_attacks", "runs every notebook: a quarter of an hour"),
    "make test": ("tests/test_project.py", "test_ci_runs_make_test", "runs this test"),
    "make film": ("tests/test_cli_film.py", "test_the_film_moves_from_a_face", "would install; its recipe is below"),
    "conda env create": ("tests/test_project.py", "test_environment_mirrors_pyproject", "needs a network"),
}
RUN = [command for command in COMMANDS if not command.startswith(tuple(ELSEWHERE))]


@pytest.mark.parametrize("command", ELSEWHERE)
def test_what_is_run_elsewhere_is_in_the_readme_and_is_run_there(command: str) -> None:
    file, function, _ = ELSEWHERE[command]
    assert any(shown.startswith(command) for shown in COMMANDS)
    assert f"def {function}" in (ROOT / file).read_text()


def test_only_commands_of_this_project_are_run_here() -> None:
    assert {command.split()[0] for command in RUN} == {"devilgan"}
    assert {" ".join(command.split()[:2]) for command in RUN} >= set(LESS)


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN)
def test_command_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").symlink_to(ROOT / "studies")
    program, *words = shlex.split(command, comments=True)
    less = LESS.get(f"{program} {words[0]}", [])
    done = CliRunner().invoke(importlib.import_module("devilgan_lite.cli").app, [*words, *less])
    allowed = (
        {0, 1} if "--check" in words else {0, 3} if words[0] in ("scan", "sanitize") else {0}
    )  # 1: no browser here
    assert done.exit_code in allowed, done.output
    assert done.stdout.strip() and "Traceback" not in done.output
    for flag in ("--out", "--html"):
        if flag in words:
            assert (tmp_path / words[words.index(flag) + 1]).exists() or words[
                0
            ] == "sanitize"  # which may find nothing


def test_make_film_is_an_installation_and_the_film() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert re.search(r"^film: setup\b.*\n\t\$\(BIN\)/devilgan film\n", makefile, re.MULTILINE)


@pytest.mark.slow
def test_from_the_installation_to_a_moving_picture(tmp_path: Path) -> None:
    path = README[README.index("```bash\n") : README.index("make film") + len("make film")]
    assert len([line for line in path.splitlines() if line.startswith("make ")]) <= 3
    code = "from devilgan_lite.cli import app; app()"
    command = [sys.executable, "-c", code, "film", "--no-browser"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "out/film.webp") as film:
        assert film.n_frames == 60


BADGES = runpy.run_path(str(ROOT / "scripts/release/badges.py"))


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


def test_the_picture_comes_first() -> None:
    opening = README.split("\n## ")[0]
    assert "](docs/pictures/faces_to_stop_sign.webp)" in opening
    titles = re.findall(r"^## (.+)$", README, re.MULTILINE)
    assert titles[:2] == ["What you will learn", "Two commands"]


def test_every_notebook_stands_in_the_map_with_its_time() -> None:
    rows = re.findall(
        r"^\| \[(\d\d) [^|]+\]\(notebooks/(\S+)\.ipynb\) \| [^|]+ \| (\d+:[0-5]\d) \|$", README, re.MULTILINE
    )
    names = sorted(path.stem for path in ROOT.glob("notebooks/[0-9][0-9]_*.ipynb"))
    assert [name for _, name, _ in rows] == names
    assert all(name.startswith(number) for number, name, _ in rows)


def test_every_named_subcommand_exists() -> None:
    listed = re.search(r"`devilgan ((?:\w+ \| )+\w+)`", README)
    assert listed
    for name in listed[1].split(" | "):
        assert name in get_command(importlib.import_module("devilgan_lite.cli").app).commands, name


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_resolve(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_python_imports_resolve() -> None:
    for node in ast.walk(ast.parse("".join(blocks("python")))):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(str(node.module))
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []


@pytest.mark.slow
def test_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    scope: dict[str, Any] = {}
    exec("".join(blocks("python")), scope)
    assert scope["picture"].shape == (1, 1, 28, 28)
    assert "tardis" in capsys.readouterr().out.lower()


def test_measured_section_has_its_markers() -> None:
    begin, end = README.index("<!-- measured:begin -->"), README.index("<!-- measured:end -->")
    assert begin < end
