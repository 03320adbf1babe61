"""The server behind ``devilgan stage``: voila with one page, for a projector; offline, on this machine only."""

import importlib.util
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Any

import typer

from devilgan_lite.cli import stage_check, stage_page

EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"]  # no others
# voila's own template loads an icon font from the internet, and on a conference network that may take minutes
TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{% import 'spinner.macro.html.j2' as spinner %}
{%- block notebook_css -%}
{{ resources.include_js('static/voila-style.js') }}
{{ spinner.css() }}
{{ super.super() }}
{%- endblock notebook_css -%}
"""
PATIENCE = 60.0  # seconds until the server must answer
LAUNCH = "from devilgan_lite.cli.stage_server import start_voila; start_voila()"


def serve(pairs: list[tuple[str, str]], port: int, device: str, browser: bool, phones: str = "") -> None:
    """Serve the page of ``pairs`` at ``port`` or the next free one, print its address and wait for Ctrl-C.

    ``phones`` is the address that the page shows to the room, if any.
    """
    if importlib.util.find_spec("voila") is None:
        raise ValueError("voila, which serves the page, cannot be found; run pip install -e '.[notebooks]'.")
    free = stage_check.free_port(port)
    address = f"http://{stage_check.HOST}:{free}/"
    with tempfile.TemporaryDirectory(prefix="devilgan-stage-") as folder:
        notebook, log = _write(Path(folder), pairs, device, phones), Path(folder) / "log.txt"
        with log.open("w") as stream:
            command = _command(notebook, free)
            server = subprocess.Popen(command, env=_environment(folder), stdout=stream, stderr=stream)
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server never outlives this process
        try:
            _wait_for(address, server, log)
            busy = "" if free == port else f" (port {port} is busy)"
            opened = browser and stage_check.browser() is not None and webbrowser.open(address)
            hint = "" if opened or not browser else " No browser could be opened: open this address yourself."
            typer.echo(f"The stage is at {address}{busy}; Ctrl-C ends it.{hint}")
            server.wait()
        except KeyboardInterrupt:
            pass
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()


def start_voila() -> None:
    """Run voila in this process, without the optional package ``rfc3987_syntax``.

    jsonschema would import it to check addresses, of which the page has none, and its grammar takes two seconds to
    compile. A module that is None is one that Python reports as missing.
    """
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
    runpy.run_module("voila", run_name="__main__")


def _write(folder: Path, pairs: list[tuple[str, str]], device: str, phones: str) -> Path:
    """Write the notebook and, beside it, the template; return the notebook's path."""
    template = folder / "voila" / "templates" / "stage"
    template.mkdir(parents=True)
    (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
    (template / "index.html.j2").write_text(TEMPLATE, encoding="utf-8")
    path = folder / f"{stage_page.TITLE}.ipynb"
    path.write_text(stage_page.notebook(pairs, device, phones), encoding="utf-8")
    return path


def _command(notebook: Path, port: int) -> list[str]:
    settings = {
        "Voila.ip": stage_check.HOST,
        "Voila.port": port,
        "Voila.port_retries": 0,
        "Voila.open_browser": False,
        "Voila.log_level": "ERROR",
        "Voila.kernel_websocket_connection_class": "devilgan_lite.cli.websocket.PromptConnection",
        "VoilaConfiguration.template": "stage",
        "VoilaConfiguration.theme": "light",
    }
    pairs = [*settings.items(), *(("VoilaConfiguration.extension_allowlist", name) for name in EXTENSIONS)]
    return [sys.executable, "-c", LAUNCH, str(notebook), *(f"--{name}={value}" for name, value in pairs)]


def _environment(folder: str) -> dict[str, str]:
    """This process's environment and the place of the template, without variables that make the page static."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DEVILGAN_OUT", "DEVILGAN_PROFILE")}
    places = filter(None, [folder, kept.get("JUPYTER_PATH")])
    quiet = {"JUPYTER_WIDGETS_ECHO": "0"}  # each kernel has one browser, so no other one needs its moves
    return kept | quiet | {"JUPYTER_PATH": os.pathsep.join(places)}


def _wait_for(address: str, server: subprocess.Popen[Any], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it printed nothing"])[-1]
            raise ValueError(f"the server ended at once with exit code {server.returncode}: {last}")
        try:
            urllib.request.urlopen(f"{address}voila/static/voila.js", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # the server answers, so it is up
        except OSError:
            time.sleep(0.05)
    raise ValueError(f"the server at {address} has not answered within {PATIENCE:.0f} s.")
