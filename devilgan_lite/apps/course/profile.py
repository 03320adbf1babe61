"""The settings of a notebook: declared once, checked in the second cell, printed, and written beside its numbers.

A notebook's ``parameters`` cell holds plain ``name = literal`` lines, with what is valid in their comments. The next
cell hands them to ``configure``, which fills in what the profile decides, refuses what is not valid, and says what will
run and on what.
"""

import contextlib
import json
import math
import os
import platform
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from devilgan_lite.apps.parameters import Parameter, parse_cell
from devilgan_lite.checks import nearest, one_of
from devilgan_lite.steps import best_device

PROFILES = ("smoke", "workshop", "full")
DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Setting:
    """A ``value`` from the parameters cell; where it is None, ``default`` holds, by profile or for all profiles."""

    value: Any
    default: Any = None

    def resolve(self, profile: str) -> Any:
        """The value to use."""
        if self.value is not None:
            return self.value
        return self.default[profile] if isinstance(self.default, Mapping) else self.default


def declared() -> dict[str, Parameter]:
    """The parameters of the running notebook, from its parameters cell among the cells that were run."""
    from IPython.core.getipython import get_ipython

    shell, found = get_ipython(), dict[str, Parameter]()
    for source in shell.user_ns.get("In", []) if shell is not None else []:
        with contextlib.suppress(ValueError, SyntaxError):  # any other cell
            found |= {one.name: one for one in parse_cell(source).values() if one.low is not None or one.choices}
    return found


@dataclass(frozen=True)
class Config:
    """The effective settings, read as attributes: ``config.steps``. Nothing about it can be changed afterwards."""

    profile: str
    device: str
    threads: int
    versions: dict[str, str]
    values: dict[str, Any]
    started: float = field(default_factory=time.perf_counter, repr=False)

    def __getattr__(self, name: str) -> Any:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"the config has no setting {name!r}; it has {', '.join(values)}.{nearest(name, values)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def __str__(self) -> str:
        settings = "   ".join(f"{name} = {value!r}" for name, value in self.values.items())
        software = "   ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"profile {self.profile}   {settings}\ndevice {self.device}   threads {self.threads}   {software}"


def configure(profile: str = "workshop", *, device: str = "auto", **settings: Any) -> Config:
    """Check all ``settings``, print the effective values and the machine, and return them as a ``Config``.

    A setting is a value, or a ``Setting`` where the profile may decide. What is valid stands in the comments of the
    parameters cell (``parameters``).

    The environment variable ``DEVILGAN_PROFILE``, when set, overrides ``profile`` (and says so); ``DEVILGAN_THREADS``
    (default 1, the fastest for small models) is the number of CPU threads.
    """
    one_of("profile", profile, PROFILES)
    one_of("device", device, DEVICES)
    chosen = os.environ.get("DEVILGAN_PROFILE") or profile
    one_of("DEVILGAN_PROFILE", chosen, PROFILES)
    reserved = [name for name in settings if name in Config.__dataclass_fields__]
    if reserved:
        raise ValueError(f"{reserved[0]!r} cannot be the name of a setting: the config uses it itself.")
    values, valid = {}, declared()
    for name, given in settings.items():
        setting = given if isinstance(given, Setting) else Setting(given)
        values[name] = setting.resolve(chosen)
        if values[name] is None:
            raise ValueError(f"{name}=None is not valid: the profile has no value for it.")
        valid.get(name, Parameter(name, Setting(None, setting.default).resolve(chosen))).check(values[name])
    config = Config(chosen, str(best_device(device)), _set_threads(), versions(), values)
    if chosen != profile:
        print(f"profile {profile!r} is overridden by the environment variable DEVILGAN_PROFILE={chosen!r}")
    print(config)
    return config


def _set_threads() -> int:
    text = os.environ.get("DEVILGAN_THREADS") or "1"
    most = 4 * (os.cpu_count() or 1)
    if not text.isdigit() or not 1 <= int(text) <= most:
        raise ValueError(f"DEVILGAN_THREADS={text!r} is not valid: it must be a whole number from 1 to {most}.")
    torch.set_num_threads(int(text))
    return int(text)


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    try:
        ours = metadata.version("devilgan_lite")
    except metadata.PackageNotFoundError:
        ours = "(source)"
    return {"python": platform.python_version(), "torch": torch.__version__, "devilgan_lite": ours}


def is_static() -> bool:
    """True where nobody can press a button: outside a notebook kernel, or in a run by ``runs.run`` or a smoke test."""
    if os.environ.get("DEVILGAN_OUT") or os.environ.get("DEVILGAN_PROFILE"):
        return True
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is None


def peak_memory_mb() -> float | None:
    """The largest memory that this process has held, in MB; None where the system does not tell (Windows)."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1 << 20 if sys.platform == "darwin" else 1 << 10), 1)


def finish(config: Config, numbers: Mapping[str, Any]) -> None:
    """The last cell: collect ``numbers`` (what the text claims) with everything that produced them.

    Written to ``$DEVILGAN_OUT/result.json`` when that folder is named (``runs.run`` does), else printed. Tensors and
    numpy numbers become plain ones; numbers that are not finite become null and are listed under ``not_finite``.
    ``zoo`` has the SHA-256 of every shipped model that was loaded.
    """
    from devilgan_lite import zoo

    bad: list[str] = []
    result = {
        "profile": config.profile,
        "seed": config.values.get("seed"),
        "settings": _plain(config.values, "settings", bad),
        "numbers": _plain(numbers, "numbers", bad),
        "device": config.device,
        "threads": config.threads,
        "versions": config.versions,
        "zoo": dict(sorted(zoo.loaded.items())),
        "seconds": round(time.perf_counter() - config.started, 2),
        "peak_memory_mb": peak_memory_mb(),
        "not_finite": bad,
    }
    text = json.dumps(result, indent=2, allow_nan=False)
    if folder := os.environ.get("DEVILGAN_OUT"):
        (Path(folder) / "result.json").write_text(text + "\n", encoding="utf-8")
        print("result.json written")
    else:
        print(text)


def _plain(value: Any, where: str, bad: list[str]) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(part, f"{where}.{name}", bad) for name, part in value.items()}
    if hasattr(value, "tolist"):  # tensors, numpy arrays and their scalars
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{where}[{index}]", bad) for index, part in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        bad.append(where)
        return None
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"{where} is a {type(value).__name__}; only numbers, texts, lists and tensors can be written.")
