"""Servers for a real browser, and how its pages are watched; for the tests beside it and for scripts/bench/stage.py."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat.v4 import new_code_cell, new_notebook

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ROOT / "out" / "browser"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
PATIENCE = 240.0  # seconds until something counts as hung; a busy machine takes a while to start JupyterLab
NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in ("DEVILGAN_OUT", "DEVILGAN_PROFILE")}
ENVIRONMENT["PYTHONPATH"] = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))


def write_notebook(path: Path, *sources: str) -> Path:
    """A notebook of these code cells, with this Python's kernel."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [new_code_cell(source) for source in sources]
    nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), path)
    return path


@contextlib.contextmanager
def chromium(playwright: Any) -> Iterator[Any]:
    """A browser; the sandbox is off, which containers do not allow."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    try:
        yield browser
    finally:
        browser.close()


@contextlib.contextmanager
def lab(notebook: Path) -> Iterator[str]:
    """JupyterLab in a world of its own; yields the address at which it opens ``notebook``."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text(json.dumps(NO_NEWS))
        port, token = free_port(), "browser"
        options = {
            "ServerApp.port": port,
            "IdentityProvider.token": token,
            "ServerApp.root_dir": notebook.parent,
            "ServerApp.open_browser": False,
            "ServerApp.allow_root": True,
            "ServerApp.kernel_websocket_connection_class": "devilgan_lite.cli.websocket.PromptConnection",
            "LabApp.expose_app_in_browser": True,
        }
        command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
        places = {f"JUPYTERLAB_{name.upper()}_DIR": str(Path(folder) / name) for name in ("settings", "workspaces")}
        places |= {f"JUPYTER_{name.upper()}_DIR": str(Path(folder) / name) for name in ("config", "runtime")}
        with _process(command, places, subprocess.DEVNULL):
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/api/status?token={token}")
            yield f"{address}/lab/tree/{notebook.name}?token={token}"


@contextlib.contextmanager
def stage(*options: str) -> Iterator[str]:
    """``devilgan stage``; yields its address."""
    code = "from devilgan_lite.cli import app; app()"
    command = [sys.executable, "-c", code, "stage", "--no-browser", "--port", str(free_port()), *options]
    with _process(command, {}, subprocess.PIPE) as process:
        line = process.stdout.readline()
        assert "http://" in line, line
        yield next(word for word in line.split() if word.startswith("http://")).rstrip(";")


@contextlib.contextmanager
def _process(command: list[str], places: dict[str, str], output: int) -> Iterator[Any]:
    process = subprocess.Popen(
        command, env=ENVIRONMENT | places, stdout=output, stderr=subprocess.DEVNULL, text=True, cwd=ROOT
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE)


def _wait_for(address: str, seconds: float = PATIENCE) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(address, timeout=5).close()
            return
        time.sleep(0.1)
    raise TimeoutError(f"nothing answers at {address.split('?')[0]}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def run_all(page: Any, address: str) -> None:
    """Open a notebook in JupyterLab and run all of its cells."""
    page.goto(address)
    page.wait_for_selector(".jp-Notebook .jp-Cell")
    page.wait_for_function("window.jupyterapp?.commands.hasCommand('notebook:run-all-cells')")
    page.wait_for_function(  # the kernel is there
        "window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'"
    )
    page.evaluate("window.jupyterapp.commands.execute('notebook:run-all-cells')")


def pixels(page: Any) -> str:
    """What the explorer's screen shows now, as text that differs when a pixel does."""
    return page.evaluate(
        "[...document.querySelector('.devilgan-screen').querySelectorAll('canvas')].map(c => c.toDataURL()).join()"
    )


def wait_for_other_pixels(page: Any, before: str, seconds: float = PATIENCE) -> str:
    """Wait until the screen differs from ``before``, and return what it shows."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        now = pixels(page)
        if now != before:
            return now
        page.wait_for_timeout(20)
    raise AssertionError("the pictures did not change")


def settled(page: Any, seconds: float = PATIENCE) -> str:
    """Wait until the screen has not changed for 0.4 s, and return what it shows."""
    end, before = time.monotonic() + seconds, pixels(page)
    while time.monotonic() < end:
        page.wait_for_timeout(400)
        now = pixels(page)
        if now == before:
            return now
        before = now
    raise AssertionError("the pictures do not come to rest")


def until(page: Any, condition: str, seconds: float = PATIENCE) -> None:
    """Wait; Playwright's own waiting evaluates text in the page, which the policy of our pages forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        if time.monotonic() > end:
            raise AssertionError(condition)
        page.wait_for_timeout(20)


class Visit:
    """A page in a context of its own; ``wrong`` is what failed in it, what it said, and what it asked of others."""

    def __init__(self, browser: Any, address: str = "", size: tuple[int, int] = (1280, 800), **settings: Any) -> None:
        viewport = dict(zip(("width", "height"), size, strict=True))
        self.context = browser.new_context(viewport=viewport, **settings)
        self.context.set_default_timeout(1_000 * PATIENCE)
        self.page, self.wrong, self.address = self.context.new_page(), list[str](), address
        own = (address.partition("#")[0], "data:", "blob:") if address else ("data:", "blob:")
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on(
            "console", lambda said: None if "willReadFrequently" in said.text else self.wrong.append(said.text)
        )
        self.page.on("request", lambda one: None if one.url.startswith(own) else self.wrong.append(one.url))
        if address:
            self.page.goto(address)

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, kind: Any, *error: object) -> None:
        self.context.close()
        assert kind is not None or self.wrong == []

    def until(self, condition: str) -> None:
        until(self.page, condition)

    def press(self, *keys: str) -> None:
        """Press keys, and wait for the frame that they change."""
        for key in keys:
            self.page.keyboard.press(key)
            self.frame()

    def frame(self) -> None:
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def at(self) -> list[float]:
        """Where the walk of our pages is."""
        return list(self.page.evaluate("[walk.t, walk.across]"))


def drawn(canvas: Any, shape: tuple[int, ...]) -> torch.Tensor:
    """What a canvas shows, as a sample of this shape in [-1, 1]; what is enlarged is made small again."""
    channels, height, width = shape
    pixels = canvas.evaluate(
        """(canvas, [width, height]) => {
          const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d");
          context.drawImage(canvas, 0, 0, width, height);
          return [...context.getImageData(0, 0, width, height).data];
        }""",
        [width, height],
    )
    return torch.tensor(pixels).view(height, width, 4).permute(2, 0, 1)[:channels] / 127.5 - 1
