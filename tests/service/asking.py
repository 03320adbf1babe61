"""What the tests of the interface share: keys, a worker that is not there, and events as a list."""

import json
from typing import Any

from stand_in import check as stand_in

from devilgan_lite.service.settings import hashed

ANN, BOB = "ann's-key-is-long-enough", "bob's-key-is-long-enough"
KEYS = {"ann": hashed(ANN), "bob": hashed(BOB)}


def by(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def work(client: Any, *, tell: int = 2) -> str:
    """Do the next job as a worker would; its id."""
    store = client.desk.store
    job = store.claim("somebody 1 1")
    path = client.desk.settings.uploads / job.id
    path.write_bytes(b"steps 2")
    store.tell(job.id, job.worker, {"event": "started", "attempt": 1})
    report = stand_in(
        path, {}, jail=None, name="FILE", on_event=lambda event: store.tell(job.id, job.worker, event), cancelled=bool
    )
    store.finish(job.id, job.worker, report, verdict=report["verdict"], sentence=report["sentence"])
    return job.id


def events_of(answer: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Number, event and data of each message."""
    found = []
    for message in answer.text.strip().split("\n\n"):
        parts = dict(line.split(": ", 1) for line in message.splitlines())
        if "event" in parts:
            found.append((parts.get("id", ""), parts["event"], json.loads(parts["data"])))
    return found
