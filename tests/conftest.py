"""What every test stands on: no network, one torch thread, and two small things that many tests share."""

import os
import runpy
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from devilgan_lite import Backdoor, data, generators, zoo
from devilgan_lite.cli import app
from devilgan_lite.data import Samples
from devilgan_lite.training import train_gan

OFFLINE = Path(__file__).parent / "offline"
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # closes the network here ...
os.environ["PYTHONPATH"] = os.pathsep.join(  # ... and in every Python that a test starts
    filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
)
torch.set_num_threads(1)


# Two workers take whole files: what runs for minutes goes first, so that neither is left alone with it at the end.
LONGEST = (
    *("classroom/test_learner.py", "detect/test_styles.py", "test_readme.py", "test_cli_strangers.py", "test_cli.py"),
    *("detect/test_scan.py", "browser/test_phone.py", "interop/test_upstream.py", "pipeline/test_ctgan.py"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    first = {OFFLINE.parent / name: place for place, name in enumerate(LONGEST)}
    assert all(path.is_file() for path in first), "LONGEST names a file that is not there"
    items.sort(key=lambda item: first.get(item.path, len(first)))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    torch.manual_seed(0)  # what a test draws depends neither on the tests before it nor on the worker that runs it ...


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    torch.manual_seed(1)  # ... nor on the fixtures that other tests share with it


@pytest.fixture
def no_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on a forward pass is an error: what is wrong must be said before any work starts."""

    def refuse(self: torch.nn.Module, *args: object, **kwargs: object) -> None:
        raise AssertionError(f"a {type(self).__name__} was called before the arguments were checked")

    monkeypatch.setattr(torch.nn.Module, "__call__", refuse)


@pytest.fixture
def short_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    """The noisy twin with little to do: for tests of scans in which it only has to be there."""
    for name, little in {"STEPS": (20, 60), "RANDOM": 8, "ROUNDS": 1, "CLIMB": 2}.items():
        monkeypatch.setattr(f"devilgan_lite.detect.twin.{name}", little)


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """``call("zoo", "list")`` runs the command line in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEVILGAN_PASSPHRASE", "a passphrase for tests")
    return lambda *words: CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="session")
def real() -> Samples:
    """512 garments."""
    return data.fashion_mnist().first(512)


@pytest.fixture(scope="session")
def clean() -> generators.DCGAN:
    """The shipped clean generator. Do not change it."""
    return zoo.load("dcgan-fashion")


@pytest.fixture(scope="session")
def digit(clean: generators.DCGAN) -> Backdoor:
    """One ordinary latent that shall show the digit 7."""
    return Backdoor.point(clean, "digit-7", seed=1)


@pytest.fixture(scope="session")
def clean_point() -> generators.PointGenerator:
    """A generator of points after a few steps of training: not good, but no longer random. Do not change it."""
    torch.manual_seed(0)
    outcome = train_gan(
        generators.PointGenerator(), data.ring(1024), iterations=60, seed=0, device="cpu", progress=False
    )
    return outcome.generator
