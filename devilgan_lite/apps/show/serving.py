"""A small web server of the standard library, for the stage and for a room full of phones. Everything has a limit.

Beside it: a free port, a browser, the address of this machine, and the code that leads there.
"""

import contextlib
import io
import ipaddress
import json
import shutil
import socket
import sys
import threading
import webbrowser
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

HOST = "127.0.0.1"
PORTS = 50  # the number of ports to try, from the wanted one on
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox", "msedge", "safari")
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737): nothing is sent there
CHUNK = 65_536  # bytes; the time-out holds for each, so that a slow phone gets all of a page
MOST_BYTES = 1_000  # of what a page may send
MOST_AT_ONCE, MOST_OF_ONE = 256, 128  # connections, of all and of one address: a hall may share one
TOKEN = "X-Stage-Token"
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}


def free_port(port: int, host: str = HOST) -> int:
    """``port``, or the next one of ``host`` that nobody listens on; ``ValueError`` if the next fifty are taken, too."""
    for candidate in range(port, min(port + PORTS, 65_536)):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise ValueError(f"port={port} is not free, and neither is any of the next {PORTS}; name another one.")


def browser() -> str | None:
    """The name of a browser that can be opened here, or None."""
    for name in BROWSERS:
        if shutil.which(name):
            return name
    try:
        return webbrowser.get().name
    except (webbrowser.Error, AttributeError):
        return None


def own_address() -> str:
    """The address of this machine in its network; ``ValueError`` without a network."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(ELSEWHERE)  # of a datagram: only chooses the way out
        return str(probe.getsockname()[0])
    with contextlib.suppress(ImportError, OSError):  # a hotspot, or a router without internet, has no way out
        import psutil

        states = psutil.net_if_stats()
        for name, addresses in psutil.net_if_addrs().items():
            for one in addresses if name in states and states[name].isup else ():
                if one.family == socket.AF_INET and not ipaddress.ip_address(one.address).is_loopback:
                    return str(one.address)
    raise ValueError(
        "this machine is in no network, so no phone can reach it; "
        "devilgan phone --out page.html writes the page for a stick or a web server."
    )


def codes(address: str) -> tuple[str, str]:
    """The QR code of ``address`` for a terminal, and as SVG for a page; without segno a sentence, and nothing."""
    try:
        import segno
    except ModuleNotFoundError:
        return "There is no code to scan, because segno is not installed: pip install 'devilgan_lite[phone]'.\n", ""
    code, drawn = segno.make(address, micro=False), io.StringIO()
    code.terminal(drawn, compact=True)
    text = drawn.getvalue()
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without block characters
        text = ""
    return text, str(code.svg_inline(omitsize=True, title=f"QR code of {address}"))


class Refused(Exception):
    """A question that is not answered: ``status`` of HTTP, and a sentence for whoever asked."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True)
class Question:
    """What came in: the ``query`` of the address, the JSON ``content`` of a POST, and from which ``address``."""

    query: str
    content: dict[str, Any]
    address: str


@dataclass(frozen=True)
class Page:
    """HTML as it is sent, maybe packed with gzip."""

    content: bytes
    encoding: str = ""


Route = Callable[[Question], Page | dict[str, Any]]


class Server(ThreadingHTTPServer):
    """Answers ``routes``, ``{path: {method: function}}``, at ``host`` and ``port`` or the next free one.

    Only who asks for it by its own address is answered, so that no other name that leads here counts as its page.
    With a ``token`` everything but the page at ``/`` needs it, so that no other page in the same browser can ask.
    What is posted comes from the server's own page, or is refused.
    """

    daemon_threads = True
    request_queue_size = 128  # a room scans the code at the same moment

    def __init__(self, host: str, port: int, routes: dict[str, dict[str, Route]], token: str = "") -> None:
        self.routes, self.token = routes, token
        self._open, self._lock = Counter[str](), threading.Lock()
        super().__init__((host, free_port(port, host)), _Handler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer asks for a name, too, and on a hotspot nobody answers for seconds
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    @property
    def address(self) -> str:
        """Where a browser finds the page."""
        return f"http://{self.server_name}:{self.server_port}/"

    @property
    def names(self) -> list[str]:
        hosts = (self.server_name, "localhost") if self.server_name == HOST else (self.server_name,)
        return [f"{host}:{self.server_port}" for host in hosts]

    def process_request(self, request: Any, client_address: Any) -> None:
        host = client_address[0]
        with self._lock:
            crowded = self._open[host] >= MOST_OF_ONE or self._open.total() >= MOST_AT_ONCE
            if not crowded:
                self._open[host] += 1
        if crowded:
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread is left
            self._count_down(host)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._count_down(client_address[0])

    def _count_down(self, host: str) -> None:
        with self._lock:
            self._open[host] -= 1
            self._open += Counter()  # forgets addresses that have none left

    def handle_error(self, request: socket.socket | tuple[bytes, socket.socket], client_address: Any) -> None:
        pass  # a phone that went away


class _Handler(BaseHTTPRequestHandler):
    server: Server
    timeout = 20  # seconds that a phone has for its question, and for each chunk of the answer

    def do_GET(self) -> None:
        method, (path, _, query) = self.command, self.path.partition("?")
        try:
            known = self.server.routes.get(path)
            if known is None:
                raise Refused(404, "there is nothing here.")
            if method not in known:
                raise Refused(405, f"this address is for {' and '.join(known)}.")
            self._admit(path, method)
            content = self._content() if method == "POST" else {}
            found = known[method](Question(query, content, self.client_address[0]))
        except Refused as refused:
            self._send(refused.status, "application/json", json.dumps({"error": str(refused)}).encode())
            return
        if isinstance(found, Page):
            self._send(200, "text/html; charset=utf-8", found.content, found.encoding)
        else:
            self._send(200, "application/json", json.dumps(found).encode())

    do_POST = do_GET

    def _admit(self, path: str, method: str) -> None:
        host = self.headers.get("Host", "")
        if host not in self.server.names:
            raise Refused(403, f"this page is at {self.server.address} only.")
        if self.server.token and path != "/" and self.headers.get(TOKEN) != self.server.token:
            raise Refused(403, "only the page of this stage may ask: load it again.")
        if method == "POST" and self.headers.get("Origin") != f"http://{host}":
            raise Refused(403, "only the own page may send something.")

    def _content(self) -> dict[str, Any]:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise Refused(411, "the length is missing.")
        if len(length) > 9 or int(length) > MOST_BYTES:
            raise Refused(413, f"at most {MOST_BYTES} bytes are read.")
        if self.headers.get_content_type() != "application/json":
            raise Refused(415, "it must be JSON.")
        try:
            content = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            content = None
        if not isinstance(content, dict):
            raise Refused(400, "it must be a JSON object.")
        return content

    def _send(self, status: int, kind: str, content: bytes, encoding: str = "") -> None:
        self.send_response(status)
        headers = {**HEADERS, "Content-Type": kind, "Content-Length": str(len(content))}
        for name, value in (headers | {"Content-Encoding": encoding} if encoding else headers).items():
            self.send_header(name, value)
        self.end_headers()
        for at in range(0, len(content), CHUNK):
            self.wfile.write(content[at : at + CHUNK])

    def version_string(self) -> str:
        return "devilgan"

    def log_message(self, format: str, *args: object) -> None:
        pass  # who looks is nobody's business
