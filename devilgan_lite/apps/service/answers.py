"""The two answers that are written by hand: server-sent events, and a plain page that lists the interface."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from devilgan_lite.apps.service.desk import Desk


def _message(event: str, data: dict[str, Any], number: int | None = None) -> str:
    start = "" if number is None else f"id: {number}\n"
    return f"{start}event: {event}\ndata: {json.dumps(data)}\n\n"  # JSON holds no line break


async def stream(desk: "Desk", id: str, owner: str, after: int) -> AsyncIterator[str]:
    """Server-sent events of a job: ``progress`` above number ``after``, ``job`` as its state changes, then ``end``."""
    settings, store = desk.settings, desk.store
    state, spoke = "", time.monotonic()
    desk.streams += 1
    try:
        while True:
            job = await asyncio.to_thread(store.get, id, owner)
            new = await asyncio.to_thread(store.events, id, after)  # after the state, so the last ones are not missed
            for after, content in new:
                yield _message("progress", content, after)
            ended = job is None or job.state in ("done", "failed")
            now = "deleted" if job is None else job.state
            said = {"state": now, "verdict": job.verdict if job else "", "sentence": job.sentence if job else ""}
            if ended:
                yield _message("end", said)
                return
            if now != state:
                yield _message("job", said)
            elif time.monotonic() > spoke + settings.heartbeat_seconds:
                yield ": still here\n\n"
            elif not new:
                await asyncio.sleep(settings.poll_seconds)
                continue
            state, spoke = now, time.monotonic()
    finally:
        desk.streams -= 1


def page(schema: dict[str, Any]) -> str:
    """The interface as a page without script: each address with its summary and its parameters, from OpenAPI's."""
    rows = []
    for path, methods in schema["paths"].items():
        for method, what in methods.items():
            names = [f"{one['name']} ({one['in']})" for one in what.get("parameters", [])]
            doc = re.sub("`(.*?)`", r"<code>\1</code>", escape(what.get("description", "")).replace("\n\n", "<br>"))
            rows.append(
                f"<tr><td><code>{method.upper()} {escape(path)}</code></td><td>{doc}</td>"
                f"<td>{escape(', '.join(names))}</td></tr>"
            )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Interface of the checking service</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/page.css"></head>'
        '<body><main><h1>Interface</h1><p>The same as data: <a href="/openapi.json">openapi.json</a>. '
        'With keys, send <code>Authorization: Bearer KEY</code>. <a href="/">Back to the page</a></p>'
        f'<div class="wide"><table><tr><th>Address</th><th>What it does</th><th>Parameters</th></tr>{"".join(rows)}'
        "</table></div></main></body></html>"
    )
