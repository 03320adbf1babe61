"""A worker of the checking service: claims a job, checks the file in a jail, stores events and the report; again.

It ends when its server goes, which it learns from the end of its standard input, or on SIGTERM; a job that it holds
then goes back to the queue. Its own process never opens a stranger's file.
"""

import argparse
import contextlib
import importlib
import json
import math
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from devilgan_lite.apps.service.alive import own_name
from devilgan_lite.apps.service.log import log
from devilgan_lite.apps.service.settings import CHECK
from devilgan_lite.apps.service.store import Job, Store

MOST_EVENTS = 2_000  # of one attempt; they come out of the jail, so a stranger may have written them
MOST_EVENT_BYTES = 65_536
NAME = "FILE"  # what a check calls the file: the client's name is put in when a report is shown


class Worker:
    """One job at a time from ``store``, until ``stop`` is set.

    ``module`` has the function ``check`` and the class ``Options`` of ``devilgan_lite.intake.check``.
    """

    def __init__(self, store: Store, uploads: Path, module: Any, jail: Any) -> None:
        self.store, self.uploads, self.module, self.jail = store, uploads, module, jail
        self.name = own_name()
        self.stop = threading.Event()
        self.job = ""  # the job that this worker holds, if any
        self.lost = threading.Event()  # that job is no longer this worker's

    def beat(self, seconds: float) -> None:
        """Renew the lease of the job that is held, each ``seconds``; runs in a thread of its own."""
        while not self.stop.wait(seconds):
            job = self.job
            try:
                if job and not self.store.renew(job, self.name) and job == self.job:
                    self.lost.set()
            except SQLAlchemyError as error:  # a database that is away for a moment; the lease lasts some beats
                log("no_heartbeat", job=job, error=type(error).__name__)

    def work(self, poll_seconds: float) -> None:
        """Check jobs, one after another; look for a new one each ``poll_seconds``."""
        while not self.stop.is_set():
            self.store.take_back()
            job = self.store.claim(self.name)
            if job is None:
                self.stop.wait(poll_seconds)
            else:
                self._run(job)

    def _run(self, job: Job) -> None:
        self.lost.clear()
        self.job = job.id
        started, path, told = time.monotonic(), self.uploads / job.id, 0

        def on_event(content: dict[str, Any]) -> None:
            nonlocal told
            told += 1
            content = clean(content)
            fits = told <= MOST_EVENTS and len(json.dumps(content)) <= MOST_EVENT_BYTES
            if fits and not self.store.tell(job.id, self.name, content):
                self.lost.set()

        on_event({"event": "started", "attempt": job.attempts})
        report: Any = None
        try:
            asked = {name: value for name, value in json.loads(job.settings).items() if name != "version"}
            made = self.module.check(
                path,
                self.module.Options(**asked),
                jail=self.jail,
                name=NAME,
                on_event=on_event,
                cancelled=lambda: self.stop.is_set() or self.lost.is_set(),
            )
            report = clean(made)
            verdict, sentence = report["verdict"][:32], report["sentence"][:500]
        except Exception as error:  # a mistake of ours: the next job must not suffer for it
            log("check_failed", job=job.id, error=type(error).__name__)
            report, verdict, sentence = None, "", f"The check itself failed ({type(error).__name__})."
        self.job = ""
        if self.stop.is_set():
            self.store.hand_back(job.id, self.name)
            return
        if self.store.finish(job.id, self.name, report, verdict=verdict, sentence=sentence):
            path.unlink(missing_ok=True)
        milliseconds = round(1000 * (time.monotonic() - started))
        log("checked", job=job.id, verdict=verdict or "failed", attempt=job.attempts, milliseconds=milliseconds)


def clean(value: Any) -> Any:
    """``value``, which a stranger may have written, as every database and browser takes it.

    Numbers that are not finite become None, and what is no text in UTF-8 becomes ?.
    """
    if isinstance(value, dict):
        return {clean(str(name)): clean(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(one) for one in value]
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode().replace("\0", "?")
    return None if isinstance(value, float) and not math.isfinite(value) else value


def main() -> None:
    """Work as the command line says until standard input ends or a signal comes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--url", help="database; default: the environment variable DEVILGAN_DATABASE")
    parser.add_argument("--folder", type=Path, required=True, help="of the uploads")
    parser.add_argument("--check", default=CHECK, help="module that checks")
    parser.add_argument("--heartbeat", type=float, default=10.0, help="seconds")
    parser.add_argument("--lease", type=float, default=60.0, help="seconds")
    parser.add_argument("--poll", type=float, default=0.5, help="seconds")
    options = parser.parse_args()
    # by the environment, because everybody on a machine can read command lines, and without it from here on
    url = options.url or os.environ.pop("DEVILGAN_DATABASE", "")
    if not url:
        parser.error("--url or DEVILGAN_DATABASE must name the database.")
    module = importlib.import_module(options.check)
    with contextlib.ExitStack() as stack:
        jail = None  # a stand-in in a test needs none
        if options.check == CHECK:
            from devilgan_lite.intake.jail import Jail

            jail = stack.enter_context(Jail())
        worker = Worker(Store(url, lease_seconds=options.lease), options.folder, module, jail)
        signal.signal(signal.SIGTERM, lambda *_: worker.stop.set())
        signal.signal(signal.SIGINT, lambda *_: worker.stop.set())
        threading.Thread(target=_watch, args=(worker.stop,), daemon=True).start()
        threading.Thread(target=worker.beat, args=(options.heartbeat,), daemon=True).start()
        worker.work(options.poll)


def _watch(stop: threading.Event) -> None:
    """Set ``stop`` when standard input ends: whoever holds its other end has gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    stop.set()


if __name__ == "__main__":
    main()
