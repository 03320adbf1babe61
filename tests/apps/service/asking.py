"""What the tests of the interface share: keys, a worker that is not there, and events as a list."""

import json
from typing import Any

from stand_in import check

from devilgan_lite.apps.service.settings import hashed

ANN, BOB = "ann's-key-is-long-enough", "bob's-key-is-long-enough"
KEYS = {"ann": hashed(ANN), "bob": hashed(BOB)}


def by(key: str, name: str = "") -> dict[str, str]:
    return {"Authorization": f"Bearer {key}", **({"X-Filename": name} if name else {})}


def work(client: Any) -> str:
    """Do the next job as a worker would; its id."""
    store = client.desk.store
    job = store.claim("somebody 1 1")
    path = client.desk.settings.uploads / job.id
    path.write_bytes(b"steps 2")
    store.tell(job.id, job.worker, {"event": "started", "attempt": 1})
    report = check(
        path, {}, jail=None, name="FILE", on_event=lambda event: store.tell(job.id, job.worker, event), cancelled=bool
    )
    store.finish(job.id, job.worker, report, verdict=report["verdict"], sentence=report["sentence"])
    return job.id


def events_of(answer: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Number, event and data of each message."""
    messages = [dict(line.split(": ", 1) for line in one.splitlines()) for one in answer.text.strip().split("\n\n")]
    return [(one.get("id", ""), one["event"], json.loads(one["data"])) for one in messages if "event" in one]
