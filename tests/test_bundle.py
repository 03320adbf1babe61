"""The bundle for a room without a network: what is in it, that its wheels suffice, and how it installs."""

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "scripts/release"
PAGES = ("00_two_minute_tour", "04_attack_rex")  # as HTML; every notebook takes seconds
sys.path.insert(0, str(SCRIPTS))  # bundle.py imports its neighbour
BUNDLE = runpy.run_path(str(SCRIPTS / "bundle.py"))
INSTALL = runpy.run_path(str(SCRIPTS / "bundle_install.py"))
sys.path.remove(str(SCRIPTS))


def installed(name: str) -> tuple[Version, list[str]] | None:
    """What this environment says of a distribution: the oracle for what the wheels must hold."""
    try:
        return Version(metadata.version(name)), metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return None


def wheel(folder: Path, name: str, version: str, requires: list[str]) -> Path:
    """A wheel with nothing in it but its description."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    path = folder / f"{stem}-py3-none-any.whl"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    with zipfile.ZipFile(path, "w") as content:
        content.writestr(f"{stem}.dist-info/METADATA", "\n".join([*lines, *(f"Requires-Dist: {r}" for r in requires)]))
        content.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        content.writestr(f"{stem}.dist-info/RECORD", "")
    return path


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel for each distribution that the requirements lead to in this environment, with its own requirements."""
    folder = tmp_path_factory.mktemp("wheels")
    found, lacking = BUNDLE["closure"](BUNDLE["requirements"](), installed)
    assert lacking == []
    for name, version in found.items():
        wheel(folder, name, str(version), metadata.requires(name) or [])
    return folder


def test_the_requirements_are_those_of_the_project_its_notebooks_and_its_build() -> None:
    found = BUNDLE["requirements"]()
    assert any(text.startswith("torch>=") for text in found)
    assert any(text.startswith("jupyterlab>=") for text in found)
    assert any(text.startswith("hatchling>=") for text in found)  # or the editable install would ask the network
    assert not any(text.startswith(("pytest", "ruff")) for text in found)


def test_the_closure_follows_requirements_extras_and_markers(tmp_path: Path) -> None:
    wheel(tmp_path, "Root", "1.0", ["mid[fast]>=2", "never; sys_platform == 'nowhere'", "dev; extra == 'dev'"])
    wheel(tmp_path, "mid", "2.5", ["Leaf_One", "quick==3; extra == 'fast'", "slow; extra == 'slow'"])
    wheel(tmp_path, "leaf.one", "0.1", ["root"])  # a circle
    wheel(tmp_path, "quick", "3", [])
    found, lacking = BUNDLE["closure"](["root"], BUNDLE["wheels_in"](tmp_path))
    assert {name: str(version) for name, version in found.items()} == {
        "root": "1.0", "mid": "2.5", "leaf-one": "0.1", "quick": "3",
    }  # fmt: skip
    assert lacking == []
    found, lacking = BUNDLE["closure"](["root[dev]", "mid<2"], BUNDLE["wheels_in"](tmp_path))
    assert lacking == ['dev; extra == "dev" is needed and missing.', "mid<2 is needed and mid 2.5 is there."]


def test_wheels_cover_what_this_environment_needed(complete: Path) -> None:
    found, lacking = BUNDLE["closure"](BUNDLE["requirements"](), BUNDLE["wheels_in"](complete))
    assert lacking == []
    assert {"torch", "torchvision", "jupyterlab", "ipykernel", "pyzmq", "hatchling", "editables"} <= found.keys()
    assert {"cryptography", "python-avatars", "resvg-py"} <= found.keys()  # extras of the notebooks' extra


@pytest.mark.parametrize("name", ["pyzmq", "torch", "jinja2", "hatchling"])
def test_one_missing_wheel_is_named(complete: Path, tmp_path: Path, name: str) -> None:
    for path in complete.glob("*.whl"):
        if not path.name.startswith(f"{name}-"):
            os.link(path, tmp_path / path.name)
    lacking = BUNDLE["closure"](BUNDLE["requirements"](), BUNDLE["wheels_in"](tmp_path))[1]
    assert lacking and all(re.match(rf"{name}\b.* is needed and missing\.", line, re.IGNORECASE) for line in lacking)


@pytest.fixture(scope="module")
def bundle(complete: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of this work tree, two of its notebooks as pages, with the wheels that hold nothing."""
    folder: Path = tmp_path_factory.mktemp("made")
    (folder / "notebooks").mkdir()
    for name in PAGES:
        shutil.copy(ROOT / f"notebooks/{name}.ipynb", folder / "notebooks")
    assert BUNDLE["build"](folder / "bundle", complete, folder / "notebooks") == []
    return folder / "bundle"


def test_the_layout_and_that_nothing_is_wrong_with_it(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()}
    assert names == {"README.md", "install.py", "manifest.json", "wheels", "project", "html"}
    for name in ("pyproject.toml", "notebooks/00_two_minute_tour.ipynb", "notebooks/src/04_attack_rex.py",
                 "data/zoo/dcgan-fashion-rex.safetensors", "docs/instructor_guide.md"):  # fmt: skip
        assert (bundle / "project" / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (bundle / "project/out").exists() and not (bundle / "project/.git").exists()
    manifest = json.loads((bundle / "manifest.json").read_text())
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"}
    assert {key: manifest[key] for key in ("python", "platform")} == INSTALL["this_place"]()
    assert INSTALL["problems"](bundle, INSTALL["this_place"]()) == []


def test_the_pages_need_nothing_from_elsewhere(bundle: Path) -> None:
    pages = {path.stem for path in bundle.glob("html/*.html")}
    assert pages == {*PAGES, "index"}
    for path in bundle.glob("html/*.html"):
        text = re.sub(r"base64,[\w+/=]+", "", path.read_text(encoding="utf-8"))
        assert re.findall(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"'](?:https?:)?//[^\"']+", text) == []
        assert "@import" not in text
    index = (bundle / "html/index.html").read_text(encoding="utf-8")
    assert set(re.findall(r'href="([^"]+)\.html"', index)) == pages - {"index"}


def test_the_guide_names_the_place_and_what_is_there(bundle: Path) -> None:
    text = (bundle / "README.md").read_text(encoding="utf-8")
    place = INSTALL["this_place"]()
    assert f"For Python {place['python']} on {place['platform']}." in text
    for name in re.findall(r"`((?:html|project)/[\w./]+)`", text):
        assert (bundle / name).exists(), name


def test_install_looks_at_nothing_but_the_wheels(bundle: Path, tmp_path: Path) -> None:
    make, install = INSTALL["commands"](bundle, tmp_path / "venv")
    assert make == [sys.executable, "-m", "venv", str(tmp_path / "venv")]
    assert {"--no-index", "--isolated", "--editable"} <= set(install)
    assert install[install.index("--find-links") + 1] == str(bundle / "wheels")
    assert install[-1] == f"{bundle / 'project'}[notebooks]"


def test_what_is_wrong_with_a_bundle_is_a_sentence(bundle: Path, tmp_path: Path) -> None:
    place = INSTALL["this_place"]()
    problems: Any = INSTALL["problems"]
    assert problems(bundle, place | {"python": "3.9"})[0].startswith("This is Python 3.9; the bundle was made for ")
    assert problems(bundle, place | {"platform": "win-amd64"})[0].startswith("This computer is win-amd64; ")
    (tmp_path / "a.whl").write_text("changed")
    manifest = {**place, "files": {"a.whl": "0" * 64, "b.whl": "0" * 64}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert problems(tmp_path, place) == [
        "a.whl is damaged (its SHA-256 differs); copy the bundle again.",
        "b.whl is missing; copy the bundle again.",
    ]
    (tmp_path / "install.py").write_bytes((SCRIPTS / "bundle_install.py").read_bytes())
    done = subprocess.run([sys.executable, str(tmp_path / "install.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 2
    assert not (tmp_path / "venv").exists()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--try", "--out", "nowhere"], "there is no bundle in nowhere; run make release NAME=bundle first."),
        (["--wheels", "nowhere"], "--wheels nowhere is no folder."),
        (["--wheels", ".", "--out", "full"], "full is not empty and no bundle; name another folder."),
    ],
)
def test_bad_input_is_one_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept.txt").write_text("mine")
    command = [sys.executable, str(SCRIPTS / "bundle.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode != 0 and done.stderr.strip().endswith(sentence), done.stderr
    assert (tmp_path / "full/kept.txt").read_text() == "mine"


@pytest.mark.skipif(BUNDLE["closed"]([]) == [], reason="this system permits no network namespace")
def test_a_closed_command_reaches_this_machine_only() -> None:
    code = (
        "import socket; s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname()).close()\n"
        "try: socket.create_connection(('192.0.2.1', 9), timeout=5)\n"
        "except OSError as error: print('closed:', error)"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = BUNDLE["closed"]([sys.executable, "-c", code])
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean)
    assert done.stdout.startswith("closed: ") and "unreachable" in done.stdout, done.stderr
