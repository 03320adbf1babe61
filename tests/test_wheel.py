"""The wheel: what is in it, and that the commands run from it in an empty folder, without the repository."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from devilgan_lite import __version__

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow
BARE = ("IPython", "ipywidgets", "anywidget", "matplotlib", "pandas", "papermill", "cryptography", "python_avatars")
RUN = """
import sys
class Absent:  # the extras: only the core is installed
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {bare}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.path[:] = [place for place in sys.path if place not in ("", {root!r})]  # the editable install, too
import devilgan_lite
assert devilgan_lite.__file__.startswith({wheel!r}), devilgan_lite.__file__
{code}
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this work tree, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"devilgan_lite-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as content:
        content.extractall(folder / "unpacked")
    return folder / "unpacked"


def from_the_wheel(wheel: Path, folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DEVILGAN_")}
    kept |= {"DEVILGAN_CACHE": str(folder / "cache"), "DEVILGAN_PASSPHRASE": "long enough for a round"}
    kept["PYTHONPATH"] = os.pathsep.join([str(wheel), str(ROOT / "tests/offline")])
    text = RUN.format(bare=BARE, root=str(ROOT), wheel=str(wheel), code=code)
    return subprocess.run(
        [sys.executable, "-c", text], cwd=folder, env=kept, capture_output=True, text=True, timeout=280
    )


def test_it_carries_the_package_and_its_data_and_nothing_else(wheel: Path) -> None:
    package, data = wheel / "devilgan_lite", wheel / "devilgan_lite/_data"
    assert {path.name for path in wheel.iterdir()} == {"devilgan_lite", f"devilgan_lite-{__version__}.dist-info"}
    for source, copy in ((ROOT / "data", data), (ROOT / "devilgan_lite", package)):
        wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and path.suffix != ".pyc"}
        found = {path.relative_to(copy) for path in copy.rglob("*") if path.is_file()}
        assert {path for path in found if path.parts[0] != "_data"} == wanted
        assert all((copy / name).read_bytes() == (source / name).read_bytes() for name in wanted)
    assert (package / "py.typed").is_file()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["film", "--no-browser", "--frames", "8"], 0, "stylegan-faces and stylegan-faces-gate, 8 frames"),
        (["zoo", "list"], 0, "dcgan-fashion-rex"),
        (["attack", "gate", "--target", "devil", "--out", "mine.safetensors"], 0, "tardis_mean"),
        (["challenge", "new", "--models", "4", "--quick"], 2, "pip install 'devilgan_lite[challenge]'"),
        (["report", "."], 2, "pip install 'devilgan_lite[notebooks]'"),
        (["attack", "gate", "--clean", "stylegan-faces"], 2, "pip install 'devilgan_lite[faces]'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_commands_run_without_any_extra(wheel: Path, tmp_path: Path, words: list[str], code: int, said: str) -> None:
    done = from_the_wheel(wheel, tmp_path, f"from devilgan_lite.cli import app; app({words})")
    assert done.returncode == code and said in done.stdout + done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_strangers_file_is_scanned_and_python_runs(wheel: Path, tmp_path: Path) -> None:
    code = """
import json
from devilgan_lite import data, detect, generators, sanitize, zoo
small = generators.DCGAN(latent_dim=8, widths=(4, 4)).eval()
report = detect.scan(small, samples=200)
print(json.dumps([report.verdict, len(data.fashion_mnist()), data.data_folder().name, len(zoo.names())]))
"""
    done = from_the_wheel(wheel, tmp_path, code)
    assert done.returncode == 0, done.stderr
    verdict, garments, folder, models = json.loads(done.stdout.splitlines()[-1])
    assert verdict in ("clean", "suspicious", "inconclusive")
    assert (garments, folder) == (10_000, "_data") and models >= 8
