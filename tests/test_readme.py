"""The README keeps its word: its commands exist, its links resolve, its Python runs."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "data/README.md", *sorted(ROOT.glob("docs/**/*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("bash") for line in block.splitlines() if line and not line.startswith("#")]


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))


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
        assert set(words) <= make_targets()
    elif program == "devilgan":
        check_cli(words)
    elif program == "conda":
        assert (ROOT / words[-1]).is_file()
    else:
        pytest.fail(f"the README shows {program!r}, which this test does not know")


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
