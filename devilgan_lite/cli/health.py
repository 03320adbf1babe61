"""The checks of ``devilgan doctor``: one line for each thing that could keep the project from running here."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil
import sys
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
        "python": _python,
        "torch": _torch,
        "torchvision": _torchvision,
        "device": _device,
        "threads": _threads,
        "data": _data,
        "feature networks": _features,
        "zoo": _zoo_cards if quick else _zoo,
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
    lines = [f"{'ok     ' if check.ok else 'problem'}  {check.name:16s}{check.message}" for check in checks]
    show([asdict(check) for check in checks], as_json, "\n".join(lines))
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def _python() -> tuple[bool, str]:
    return True, ".".join(map(str, sys.version_info[:3]))  # pip refuses versions that are too old


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

    policy = os.environ.get("OMP_WAIT_POLICY", "").upper()
    advice = "" if policy == "PASSIVE" else "; on a busy machine, set OMP_WAIT_POLICY=PASSIVE"
    return True, f"{torch.get_num_threads()} of {os.cpu_count()} (--threads or DEVILGAN_THREADS){advice}"


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _data() -> tuple[bool, str]:
    from devilgan_lite.data import data_folder

    expected = json.loads((data_folder() / "checksums.json").read_text())
    for name, sha256 in expected.items():
        path = data_folder() / name
        if not path.is_file() or digest(path) != sha256:
            state = "does not match its SHA-256" if path.is_file() else "is missing"
            return False, f"data/{name} {state}; restore it with git checkout data, or run make data."
    return True, f"{', '.join(expected)}: SHA-256 matches"


def _features() -> tuple[bool, str]:
    from devilgan_lite.data import data_folder
    from devilgan_lite.features import NETWORKS, feature_card, feature_network

    accuracies = []
    for name, network in NETWORKS.items():
        path = data_folder() / f"{network.file}.safetensors"
        if not path.is_file() or digest(path) != feature_card(name)["sha256"]:
            return False, f"data/{path.name} is missing or changed; restore it with git checkout data."
        feature_network(name)
        accuracies.append(f"{feature_card(name)['test_accuracy']:.2%}")
    return True, f"{len(accuracies)} load, test accuracy {', '.join(accuracies)}"


def _zoo_cards() -> tuple[bool, str]:
    from devilgan_lite import zoo

    if "dcgan-fashion" not in zoo.names():
        return False, "data/zoo has no dcgan-fashion; restore it with git checkout data/zoo, or run make zoo."
    return True, f"{len([zoo.card(name) for name in zoo.names()])} models"


def _zoo() -> tuple[bool, str]:
    from devilgan_lite import zoo

    try:
        loaded = [name for name in zoo.names() if zoo.load(name)]
    except (ValueError, FileNotFoundError) as error:
        return False, f"{str(error).rstrip('.')}; restore it with git checkout data/zoo, or run make zoo."
    good, message = _zoo_cards()
    return good, f"{len(loaded)} models load" if good else message


def _notebooks() -> tuple[bool, str]:
    from devilgan_lite import runs

    names = runs.notebook_list()
    if not names:
        return False, "none were found; restore the project's notebooks/ folder, or set DEVILGAN_NOTEBOOKS."
    return True, ", ".join(names)


def _kernel() -> tuple[bool, str]:
    needed = ("ipykernel", "papermill", "nbclient", "jupytext", "nbconvert", "ipywidgets")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        return False, f"{', '.join(missing)} cannot be found; run pip install -e '.[notebooks]'."
    version = metadata.version("ipykernel")
    if version.startswith("7.3"):
        return False, f"ipykernel {version} runs widget callbacks on another thread; pip install 'ipykernel!=7.3.*'."
    return True, f"ipykernel {version}, papermill {metadata.version('papermill')}"


def memory() -> tuple[bool, str]:
    table = Path("/proc/meminfo")
    if not table.is_file():
        return True, "this system does not say how much is free; 1 GB is enough"
    entries = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    free = int(entries["MemAvailable"].split()[0]) / 2**20
    enough = free >= LEAST_MEMORY_GB
    return enough, f"{free:.1f} GB free" + ("" if enough else f"; close something, {LEAST_MEMORY_GB:g} GB is needed.")


def _disk() -> tuple[bool, str]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    enough = free >= LEAST_DISK_GB
    return enough, f"{free:.1f} GB free" + ("" if enough else f"; make room, {LEAST_DISK_GB:g} GB is needed.")
