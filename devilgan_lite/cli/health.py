"""``devilgan doctor`` and ``stage --check``: one line for each thing that could keep the project from running here."""

import hashlib
import importlib.util
import json
import os
import platform
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

import typer

from devilgan_lite import shipped
from devilgan_lite.apps.show import pairs, serving
from devilgan_lite.cli.common import show

Look = Callable[[], str]
LEAST_MEMORY_GB = 1.0
LEAST_DISK_GB = 0.5
RENDERERS = ("python_avatars", "resvg_py")
RESTORE = "restore it with git checkout data"


class Problem(Exception):
    """What keeps the project from running here, and what to do, in a sentence."""


@dataclass(frozen=True)
class Check:
    """One line: what was checked, whether it is as it should be, and a sentence: the state, or what to do."""

    name: str
    ok: bool
    message: str


def report(checks: list[Check], as_json: bool) -> None:
    """Print a line for each check (or JSON), and leave with exit code 1 if one of them is a problem."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok     ' if check.ok else 'problem'}  {check.name:{width}s}  {check.message}" for check in checks]
    show([asdict(check) for check in checks], as_json, "\n".join(lines))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def project(*, quick: bool = False) -> list[Check]:
    """What the project needs, in the order in which to mend it; ``quick`` does not load every model."""
    return _carried_out(
        {
            "python": platform.python_version,  # pip refuses versions that are too old
            "torch": _torch,
            "torchvision": _torchvision,
            "device": _device,
            "threads": _threads,
            "data": _data,
            "feature networks": _features,
            "zoo": lambda: _zoo(load=not quick),
            "notebooks": _notebooks,
            "kernel": _kernel,
            "memory": _memory,
            "disk": lambda: _enough(shutil.disk_usage(Path.cwd()).free / 2**30, LEAST_DISK_GB, "make room"),
        }
    )


def stage(port: int) -> list[Check]:
    """What the stage needs, in the order in which to mend it. No torch is imported, so the answer takes a second."""
    return _carried_out(
        {
            "packages": lambda: _installed(("torch", "safetensors")),
            "renderer": lambda: _installed(RENDERERS, "; only drawing new faces needs it"),
            "browser": _browser,
            "port": lambda: _port(port),
            "zoo pair": _pair,
            "memory": _memory,
        }
    )


def _carried_out(looks: dict[str, Look]) -> list[Check]:
    checks = []
    for name, look in looks.items():
        try:
            checks.append(Check(name, True, look()))
        except Problem as problem:
            checks.append(Check(name, False, str(problem)))
        except Exception as error:  # a broken installation may raise anything; that is one line, and the others follow
            checks.append(Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return checks


def _torch() -> str:
    import torch

    torch.ones(2).sum()  # a broken installation fails here at the latest
    return torch.__version__


def _torchvision() -> str:
    versions = [metadata.version(name) for name in ("torch", "torchvision")]
    pair = " + ".join(versions)
    mend = "reinstall both from the same index: pip install --force-reinstall -e '.[notebooks,dev]'."
    minors = [int(version.split(".")[1]) for version in versions]
    if minors[1] - minors[0] != 15:  # torch 2.n goes with torchvision 0.(n + 15)
        raise Problem(f"torch and torchvision {pair} are not a pair; {mend}")
    if len({version.partition("+")[2] for version in versions}) > 1:
        raise Problem(f"torch and torchvision {pair} are of different builds; {mend}")
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        raise Problem(f"torchvision cannot be imported ({' '.join(str(error).split())}); {mend}") from None
    return f"{versions[1]}, the pair of torch {versions[0]}"


def _device() -> str:
    from devilgan_lite.steps import best_device

    device = best_device()
    return str(device) if device.type != "cpu" else "cpu (no GPU was found; none is needed)"


def _threads() -> str:
    import torch

    return f"{torch.get_num_threads()} of {os.cpu_count()} (--threads or DEVILGAN_THREADS)"


def _compare(path: Path, sha256: str) -> None:
    if not path.is_file():
        raise Problem(f"{path.name} is missing; {RESTORE}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise Problem(f"{path.name} does not match its SHA-256; {RESTORE}.")


def _data() -> str:
    expected = json.loads((shipped.data_folder() / "checksums.json").read_text())
    for name, sha256 in expected.items():
        _compare(shipped.data_folder() / name, sha256)
    return f"{', '.join(expected)}: SHA-256 matches"


def _features() -> str:
    from devilgan_lite.features import NETWORKS, feature_card, feature_network

    for name, network in NETWORKS.items():
        _compare(shipped.data_folder() / f"{network.file}.safetensors", feature_card(name)["sha256"])
        feature_network(name)
    accuracies = [f"{feature_card(name)['test_accuracy']:.2%}" for name in NETWORKS]
    return f"{len(accuracies)} load, test accuracy {', '.join(accuracies)}"


def _zoo(load: bool) -> str:
    from devilgan_lite import zoo

    mend = f"{RESTORE}/zoo, or run make build NAME=zoo."
    if "dcgan-fashion" not in zoo.names():
        raise Problem(f"data/zoo has no dcgan-fashion; {mend}")
    try:
        for name in zoo.names():
            (zoo.load if load else zoo.card)(name)
    except (ValueError, FileNotFoundError) as error:
        raise Problem(f"{str(error).rstrip('.')}; {mend}") from None
    return f"{len(zoo.names())} models{' load' if load else ''}"


def _notebooks() -> str:
    from devilgan_lite import runs

    names = runs.notebook_list()
    if not names:
        raise Problem("none were found; restore the project's notebooks/ folder, or set DEVILGAN_NOTEBOOKS.")
    return ", ".join(names)


def _kernel() -> str:
    versions = _installed(("ipykernel", "papermill", "nbclient", "jupytext", "nbconvert", "ipywidgets"))
    version = metadata.version("ipykernel")
    if version.startswith("7.3"):
        raise Problem(f"ipykernel {version} runs widget callbacks on another thread; pip install 'ipykernel!=7.3.*'.")
    return versions


def _installed(names: tuple[str, ...], why: str = "") -> str:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(f"{', '.join(missing)} cannot be found; run pip install -e '.[notebooks]'{why}.")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _memory() -> str:
    table = Path("/proc/meminfo")
    if not table.is_file():
        return "this system does not say how much is free; 1 GB is enough"
    entries = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    return _enough(int(entries["MemAvailable"].split()[0]) / 2**20, LEAST_MEMORY_GB, "close something")


def _enough(free: float, least: float, mend: str) -> str:
    if free < least:
        raise Problem(f"{free:.1f} GB free; {mend}, {least:g} GB is needed.")
    return f"{free:.1f} GB free"


def _browser() -> str:
    name = serving.browser()
    if name is None:
        raise Problem("none was found; install one, or open the stage by its address.")
    return name


def _port(port: int) -> str:
    free = serving.free_port(port)
    return f"{free} is free" if free == port else f"{port} is busy; the stage will take {free}"


def _pair() -> str:
    if not (choices := pairs.pairs()):
        raise Problem(f"data/zoo has no backdoored model with its clean one; {RESTORE}/zoo.")
    for name in choices[0]:
        _compare(shipped.zoo_folder() / f"{name}.safetensors", pairs.cards()[name].sha256)
    return f"{' and '.join(choices[0])}: SHA-256 matches"
