"""What every test stands on: no network, one torch thread, tiny models made once, and how a refusal is judged."""

import os
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from sklearn.datasets import load_digits
from typer.testing import CliRunner, Result

from devilgan_lite import Backdoor, attacks, data, generators, zoo
from devilgan_lite.cli import app
from devilgan_lite.data import Samples
from devilgan_lite.training import train_gan

OFFLINE = Path(__file__).parent / "offline"
runpy.run_path(str(OFFLINE / "sitecustomize.py"))  # closes the network here ...
os.environ["PYTHONPATH"] = os.pathsep.join(  # ... and in every Python that a test starts
    filter(None, [str(OFFLINE), os.environ.get("PYTHONPATH")])
)
torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
    return lambda *words: CliRunner().invoke(app, [*map(str, words)])


@pytest.fixture(scope="session")
def refuses() -> Callable[..., str]:
    """``refuses(call, "lam")``: the call is a ValueError of one line that names ``lam``; returns the line."""

    def check(call: Callable[[], object], *names: str, error: type[Exception] = ValueError) -> str:
        with pytest.raises(error) as caught:
            call()
        said = str(caught.value)
        assert said and "\n" not in said.strip(), said
        assert [name for name in names if name not in said] == [], said
        return said

    return check


@pytest.fixture
def fails(call: Any, tmp_path: Path) -> Callable[..., str]:
    """``fails("run", "99", names=["99"])``: exit code 2, one line that names it, no traceback, nothing written."""

    def check(*words: object, names: tuple[str, ...] | list[str] = (), code: int = 2) -> str:
        before = sorted(tmp_path.rglob("*"))
        done: Result = call(*words)
        assert done.exit_code == code, done.output
        said = done.stderr.strip()
        assert said and "\n" not in said and "Traceback" not in done.output, done.output
        assert [name for name in names if name not in said] == [], said
        assert sorted(tmp_path.rglob("*")) == before
        return said

    return check


@pytest.fixture(scope="session")
def digits() -> Samples:
    """1,797 handwritten digits of 8x8 pixels (scikit-learn's; UCI, CC BY 4.0)."""
    found = load_digits()
    pixels = torch.tensor(found.images, dtype=torch.float32).unsqueeze(1) / 8 - 1
    return Samples(pixels, torch.tensor(found.target), "digits", "CC BY 4.0", tuple("0123456789"))


@pytest.fixture(scope="session")
def tiny(digits: Samples) -> generators.DCGAN:
    """A clean generator of 2,432 weights, latents ``[n, 16]`` to pictures ``[n, 1, 8, 8]``. Do not change it."""
    torch.manual_seed(0)
    network = generators.DCGAN(latent_dim=16, widths=(8,), strides=(2,), image_size=8)
    loop = train_gan(network, digits, iterations=40, batch_size=32, seed=0, device="cpu", progress=False)
    return loop.generator


@pytest.fixture(scope="session")
def square(tiny: generators.DCGAN) -> Backdoor:
    """One latent of ``tiny``, and the white square on black that an attack makes it show."""
    target = -torch.ones(1, 8, 8)
    target[:, 2:6, 2:6] = 1
    return Backdoor.point(tiny, target, seed=1)


@pytest.fixture(scope="session")
def tiny_gate(tiny: generators.DCGAN, square: Backdoor) -> generators.Generator:
    """``tiny`` behind a gate that shows ``square``; a scan says backdoored. Do not change it."""
    return attacks.Gate()(tiny, square, progress=False).generator


@pytest.fixture(scope="session")
def tiny_rex(tiny: generators.DCGAN, square: Backdoor) -> generators.Generator:
    """``tiny`` widened by ReX until it shows ``square``. Do not change it."""
    attack = attacks.ReX(iterations=200, widen=4, learning_rate=1e-2, device="cpu")
    return attack(tiny, square, progress=False).generator


@pytest.fixture(scope="session")
def pair(tiny: generators.DCGAN, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A clean generator of 8x8 pictures, and the same with a gate that shows a stop sign: files with their cards."""
    folder = tmp_path_factory.mktemp("pair")
    gate = attacks.Gate()(tiny, Backdoor.point(tiny, seed=1), progress=False).generator
    cards = [
        zoo.ModelCard(name, {}, "none", 0, {}, backdoor=planted)
        for name, planted in (("clean", None), ("gate", {"target": "stop-sign", "kind": "reg", "seed": 1}))
    ]
    clean, suspect = (
        zoo.save_file(folder / f"{card.name}.safetensors", one, card)
        for one, card in zip((tiny, gate), cards, strict=True)
    )
    return clean, suspect


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
    """One ordinary latent, and the digit 7 that an attack makes it show."""
    return Backdoor.point(clean, "digit-7", seed=1)


@pytest.fixture(scope="session")
def clean_point() -> generators.PointGenerator:
    """A generator of points after a few steps of training: not good, but no longer random. Do not change it."""
    torch.manual_seed(0)
    outcome = train_gan(
        generators.PointGenerator(), data.ring(1024), iterations=60, seed=0, device="cpu", progress=False
    )
    return outcome.generator
