"""The folder of a study: one folder per run, written atomically.

``study.json`` lists the runs in order; ``runs/<id>`` holds the executed notebook, ``result.json``, ``log.txt`` and
``row.json``; ``journal.txt`` gets a line whenever a run has ended.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from devilgan_lite.apps.studies.study import Study

Row = dict[str, Any]
NEW, OLD = ".new-", ".old-"


class Store:
    """Rows of finished runs in ``folder``; only one process at a time may write (``writing``)."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.runs = self.folder / "runs"

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the folder for this process; another one at work there is a ``ValueError``."""
        from filelock import FileLock, Timeout

        self.runs.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ValueError(
                f"another sweep is at work in {self.folder}; wait for it, or name another --out."
            ) from None
        try:
            self._tidy()
            yield
        finally:
            lock.release()

    def _tidy(self) -> None:
        """Put away what a killed process left half done."""
        for left in self.runs.glob(f"{OLD}*"):
            final = self.runs / left.name.removeprefix(OLD)
            if final.exists():
                shutil.rmtree(left)
            else:
                left.rename(final)
        for left in self.runs.glob(f"{NEW}*"):
            shutil.rmtree(left)

    def describe(self, study: Study) -> None:
        """Write ``study.json``, whole or not at all."""
        runs = [
            {"id": run.id, "notebook": run.notebook, "repeat": run.repeat, "parameters": run.parameters}
            for run in study.runs
        ]
        content = {"name": study.name, "title": study.title, "runs": runs}
        part = self.folder / ".study.json"
        part.write_text(json.dumps(content, indent=1, default=str) + "\n", encoding="utf-8")
        os.replace(part, self.folder / "study.json")

    def row(self, identity: str) -> Row | None:
        """The row of a finished run."""
        path = self.runs / identity / "row.json"
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def keep(self, row: Row, files: Mapping[str, bytes]) -> None:
        """Store a finished run in the place of an earlier one, if there is one, and note it in the journal."""
        new, final, old = (self.runs / f"{mark}{row['id']}" for mark in (NEW, "", OLD))
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir()
        for name, content in files.items():
            (new / Path(name).name).write_bytes(content)
        (new / "row.json").write_text(json.dumps(row, indent=1, default=str) + "\n", encoding="utf-8")
        if final.exists():
            final.rename(old)
        new.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        with (self.folder / "journal.txt").open("a", encoding="utf-8") as journal:
            when = time.strftime("%Y-%m-%dT%H:%M:%S")
            journal.write(f"{when} {row['id']} {row['status']} attempt {row['attempt']} {row.get('reason') or ''}\n")

    def rows(self) -> list[Row]:
        """All finished runs in the order of the study, and the study's own words for those that are not there yet."""
        path = self.folder / "study.json"
        if not path.is_file():
            raise ValueError(f"folder={str(self.folder)!r} holds no study; name one that devilgan sweep has made.")
        listed = json.loads(path.read_text(encoding="utf-8"))["runs"]
        return [self.row(run["id"]) or {**run, "status": "waiting"} for run in listed]

    @property
    def title(self) -> str:
        return str(json.loads((self.folder / "study.json").read_text(encoding="utf-8"))["title"])
