"""A service as a real process on a free port, for the tests here, the browser's and scripts/bench/service.py."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import psutil

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PATIENCE = 60.0  # seconds until something counts as hung
CODE = """
import sys
from devilgan_lite.cli.common import commands
from devilgan_lite.apps.service.commands import serve
from devilgan_lite.apps.service import settings
pairs = (pair.split("=") for pair in sys.argv.pop(1).split())
options = {name: int(value) if value.isdigit() else float(value) for name, value in pairs}
plain = settings.Settings
settings.Settings = lambda **given: plain(**{**given, **options})
app = commands("as in devilgan_lite.cli")
app.callback()(lambda: None)
app.command()(serve)
app(["serve", *sys.argv[1:]])
"""
QUICK = "heartbeat_seconds=0.3 lease_seconds=2 poll_seconds=0.05 sweep_seconds=0.5"


def until(done: Callable[[], Any]) -> Any:
    """Wait until ``done()`` is true, as long as patience lasts; what it was at last."""
    end = time.monotonic() + PATIENCE
    while not (found := done()) and time.monotonic() < end:
        time.sleep(0.02)
    return found


class Server:
    """``devilgan serve`` with the stand-in check and short times; ``address`` and ``process`` once it listens."""

    def __init__(self, folder: Path, *options: str, check: str = "stand_in", times: str = QUICK, **environment: str):
        self.command = [sys.executable, "-c", CODE, times, "--folder", str(folder), "--port", "0", *options]
        self.command += ["--check", check] if check else []
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(HERE), str(ROOT)]))
        self.environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment}
        self.log = folder.parent / f"{folder.name}.log"

    def __enter__(self) -> Self:
        with self.log.open("a") as log:
            options: Any = {"env": self.environment, "stdout": subprocess.PIPE, "stderr": log, "text": True}
            self.process = subprocess.Popen(self.command, **options)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), self.log.read_text()[-2000:]
        self.address = line.split()[-1].replace("0.0.0.0", "127.0.0.1")
        return self

    def __exit__(self, *error: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)
        self.process.stdout.close()

    def ask(self, path: str, content: bytes | None = None, method: str | None = None, **headers: str) -> Any:
        """The JSON of an answer, or its status where it is an error."""
        request = urllib.request.Request(self.address + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read() or "null")
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    def workers(self) -> list[int]:
        """The process ids of the workers."""
        children = psutil.Process(self.process.pid).children()
        return [one.pid for one in children if "devilgan_lite.apps.service.worker" in one.cmdline()]

    def wait_for(self, *ids: str, states: tuple[str, ...] = ("done", "failed")) -> list[dict[str, Any]]:
        """The scans, as soon as all are in one of ``states``."""
        scans: list[dict[str, Any]] = []

        def ended() -> bool:
            scans[:] = [self.ask(f"/scans/{id}") for id in ids]
            return all(scan["state"] in states for scan in scans)

        assert until(ended), f"{[scan['state'] for scan in scans]}; {self.log.read_text()[-2000:]}"
        return scans
