"""``devilgan stage``: the explorer as a page without code, for a projector; offline, on this machine only."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import webbrowser
from pathlib import Path
from typing import Annotated, Any

import typer

from devilgan_lite.cli import health, stage_check, stage_page
from devilgan_lite.cli.common import AsJson

EXTENSIONS = ["@voila-dashboards/widgets-manager8", "@jupyter-widgets/jupyterlab-manager", "anywidget"]  # no others
# voila's own template asks the internet for a font of icons, and a hall's network may keep it waiting for minutes
TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{% import 'spinner.macro.html.j2' as spinner %}
{%- block notebook_css -%}
{{ resources.include_js('static/voila-style.js') }}
{{ spinner.css() }}
{{ super.super() }}
{%- endblock notebook_css -%}
"""
PATIENCE = 60.0  # seconds until the server must answer
# jsonschema checks addresses with a grammar that takes two seconds to compile, if it finds it; the page has none
LAUNCH = "import sys; sys.modules['rfc3987_syntax'] = None; from voila.app import main; main()"


def stage(
    model: Annotated[str, typer.Option(help="A backdoored model of the zoo; faces, else garments, unless given.")] = "",
    port: Annotated[int, typer.Option(min=1024, max=65_535, help="Where to serve; busy: the next.")] = 8866,
    browser: Annotated[bool, typer.Option(help="Open a browser.")] = True,
    printed: Annotated[Path | None, typer.Option("--print", help="Only write a page for print to this file.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether this machine is ready.")] = False,
    as_json: AsJson = False,
) -> None:
    """Serve the explorer as a page without code: clean and backdoored side by side. Ctrl-C ends it."""
    if check:
        health.report(stage_check.examine(port), as_json)
        return
    pairs = stage_check.wanted(model)
    if printed is not None:
        stage_page.write_printable(printed, *pairs[0])
        typer.echo(printed)
        return
    if importlib.util.find_spec("voila") is None:
        raise ValueError("voila cannot be found, which serves the page; run pip install -e '.[notebooks]'.")
    free = stage_check.free_port(port)
    address = f"http://{stage_check.HOST}:{free}/"
    with tempfile.TemporaryDirectory(prefix="devilgan-stage-") as folder:
        path = _write(Path(folder), pairs)
        log = Path(folder) / "log.txt"
        with log.open("w") as stream:
            server = subprocess.Popen(_command(path, free), env=_environment(folder), stdout=stream, stderr=stream)
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


def _write(folder: Path, pairs: list[tuple[str, str]]) -> Path:
    """The notebook's path; the template stands beside it."""
    template = folder / "voila" / "templates" / "stage"
    template.mkdir(parents=True)
    (template / "conf.json").write_text('{"base_template": "lab"}', encoding="utf-8")
    (template / "index.html.j2").write_text(TEMPLATE, encoding="utf-8")
    path = folder / f"{stage_page.TITLE}.ipynb"
    path.write_text(stage_page.notebook(pairs), encoding="utf-8")
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
    """This process's own with the template's place, less what would tell the page that nobody watches."""
    kept = {name: value for name, value in os.environ.items() if name not in ("DEVILGAN_OUT", "DEVILGAN_PROFILE")}
    places = filter(None, [folder, kept.get("JUPYTER_PATH")])
    quiet = {"JUPYTER_WIDGETS_ECHO": "0"}  # one browser a kernel here: nobody else needs to hear of its moves
    return kept | quiet | {"JUPYTER_PATH": os.pathsep.join(places)}


def _wait_for(address: str, server: subprocess.Popen[Any], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if server.poll() is not None:
            last = (log.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
            raise ValueError(f"the server ended at once with exit code {server.returncode}: {last}")
        try:
            urllib.request.urlopen(f"{address}voila/static/voila.js", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return  # an answer is an answer
        except OSError:
            time.sleep(0.05)
    raise ValueError(f"the server at {address} has not answered within {PATIENCE:.0f} s.")
