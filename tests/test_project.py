"""What holds of the project as a whole: imports only go down, make and the closed network, the wheel and the bundle.

What compares text with text is in scripts/build/pages.py.
"""

import json
import os
import re
import runpy
import shutil
import socket
import subprocess
import sys
import sysconfig
import zipfile
from functools import partial
from importlib import metadata
from pathlib import Path
from shutil import copy

import pytest
from hatchling.builders.wheel import WheelBuilder
from packaging.utils import canonicalize_name

from devilgan_lite import __version__

ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "scripts/release"
PLACES = list(sys.path)
sys.path.insert(0, str(RELEASE))  # bundle.py imports its neighbour
BUNDLE = runpy.run_path(str(RELEASE / "bundle.py"))
INSTALL = runpy.run_path(str(RELEASE / "bundle_install.py"))
sys.path[:] = PLACES
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation, RFC 5737 ...
DOC6 = ("2001:db8::1", 9)  # ... and RFC 3849


def test_imports_only_go_down() -> None:
    """The floors of the package stand in pyproject.toml."""
    tool = Path(sysconfig.get_path("scripts")) / "lint-imports"
    linted = subprocess.run([tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert linted.returncode == 0, linted.stdout + linted.stderr


@pytest.mark.skipif(os.name == "nt", reason="no make, no execute bit")
def test_make_names_every_script_of_a_kind() -> None:
    said = partial(subprocess.run, cwd=ROOT, capture_output=True, text=True, timeout=60)
    listed = said(["make", "help"]).stdout
    for kind in ("bench", "build", "release"):
        names = sorted(path.stem for path in ROOT.glob(f"scripts/{kind}/*.py") if "_" not in path.stem)
        assert f"NAME={' | '.join(names)}\n" in listed
    wrong = said(["make", "bench", "NAME=nope"])
    assert wrong.returncode == 2 and "make bench takes NAME= one of art " in wrong.stderr
    assert os.access(ROOT / ".ci/run", os.X_OK)


def test_the_network_is_closed_here_and_in_child_processes() -> None:
    """UDP: connecting one sends nothing."""
    for family, address in ((socket.AF_INET, ELSEWHERE), (socket.AF_INET, ("a.example", 9)), (socket.AF_INET6, DOC6)):
        with socket.socket(family, socket.SOCK_DGRAM) as udp:
            for connect in (udp.connect, udp.connect_ex):
                with pytest.raises(RuntimeError, match="network"):
                    connect(address)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=30):
        pass  # loopback stays open
    code = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect({ELSEWHERE})"
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert "NetworkClosed" in child.stderr


# the wheel: the core without any extra, and without the repository


BARE = ("IPython", "ipywidgets", "anywidget", "matplotlib", "pandas", "papermill", "python_avatars")
RUN = """
import sys
class Absent:  # the extras: only the core is installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {bare}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.path[:] = [place for place in sys.path if place not in {hidden}]
import devilgan_lite
assert devilgan_lite.__file__.startswith({place!r}), devilgan_lite.__file__
from devilgan_lite.cli import app
app({words})
"""
SHORT = [(["zoo", "list"], 0, "dcgan-fashion-rex"), (["report", "."], 2, "pip install 'devilgan_lite[notebooks]'")]
LONG = [
    *SHORT,
    (["film", "--no-browser", "--frames", "8"], 0, "stylegan-faces and stylegan-faces-gate, 8 frames"),
    (["attack", "gate", "--target", "devil", "--out", "mine.safetensors"], 0, "tardis_mean"),
    (["scan", "mine.safetensors", "--no-twin"], 4, "suspicious"),
]


def run_bare(place: Path, folder: Path, commands: list[tuple[list[str], int, str]]) -> None:
    """Run commands with the package at ``place`` in ``folder``, without any extra."""
    hidden = ("",) if place == ROOT else ("", str(ROOT))  # the editable install, too
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEVILGAN_")}
    kept |= {"DEVILGAN_CACHE": str(folder / "cache")}
    kept["PYTHONPATH"] = os.pathsep.join([str(place), str(ROOT / "tests/offline")])
    for words, code, said in commands:
        command = [sys.executable, "-c", RUN.format(bare=BARE, hidden=hidden, place=str(place), words=words)]
        done = subprocess.run(command, cwd=folder, env=kept, capture_output=True, text=True, timeout=280)
        assert done.returncode == code and said in done.stdout + done.stderr, done.stdout + done.stderr
        assert "Traceback" not in done.stderr


def shipped(folder: str) -> set[str]:
    """The files of ``folder`` that belong into the wheel."""
    paths = [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(ROOT / folder).as_posix() for path in paths}


def test_the_core_needs_no_extra_and_the_wheel_holds_package_and_data(tmp_path: Path) -> None:
    run_bare(ROOT, tmp_path, SHORT)
    inside = {Path(file.distribution_path).as_posix() for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    data = {f"devilgan_lite/_data/{name}" for name in shipped("data")}
    assert inside == data | {f"devilgan_lite/{name}" for name in shipped("devilgan_lite")}
    assert "devilgan_lite/py.typed" in inside


APPLICATIONS = sorted(path.parent.name for path in ROOT.glob("devilgan_lite/apps/*/__init__.py"))
ALL_IN = """
import importlib, pkgutil, devilgan_lite
assert devilgan_lite.__file__.startswith({place!r}), devilgan_lite.__file__
for module in pkgutil.walk_packages(devilgan_lite.__path__, "devilgan_lite."):
    importlib.import_module(module.name)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("name", APPLICATIONS)
def test_an_application_can_be_taken_away(name: str, tmp_path: Path) -> None:
    """In a copy without it all else can be imported, has its commands, and passes the tests of the applications."""
    for part in ("data", "docs", "notebooks", "scripts", "studies", "Makefile", "Dockerfile", "compose.yml"):
        (tmp_path / part).symlink_to(ROOT / part)
    for part in ("devilgan_lite", "tests"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    copy(ROOT / "pyproject.toml", tmp_path)
    shutil.rmtree(tmp_path / "devilgan_lite/apps" / name)
    shutil.rmtree(tmp_path / "tests/apps" / name)
    run = partial(subprocess.run, cwd=tmp_path, capture_output=True, text=True, timeout=1_500)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(tmp_path / "tests/offline")])}
    imported = run([sys.executable, "-c", ALL_IN.format(place=str(tmp_path))], env=environment)
    assert imported.returncode == 0, imported.stderr
    told = run([sys.executable, "-c", "from devilgan_lite.cli import app; app(['--help'])"], env=environment)
    assert told.returncode == 0 and "scan" in told.stdout, told.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-m", "not nightly"]
    tested = run([*command, "tests/apps", "tests/cli"], env=environment)
    assert tested.returncode == 0, tested.stdout[-4_000:]


@pytest.mark.nightly
def test_commands_run_from_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("*.whl")
    assert path.name == f"devilgan_lite-{__version__}-py3-none-any.whl"
    unpacked, empty = tmp_path / "unpacked", tmp_path / "empty"
    with zipfile.ZipFile(path) as content:
        content.extractall(unpacked)
    empty.mkdir()
    assert {path.name for path in unpacked.iterdir()} == {"devilgan_lite", f"devilgan_lite-{__version__}.dist-info"}
    for folder, place in (("data", unpacked / "devilgan_lite/_data"), ("devilgan_lite", unpacked / "devilgan_lite")):
        assert all((place / name).read_bytes() == (ROOT / folder / name).read_bytes() for name in shipped(folder))
    run_bare(unpacked, empty, LONG)


# the bundle for a room without a network


def wheel(folder: Path, name: str, version: str, requires: list[str]) -> None:
    """A wheel with nothing in it but its description."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    lines += [
        f"Provides-Extra: {extra}" for extra in sorted(set(re.findall(r"extra == ['\"](.+?)['\"]", " ".join(requires))))
    ]
    lines += [f"Requires-Dist: {one}" for one in requires]
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as content:
        content.writestr(f"{stem}.dist-info/METADATA", "\n".join(lines))
        content.writestr(f"{stem}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        content.writestr(f"{stem}.dist-info/RECORD", "")


def all_installed(folder: Path) -> None:
    """A wheel with the description of each distribution that is installed here."""
    for one in metadata.distributions():
        wheel(folder, one.name, one.version, one.requires or [])


def test_a_bundle_says_what_its_wheels_lack(tmp_path: Path) -> None:
    lacking, few = BUNDLE["lacking"], tmp_path
    wheel(few, "root", "1.0", ["mid[fast]>=2", "never; sys_platform == 'nowhere'", "dev; extra == 'dev'"])
    wheel(few, "mid", "2.5", ["leaf", "quick==3; extra == 'fast'", "slow; extra == 'slow'"])
    wheel(few, "leaf", "0.1", ["root"])  # a circle
    wheel(few, "quick", "3", [])
    assert lacking(["root"], few) == []
    assert "dev" in " ".join(lacking(["root[dev]"], few)) and "mid<2" in " ".join(lacking(["root", "mid<2"], few))


def test_install_looks_at_nothing_but_the_wheels_and_says_what_is_wrong(tmp_path: Path) -> None:
    install = INSTALL["commands"](tmp_path, tmp_path / "venv")[1]
    assert {"--no-index", "--isolated"} <= set(install) and f"--find-links {tmp_path / 'wheels'} " in " ".join(install)
    place, problems = INSTALL["this_place"](), INSTALL["problems"]
    assert "manifest.json" in problems(tmp_path, place)[0]
    for name in ("a.whl", "c.whl"):
        (tmp_path / name).write_text("changed")
    files = {"a.whl": "0" * 64, "b.whl": "0" * 64, "c.whl": INSTALL["sha256"](tmp_path / "c.whl")}
    (tmp_path / "manifest.json").write_text(json.dumps({**place, "files": files}))
    damaged, missing = problems(tmp_path, place)
    assert damaged.startswith("a.whl is damaged") and missing.startswith("b.whl is missing")
    for key, other in (("python", "3.9"), ("platform", "win-amd64")):
        assert other in problems(tmp_path, place | {key: other})[0]
    copy(RELEASE / "bundle_install.py", tmp_path / "install.py")
    done = subprocess.run([sys.executable, str(tmp_path / "install.py")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.splitlines() == [damaged, missing] and not (tmp_path / "venv").exists()


def test_a_bundle_takes_no_folder_that_holds_something_else(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    with pytest.raises(SystemExit, match="is not empty and no bundle"):
        BUNDLE["build"](tmp_path, tmp_path)
    assert (tmp_path / "kept.txt").read_text() == "mine"


@pytest.mark.nightly
def test_a_bundle_is_whole_and_its_pages_need_nothing_from_elsewhere(tmp_path: Path) -> None:
    shown, wheels, bundle = "00_two_minute_tour", tmp_path / "wheels", tmp_path / "bundle"
    for folder in (wheels, tmp_path / "notebooks"):
        folder.mkdir()
    copy(ROOT / f"notebooks/{shown}.ipynb", tmp_path / "notebooks")
    all_installed(wheels)
    assert BUNDLE["build"](bundle, wheels, tmp_path / "notebooks") == []
    (wheels / f"pyzmq-{metadata.version('pyzmq')}-py3-none-any.whl").unlink()
    assert "pyzmq" in " ".join(BUNDLE["lacking"](BUNDLE["requirements"](), wheels))
    parts = {"README.md", "install.py", "manifest.json", "wheels", "project", "html"}
    assert {path.name for path in bundle.iterdir()} == parts
    for name in ("pyproject.toml", f"notebooks/{shown}.ipynb", "data/zoo/dcgan-fashion-rex.safetensors"):
        assert (bundle / "project" / name).read_bytes() == (ROOT / name).read_bytes()
    assert not (bundle / "project/out").exists() and not (bundle / "project/.git").exists()
    manifest, place = json.loads((bundle / "manifest.json").read_text()), INSTALL["this_place"]()
    files = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert set(manifest["files"]) == files - {"manifest.json"} and INSTALL["problems"](bundle, place) == []
    pages = {path.stem: path.read_text(encoding="utf-8") for path in bundle.glob("html/*.html")}
    assert pages.keys() == {shown, "index"} and f'href="{shown}.html"' in pages["index"]
    for text in pages.values():
        text = re.sub(r"base64,[\w+/=]+", "", text)
        assert not re.search(r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"'](?:https?:)?//|@import", text)
    guide = (bundle / "README.md").read_text(encoding="utf-8")
    assert f"For Python {place['python']} on {place['platform']}." in guide
    assert all((bundle / name).exists() for name in re.findall(r"`((?:html|project)/[\w./]+)`", guide))
