"""What holds of the repository as a whole: one list of dependencies, no trace of a machine, readable files."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
MACHINE_PATH = re.compile(rb"(?<![\w.-])/(?:work|root)/|\.\./shared\b")


def repository_files() -> list[Path]:
    """What is tracked, and what would be: new files that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return sorted({ROOT / name for name in names if name and (ROOT / name).is_file()})


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


FILES = repository_files()
PYTHON = [path for path in FILES if path.suffix == ".py" and not relative(path).startswith("notebooks/")]
PACKAGE = [path for path in PYTHON if relative(path).startswith("devilgan_lite/")]


def test_environment_mirrors_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    *conda, pip_section = environment["dependencies"]
    assert pip_section["pip"] == ["-e .[notebooks,dev]"]
    assert {"notebooks", "dev"} <= PROJECT["optional-dependencies"].keys()
    assert f"python={PROJECT['requires-python'].removeprefix('>=')}" in conda


def test_torch_and_torchvision_are_pinned_as_a_pair() -> None:
    pinned = [name for name in PROJECT["dependencies"] if name.startswith("torch")]
    assert [re.split(r"[<>=]", name)[0] for name in pinned] == ["torch", "torchvision"]
    assert all(re.fullmatch(r"\w+>=0?\d*\.\d+,<\d+\.\d+", name) for name in pinned), pinned


def test_changelog_has_the_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_names_a_machine_path() -> None:
    found = [
        f"{relative(path)}:{number}"
        for path in FILES
        if path.suffix not in (".npz", ".safetensors", ".png")
        for number, line in enumerate(path.read_bytes().splitlines(), start=1)
        if MACHINE_PATH.search(line)
    ]
    assert not found


def test_the_package_has_no_assert_statements() -> None:
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def test_imports_only_go_down() -> None:
    """The floors of the package stand in pyproject.toml."""
    tool = Path(sysconfig.get_path("scripts")) / "lint-imports"
    linted = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_package_modules_open_with_a_sentence() -> None:
    silent = [
        relative(path)
        for path in PACKAGE
        if (tree := ast.parse(path.read_text())).body
        and not re.match(r"(\S+\s+){3,}?\S*[.:?](\s|$)", ast.get_docstring(tree) or "")
    ]
    assert not silent


def test_data_readme_names_every_file() -> None:
    text = (ROOT / "data/README.md").read_text()
    shipped = {relative(path).split("/")[1] for path in FILES if relative(path).startswith("data/")}
    assert [name for name in sorted(shipped - {"README.md"}) if name not in text] == []


@pytest.mark.parametrize("kind", ["bench", "build", "release"])
def test_make_names_every_script_of_a_kind(kind: str) -> None:
    names = {path.stem for path in ROOT.glob(f"scripts/{kind}/*.py") if "_" not in path.stem}
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, timeout=60).stdout
    assert re.search(rf"^  make {kind} +NAME={' [|] '.join(sorted(names))}$", listed, re.MULTILINE)
    wrong = subprocess.run(["make", kind, "NAME=nope"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert wrong.returncode == 2
    assert f"NAME='nope' is not valid: make {kind} takes NAME= one of {' '.join(sorted(names))}." in wrong.stderr


@pytest.mark.skipif(os.name == "nt", reason="no execute bit")
def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().rstrip().endswith("exec make test")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("needed", "said"), [("", "1 skipped"), ("1", "no chromium browser, and BROWSER_NEEDED is set")]
)
def test_a_missing_browser_is_a_failure_where_one_is_needed(needed: str, said: str, tmp_path: Path) -> None:
    test = "tests/browser/test_stage.py::test_everything_by_keyboard"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    environment = os.environ | {"PATH": str(tmp_path), "BROWSER_NEEDED": needed}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
    assert said in done.stdout and done.returncode == (1 if needed else 0), done.stdout
