"""The checks of ``devilgan doctor``: one line for each thing that could keep the project from running here."""

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

from devilgan_lite.cli.common import show

Look = Callable[[], tuple[bool, str]]
LEAST_MEMORY_GB = 1.0
LEAST_DISK_GB = 0.5


@dataclass(frozen=True)
class Check:
    """One line: what was checked, whether it is as it should be, and a sentence: what was found, or what to do."""

    name: str
    ok: bool
    message: str


def examine(*, quick: bool = False) -> list[Check]:
    """All checks, in the order in which to fix what they find; ``quick`` does not load every model."""
    looks: dict[str, Look] = {
        "python": lambda: (True, platform.python_version()),  # pip refuses versions that are too old
        "torch": _torch,
        "torchvision": _torchvision,
        "device": _device,
        "threads": _threads,
        "data": _data,
        "feature networks": _features,
        "zoo": lambda: _zoo(load=not quick),
        "notebooks": _notebooks,
        "kernel": _kernel,
        "memory": memory,
        "disk": _disk,
    }
    return carry_out(looks)


def carry_out(looks: dict[str, Look]) -> list[Check]:
    """One ``Check`` for each of ``looks``: a name, and a function that returns whether all is well and a sentence."""
    found = []
    for name, look in looks.items():
        try:
            found.append(Check(name, *look()))
        except Exception as error:  # a broken installation may raise anything; that is one line, and the others follow
            found.append(Check(name, False, f"{type(error).__name__}: {' '.join(str(error).split())}"))
    return found


def report(checks: list[Check], as_json: bool) -> None:
    """Print a line for each check (or JSON), and leave with exit code 1 if one of them found a problem."""
    width = max(len(check.name) for check in checks)
    lines = [f"{'ok     ' if check.ok else 'problem'}  {check.name:{width}s}  {check.message}" for check in checks]
    show([asdict(check) for check in checks], as_json, "\n".join(lines))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _torch() -> tuple[bool, str]:
    import torch

    return bool(torch.ones(2).sum() == 2), torch.__version__


def _torchvision() -> tuple[bool, str]:
    versions = [metadata.version(name) for name in ("torch", "torchvision")]
    pair = " + ".join(versions)
    mend = "reinstall both from the same index: pip install --force-reinstall -e '.[notebooks,dev]'."
    minors = [int(version.split(".")[1]) for version in versions]
    builds = {version.partition("+")[2] for version in versions}
    if minors[1] - minors[0] != 15:  # torch 2.n goes with torchvision 0.(n + 15)
        return False, f"torch and torchvision {pair} are not a pair; {mend}"
    if len(builds) > 1:
        return False, f"torch and torchvision {pair} are of different builds; {mend}"
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:
        return False, f"torchvision cannot be imported ({' '.join(str(error).split())}); {mend}"
    return True, f"{versions[1]}, the pair of torch {versions[0]}"


def _device() -> tuple[bool, str]:
    from devilgan_lite.steps import best_device

    device = best_device()
    return True, str(device) if device.type != "cpu" else "cpu (no GPU was found; none is needed)"


def _threads() -> tuple[bool, str]:
    import torch

    return True, f"{torch.get_num_threads()} of {os.cpu_count()} (--threads or DEVILGAN_THREADS)"


def damage(path: Path, sha256: str) -> str:
    """What is wrong with a shipped file, or an empty string."""
    if not path.is_file():
        return f"{path.name} is missing; restore it with git checkout data."
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        return f"{path.name} does not match its SHA-256; restore it with git checkout data."
    return ""


def _data() -> tuple[bool, str]:
    from devilgan_lite.data import data_folder

    expected = json.loads((data_folder() / "checksums.json").read_text())
    found = next(filter(None, (damage(data_folder() / name, sha256) for name, sha256 in expected.items())), "")
    return not found, found or f"{', '.join(expected)}: SHA-256 matches"


def _features() -> tuple[bool, str]:
    from devilgan_lite.data import data_folder
    from devilgan_lite.features import NETWORKS, feature_card, feature_network

    accuracies = []
    for name, network in NETWORKS.items():
        if found := damage(data_folder() / f"{network.file}.safetensors", feature_card(name)["sha256"]):
            return False, found
        feature_network(name)
        accuracies.append(f"{feature_card(name)['test_accuracy']:.2%}")
    return True, f"{len(accuracies)} load, test accuracy {', '.join(accuracies)}"


def _zoo(load: bool = True) -> tuple[bool, str]:
    from devilgan_lite import zoo

    if "dcgan-fashion" not in zoo.names():
        return (
            False,
            "data/zoo has no dcgan-fashion; restore it with git checkout data/zoo, or run make build NAME=zoo.",
        )
    try:
        found = [zoo.load(name) if load else zoo.card(name) for name in zoo.names()]
    except (ValueError, FileNotFoundError) as error:
        return False, f"{str(error).rstrip('.')}; restore it with git checkout data/zoo, or run make build NAME=zoo."
    return True, f"{len(found)} models{' load' if load else ''}"


def _notebooks() -> tuple[bool, str]:
    from devilgan_lite import runs

    names = runs.notebook_list()
    if not names:
        return False, "none were found; restore the project's notebooks/ folder, or set DEVILGAN_NOTEBOOKS."
    return True, ", ".join(names)


def _kernel() -> tuple[bool, str]:
    found = installed(("ipykernel", "papermill", "nbclient", "jupytext", "nbconvert", "ipywidgets"))
    version = metadata.version("ipykernel") if found[0] else ""
    if version.startswith("7.3"):
        return False, f"ipykernel {version} runs widget callbacks on another thread; pip install 'ipykernel!=7.3.*'."
    return found


def installed(names: tuple[str, ...], why: str = "") -> tuple[bool, str]:
    """Whether all packages are installed, and their versions, or what to do."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        return False, f"{', '.join(missing)} cannot be found; run pip install -e '.[notebooks]'{why}."
    return True, ", ".join(f"{name} {metadata.version(name)}" for name in names)


def memory() -> tuple[bool, str]:
    table = Path("/proc/meminfo")
    if not table.is_file():
        return True, "this system does not say how much is free; 1 GB is enough"
    entries = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    return _enough(int(entries["MemAvailable"].split()[0]) / 2**20, LEAST_MEMORY_GB, "close something")


def _disk() -> tuple[bool, str]:
    return _enough(shutil.disk_usage(Path.cwd()).free / 2**30, LEAST_DISK_GB, "make room")


def _enough(free: float, least: float, mend: str) -> tuple[bool, str]:
    return free >= least, f"{free:.1f} GB free" + ("" if free >= least else f"; {mend}, {least:g} GB is needed.")
