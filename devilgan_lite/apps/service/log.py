"""The log: one JSON object a line on standard error. It holds sizes and times, never content or a whole name."""

import json
import sys
import time
from typing import Any


def log(event: str, *, job: str = "", **facts: Any) -> None:
    """Write ``event`` with the time, the first letters of the job's id, and plain ``facts``."""
    line: dict[str, Any] = {"time": round(time.time(), 3), "event": event}
    if job:
        line["job"] = job[:8]  # enough to tell jobs apart, too little to ask for one
    sys.stderr.write(json.dumps({**line, **facts}) + "\n")
    sys.stderr.flush()
