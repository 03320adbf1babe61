"""What stands between the network and the application: host names, foreign pages, security headers, keys and rates."""

import base64
import hashlib
import hmac
import json
import secrets
import time
import traceback
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from devilgan_lite.apps.service.log import log
from devilgan_lite.apps.service.settings import LOCAL, Settings, hashed

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
LINK_SECONDS = 300  # that a link to a report works without a key


class Guard:
    """ASGI middleware: refuses foreign hosts and foreign pages, adds the headers, and logs what broke."""

    def __init__(self, app: Callable[..., Awaitable[None]], hosts: tuple[str, ...]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                there = {name for name, _ in message["headers"]}
                added = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
                message["headers"] = [*message["headers"], *(pair for pair in added if pair[0] not in there)]
            await send(message)

        if refused := self._refuses(scope):
            await _answer(send_guarded, *refused)
            return
        try:
            await self.app(scope, receive, send_guarded)
        except Exception as error:  # a mistake of ours, of which the application has told the client
            where = traceback.extract_tb(error.__traceback__)[-1]
            log("error", error=type(error).__name__, where=f"{where.name}:{where.lineno}", method=scope["method"])

    def _refuses(self, scope: Message) -> tuple[int, str] | None:
        """Status and sentence, where the host is not ours or a page of another site asks for a change."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.hosts and _host_name(host) not in self.hosts:  # a foreign name that points to this address
            return 400, f"This service does not answer to that host name; valid: {', '.join(self.hosts)}."
        if scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            site, origin = headers.get("sec-fetch-site"), headers.get("origin")
            foreign = site not in ("same-origin", "none") if site else origin and urlsplit(origin).netloc != host
            if foreign:  # browsers say so themselves; other programs send neither
                return 403, "A page of another site may not ask for this."
        return None


def _host_name(host: str) -> str:
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


async def _answer(send: Send, status: int, sentence: str) -> None:
    body = json.dumps({"detail": sentence}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Access:
    """Who asks, and how often: keys, uploads a minute, and links that let a browser open one report without a key."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.secret = secrets.token_bytes(32)
        self.recent: defaultdict[str, deque[float]] = defaultdict(deque)  # when each owner uploaded

    def owner(self, key: str) -> str | None:
        """Whose key this is; None where it is nobody's. All are compared, so that time tells nothing."""
        if not self.settings.keys:
            return LOCAL
        given = hashed(key)
        found = [name for name, known in self.settings.keys.items() if hmac.compare_digest(given, known)]
        return found[0] if found else None

    def wait_for_upload(self, owner: str) -> float:
        """Count an upload; seconds until the owner may try again, or 0 where this one is within his limit."""
        now, times = time.monotonic(), self.recent[owner]
        while times and times[0] <= now - 60:
            times.popleft()
        if len(times) >= self.settings.uploads_per_minute:
            return times[0] + 60 - now
        times.append(now)
        return 0.0

    def link(self, id: str, owner: str) -> str:
        """A token with which anybody may read this report for ``LINK_SECONDS``."""
        until = int(time.time()) + LINK_SECONDS
        return f"{owner}:{until}:{self._sign(id, owner, until)}"

    def owner_by_link(self, id: str, token: str) -> str | None:
        """The owner who made this token for this report, unless it is over."""
        owner, _, rest = token.partition(":")
        until, _, signature = rest.partition(":")
        if not until.isascii() or not until.isdigit() or len(until) > 12 or int(until) < time.time():
            return None
        return owner if hmac.compare_digest(signature.encode(), self._sign(id, owner, int(until)).encode()) else None

    def _sign(self, id: str, owner: str, until: int) -> str:
        signed = hmac.new(self.secret, f"{id}:{owner}:{until}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(signed).decode().rstrip("=")
