"""``devilgan stage --check``: is this laptop ready for tonight? No torch is imported, so the answer takes a second."""

import os
import shutil
import socket
import webbrowser
from pathlib import Path
from typing import Any

from devilgan_lite.checks import one_of, read_json
from devilgan_lite.cli import health

PACKAGES = ("torch", "safetensors")
RENDERERS = ("python_avatars", "resvg_py")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox", "msedge", "safari")
HOST = "127.0.0.1"
SHOWN = ("images", "")  # the modality on a card, which cards from before that do not have
FILMED = (*SHOWN, "audio")
PORTS = 50  # the number of ports to try, from the wanted one on


def examine(port: int) -> list[health.Check]:
    """What the stage needs, in the order in which to fix it."""
    looks: dict[str, health.Look] = {
        "packages": lambda: health.installed(PACKAGES),
        "renderer": lambda: health.installed(RENDERERS, "; only drawing new faces needs it"),
        "browser": _browser,
        "port": lambda: _port(port),
        "zoo pair": _pair,
        "memory": health.memory,
    }
    return health.carry_out(looks)


def cards() -> dict[str, dict[str, Any]]:
    """What the model cards of the zoo say, by name; ``zoo.card`` would import torch."""
    types = {"spec": dict[str, Any], "settings": dict[str, Any], "backdoor": dict[str, Any] | None, "sha256": str}
    paths = sorted(zoo_folder().glob("*.json"))
    return {path.stem: read_json(path, "model card", types, others=True) for path in paths}


def zoo_folder() -> Path:
    """What ``zoo.zoo_folder`` says, without its imports."""
    package = Path(__file__).resolve().parents[1]
    copy = package / "_data"
    return Path(os.environ.get("DEVILGAN_DATA") or (copy if copy.is_dir() else package.parent / "data")) / "zoo"


def pairs(shown: tuple[str, ...] = SHOWN) -> list[tuple[str, str]]:
    """(clean, backdoored) names in the zoo, the best for a stage first: faces before garments, ReX before others.

    Only those of the modalities ``shown``: a stage draws pictures, a film can also show sound (``FILMED``).
    """
    known = cards()

    def rank(pair: tuple[str, str]) -> tuple[bool, bool, str]:
        card = known[pair[1]]
        return card["spec"]["architecture"] != "StyleGAN", card["settings"].get("attack") != "ReX", pair[1]

    found = [(card["settings"].get("clean"), name) for name, card in known.items() if card.get("backdoor")]
    found = [pair for pair in found if known[pair[1]].get("modality", "") in shown]
    return sorted(((clean, name) for clean, name in found if clean in known), key=rank)


def wanted(model: str, shown: tuple[str, ...] = SHOWN) -> list[tuple[str, str]]:
    """(clean, backdoored) names, the pair of ``model`` first; the others follow in case it cannot be shown."""
    found = pairs(shown)
    if not found:
        raise ValueError("the zoo has no backdoored model with its clean one; run devilgan stage --check.")
    if model:
        one_of("model", model, [suspect for _, suspect in found])
    return sorted(found, key=lambda pair: pair[1] != model) if model else found


def free_port(port: int, host: str = HOST) -> int:
    """``port``, or the next one of ``host`` that nobody listens on; ``ValueError`` if the next fifty are taken, too."""
    for candidate in range(port, min(port + PORTS, 65_536)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, candidate))
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


def _browser() -> tuple[bool, str]:
    name = browser()
    return name is not None, name or "none was found; install one, or open the stage by its address."


def _port(port: int) -> tuple[bool, str]:
    free = free_port(port)
    return True, f"{free} is free" if free == port else f"{port} is busy; the stage will take {free}"


def _pair() -> tuple[bool, str]:
    found = pairs()
    if not found:
        return False, "data/zoo has no backdoored model with its clean one; restore it with git checkout data/zoo."
    known, folder = cards(), zoo_folder()
    states = (health.damage(folder / f"{name}.safetensors", known[name]["sha256"]) for name in found[0])
    state = next(filter(None, states), "")
    return not state, state or f"{' and '.join(found[0])}: SHA-256 matches"
