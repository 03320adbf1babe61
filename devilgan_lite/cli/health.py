"""``devilgan doctor``: one line for each thing that could keep the project from running here."""

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
from devilgan_lite.cli.common import applications, show

Look = Callable[[], str]
LEAST_MEMORY_GB = 1.0
LEAST_DISK_GB = 0.5
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
    return carried_out(
        {
            "python": platform.python_version,  # pip refuses versions that are too old
            "torch": _torch,
            "torchvision": _torchvision,
            "device": _device,
            "threads": _threads,
            "data": _data,
            "feature networks": _features,
            "zoo": lambda: _zoo(load=not quick),
            **_of_applications(),
            "memory": memory,
            "disk": lambda: _enough(shutil.disk_usage(Path.cwd()).free / 2**30, LEAST_DISK_GB, "make room"),
        }
    )


def _of_applications() -> dict[str, Look]:
    """What the applications that are here look for besides: the ``HEALTH`` of their commands."""
    return {name: look for application in applications() for name, look in application.get("HEALTH", {}).items()}


def carried_out(looks: dict[str, Look]) -> list[Check]:
    """Do each look; what it raises is a line that says so."""
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


def compare(path: Path, sha256: str) -> None:
    """Is the file there, with the bytes that were shipped? Else a ``Problem``."""
    if not path.is_file():
        raise Problem(f"{path.name} is missing; {RESTORE}.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != sha256:
        raise Problem(f"{path.name} does not match its SHA-256; {RESTORE}.")


def _data() -> str:
    expected = json.loads((shipped.data_folder() / "checksums.json").read_text())
    for name, sha256 in expected.items():
        compare(shipped.data_folder() / name, sha256)
    return f"{', '.join(expected)}: SHA-256 matches"


def _features() -> str:
    from devilgan_lite.features import NETWORKS, feature_card, feature_network

    for name, network in NETWORKS.items():
        compare(shipped.data_folder() / f"{network.file}.safetensors", feature_card(name)["sha256"])
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


def installed(names: tuple[str, ...], why: str = "") -> str:
    """The versions of packages; what is missing is a ``Problem``, with ``why`` it is needed."""
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise Problem(f"{', '.join(missing)} cannot be found; run pip install -e '.[notebooks]'{why}.")
    return ", ".join(f"{name} {metadata.version(name)}" for name in names)


def memory() -> str:
    """How much memory is free; too little is a ``Problem``."""
    table = Path("/proc/meminfo")
    if not table.is_file():
        return "this system does not say how much is free; 1 GB is enough"
    entries = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
    return _enough(int(entries["MemAvailable"].split()[0]) / 2**20, LEAST_MEMORY_GB, "close something")


def _enough(free: float, least: float, mend: str) -> str:
    if free < least:
        raise Problem(f"{free:.1f} GB free; {mend}, {least:g} GB is needed.")
    return f"{free:.1f} GB free"
