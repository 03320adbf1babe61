"""The desk: it takes uploads in, as far as queue and disk have room, and clears away what is old.

What the endpoints share is here: the database, who may do what, and the uploads that are on their way.
"""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from devilgan_lite.apps.service.guard import Access
from devilgan_lite.apps.service.log import log
from devilgan_lite.apps.service.settings import Settings
from devilgan_lite.apps.service.store import ACTIVE, Store
from devilgan_lite.apps.service.upload import Received, Rejected, receive

ORPHAN_SECONDS = 600.0  # since anything was written to an upload that no job needs


def later(sentence: str, seconds: float) -> HTTPException:
    """The answer to who asks too much: try again after ``seconds``."""
    return HTTPException(429, sentence, {"Retry-After": str(int(seconds) + 1)})


class Desk:
    """What the endpoints share: the database, who may do what, and the uploads that are on their way."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        settings.uploads.mkdir(parents=True, exist_ok=True)
        self.store = Store(settings.url, lease_seconds=settings.lease_seconds)
        self.access = Access(settings)
        self.coming: dict[str, tuple[str, int]] = {}  # id of an upload that arrives now -> owner, announced bytes
        self.streams = 0

    def room_for(self, owner: str) -> None:
        """Raise ``HTTPException`` unless the queue and the disk have room for what is coming, one more included."""
        settings, store, coming = self.settings, self.store, list(self.coming.values())
        if wait := self.access.wait_for_upload(owner):
            raise later(f"At most {settings.uploads_per_minute} uploads a minute are accepted; wait a little.", wait)
        if store.count(*ACTIVE) + len(coming) > settings.queue:
            raise later("The queue is full; try again in half a minute.", 30)
        mine = sum(one == owner for one, _ in coming)
        if store.count(*ACTIVE, owner=owner) + mine > settings.queue_per_key:
            raise later(f"You have {settings.queue_per_key} files in the queue, which is the limit; wait for one.", 30)
        there = sum(facts.st_size for path, facts in self._files() if path.suffix != ".part")
        if there + store.report_bytes() + sum(size for _, size in coming) > settings.disk_bytes:
            raise HTTPException(507, "The service's disk is full; try again later.", {"Retry-After": "600"})

    async def take(self, request: Request, owner: str) -> tuple[str, Received]:
        """Stream an upload to the disk; the id that names it there, and what has arrived."""
        settings, headers = self.settings, request.headers
        length = headers.get("content-length", "")
        announced = int(length) if length.isascii() and length.isdigit() else settings.upload_bytes
        if announced > settings.upload_bytes + 2**20:  # a form is a little larger than its file
            raise HTTPException(413, f"The file is too large: at most {settings.upload_bytes:,} bytes are accepted.")
        id = secrets.token_urlsafe(18)
        part = settings.uploads / f"{id}.part"
        self.coming[id] = owner, announced
        try:
            await asyncio.to_thread(self.room_for, owner)
            received = await receive(
                aiter(request.stream()),
                part,
                content_type=headers.get("content-type", ""),
                name=headers.get("x-filename", ""),
                most=settings.upload_bytes,
                seconds=settings.upload_seconds,
                least_rate=settings.least_rate,
            )
            part.rename(settings.uploads / id)  # complete: a worker may have it
        except Rejected as error:
            log("rejected", status=error.status)
            raise HTTPException(error.status, error.sentence, {"Connection": "close"}) from None
        except ClientDisconnect:
            raise HTTPException(400, "The upload broke off.") from None
        finally:
            del self.coming[id]
            part.unlink(missing_ok=True)
        return id, received

    def sweep(self) -> None:
        """Take lost jobs back, forget what is too old, and delete uploads that no job needs."""
        lost = self.store.take_back()
        forgotten = self.store.forget(time.time() - 86_400 * self.settings.days)
        active = self.store.active()
        for path, facts in self._files():
            if path.name not in active and facts.st_mtime < time.time() - ORPHAN_SECONDS:
                path.unlink(missing_ok=True)
        if lost or forgotten:
            log("swept", lost=len(lost), forgotten=forgotten)

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in self.settings.uploads.iterdir():
            with contextlib.suppress(FileNotFoundError):  # a worker has just deleted it
                yield path, path.stat()
