"""``devilgan stage --check``: is tonight's laptop ready? Nothing here imports torch, so the answer takes a second."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import webbrowser
from importlib import metadata
from pathlib import Path
from typing import Any

from devilgan_lite.cli import health

PACKAGES = ("torch", "safetensors", "ipywidgets", "anywidget", "ipykernel", "voila")
RENDERERS = ("python_avatars", "resvg_py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox", "msedge", "safari")
HOST = "127.0.0.1"
PORTS = 50  # are tried, from the wanted one on


def examine(port: int) -> list[health.Check]:
    """What the stage needs, in the order in which to mend it."""
    looks: dict[str, health.Look] = {
        "packages": lambda: _packages(PACKAGES, "run pip install -e '.[notebooks]'"),
        "renderer": lambda: _packages(RENDERERS, "run pip install -e '.[notebooks]'; only drawing new faces needs it"),
        "browser": _browser,
        "port": lambda: _port(port),
        "zoo pair": _pair,
        "memory": health.memory,
    }
    return health.carry_out(looks)


def cards() -> dict[str, dict[str, Any]]:
    """The model cards of the zoo by name, as they stand in their files (``zoo.card`` would import torch)."""
    folder = zoo_folder()
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def zoo_folder() -> Path:
    """What ``zoo.zoo_folder`` says, without its imports."""
    package = Path(__file__).resolve().parents[1]
    copy = package / "_data"
    return Path(os.environ.get("DEVILGAN_DATA") or (copy if copy.is_dir() else package.parent / "data")) / "zoo"


def pairs() -> list[tuple[str, str]]:
    """(clean, backdoored) names in the zoo, the best for a stage first: faces before garments, ReX before others."""
    known = cards()

    def rank(pair: tuple[str, str]) -> tuple[bool, bool, str]:
        card = known[pair[1]]
        return card["spec"]["architecture"] != "StyleGAN", card["settings"].get("attack") != "ReX", pair[1]

    found = [(card["settings"].get("clean"), name) for name, card in known.items() if card.get("backdoor")]
    return sorted(((clean, name) for clean, name in found if clean in known), key=rank)


def wanted(model: str) -> list[tuple[str, str]]:
    """(clean, backdoored) names, the one to show first; the others stand by."""
    found = pairs()
    if not found:
        raise ValueError("the zoo has no backdoored model with its clean one; run devilgan stage --check.")
    names = [suspect for _, suspect in found]
    if model and model not in names:
        from devilgan_lite.checks import nearest  # which imports torch

        raise ValueError(f"model={model!r} is unknown; valid: {', '.join(names)}.{nearest(model, names)}")
    return sorted(found, key=lambda pair: pair[1] != model) if model else found


def free_port(port: int) -> int:
    """``port``, or the next one that nobody listens on; a ``ValueError`` if there is none among the next fifty."""
    for candidate in range(port, min(port + PORTS, 65_536)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((HOST, candidate))
            except OSError:
                continue
            return candidate
    raise ValueError(f"port={port} is not free, and neither is any of the next {PORTS}; name another one.")


def browser() -> str | None:
    """The name of a browser that can be opened here, or None."""
    for name in BROWSERS:
        if shutil.which(name):
            return name
    try:
        return webbrowser.get().name
    except (webbrowser.Error, AttributeError):
        return None


def _packages(names: tuple[str, ...], mend: str) -> tuple[bool, str]:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        return False, f"{', '.join(missing)} cannot be found; {mend}."
    return True, ", ".join(f"{name} {metadata.version(name)}" for name in names)


def _browser() -> tuple[bool, str]:
    name = browser()
    return (
        name is not None,
        name or "none was found; install one, or open the stage by its address.",
    )


def _port(port: int) -> tuple[bool, str]:
    free = free_port(port)
    return True, f"{free} is free" if free == port else f"{port} is busy; the stage will take {free}"


def _pair() -> tuple[bool, str]:
    found = pairs()
    if not found:
        return False, "data/zoo has no backdoored model with its clean one; restore it with git checkout data/zoo."
    known = cards()
    for name in found[0]:
        path = zoo_folder() / f"{name}.safetensors"
        if not path.is_file() or health.digest(path) != known[name]["sha256"]:
            state = "does not match its SHA-256" if path.is_file() else "is missing"
            return False, f"data/zoo/{path.name} {state}; restore it with git checkout data/zoo."
    return True, f"{' and '.join(found[0])}: SHA-256 matches"
