"""Keeps the worker processes running: starts them, starts anew what has died, and ends them with the server."""

import os
import subprocess
import sys
import threading
import time

from devilgan_lite.apps.service.log import log
from devilgan_lite.apps.service.settings import Settings
from devilgan_lite.environment import DEFAULTS

LONGEST_WAIT = 30.0  # seconds before a worker that keeps dying is started again
STEADY = 60.0  # seconds of life after which the next death counts as the first
PATIENCE = 10.0  # seconds that workers have to hand their jobs back


class Supervisor:
    """``settings.workers`` processes from ``start`` until ``stop``. The end of their input tells them to end."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.processes: list[subprocess.Popen[bytes] | None] = [None] * settings.workers
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)

    def start(self) -> None:
        """Start the workers, and the thread that watches them."""
        self.thread.start()

    def alive(self) -> int:
        """How many workers run now."""
        return sum(process is not None and process.poll() is None for process in self.processes)

    def stop(self) -> None:
        """Let the workers hand their jobs back and end; kill those that do not."""
        self.ended.set()
        self.thread.join()
        running = [process for process in self.processes if process is not None]
        for process in running:
            if process.stdin:
                process.stdin.close()
        end = time.monotonic() + PATIENCE
        for process in running:
            try:
                process.wait(max(end - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _watch(self) -> None:
        count = len(self.processes)
        deaths, due, born = [0] * count, [0.0] * count, [0.0] * count
        while True:
            now = time.monotonic()
            for index, process in enumerate(self.processes):
                if process is not None and process.poll() is not None:
                    if process.stdin:
                        process.stdin.close()
                    deaths[index] = 1 if now - born[index] > STEADY else deaths[index] + 1
                    due[index] = now + min(2.0 ** (deaths[index] - 2), LONGEST_WAIT)
                    log("worker_died", code=process.returncode, deaths=deaths[index])
                    self.processes[index] = None
                if self.processes[index] is None and now >= due[index]:
                    self.processes[index], born[index] = self._start(), now
            if self.ended.wait(0.2):
                return

    def _start(self) -> subprocess.Popen[bytes]:
        settings = self.settings
        options = {
            "folder": settings.uploads,
            "check": settings.check,
            "heartbeat": settings.heartbeat_seconds,
            "lease": settings.lease_seconds,
            "poll": settings.poll_seconds,
        }
        command = [sys.executable, "-P", "-m", "devilgan_lite.apps.service.worker"]
        command += [f"--{name}={value}" for name, value in options.items()]
        environment = {**DEFAULTS, **os.environ, "DEVILGAN_DATABASE": settings.url}
        # a session of its own: Ctrl-C is for the server, which then ends its workers in order
        return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)
