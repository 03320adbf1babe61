"""The page for phones: built from a pair, and offered to the network that this machine is in, with a code to scan."""

import contextlib
import gzip
import io
import ipaddress
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import typer

from devilgan_lite.checks import shown
from devilgan_lite.cli import stage_check
from devilgan_lite.cli.common import load_model

CHUNK = 65_536  # bytes; the time-out holds for each, so that a slow phone gets all of the page
ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737): nothing is sent there
HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Encoding": "gzip",  # every browser reads it; a third less for the air in the room
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def built(pair: tuple[str, str]) -> str:
    """The page of (clean, backdoored): names in the zoo, or files."""
    from devilgan_lite import zoo
    from devilgan_lite.phone import page

    (clean, _), (suspect, card) = (load_model(text) for text in pair)
    backdoor = zoo.backdoor_of(card, suspect)
    if backdoor is None:
        raise ValueError(
            f"{shown(pair[1])} has no backdoor on its card, so there is no trigger to walk to: "
            "--pair takes the clean model first, then the backdoored one."
        )
    return page(clean, suspect, backdoor, names=pair)


def first_built(pairs: list[tuple[str, str]]) -> str:
    """The page of the first of ``pairs`` that it can show; the ``ValueError`` of the last if there is none."""
    for pair in pairs[:-1]:
        with contextlib.suppress(ValueError):
            return built(pair)
    return built(pairs[-1])


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


@contextlib.contextmanager
def shared(pairs: list[tuple[str, str]], port: int) -> Iterator[str]:
    """Offer the page of one of ``pairs`` at ``port`` or the next free one; print and yield its address."""
    host = own_address()
    content = gzip.compress(first_built(pairs).encode())
    free = stage_check.free_port(port, host)

    class OnePage(BaseHTTPRequestHandler):
        timeout = 20  # seconds that a phone has for its question, and for each chunk of the answer

        def do_GET(self) -> None:
            if self.path.partition("?")[0] != "/":
                self.send_error(404)
                return
            self.send_response(200)
            for name, value in (*HEADERS.items(), ("Content-Length", str(len(content)))):
                self.send_header(name, value)
            self.end_headers()
            for at in range(0, len(content), CHUNK):
                self.wfile.write(content[at : at + CHUNK])

        def log_message(self, format: str, *args: object) -> None:
            pass  # who looks is nobody's business

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a phone that went away

    with Server((host, free), OnePage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://{host}:{free}/"
        typer.echo(f"{printed_code(address)}Phones in this network open {address}")
        try:
            yield address
        finally:
            server.shutdown()


def printed_code(address: str) -> str:
    """The QR code of ``address`` for a terminal, or a sentence where segno is missing."""
    try:
        import segno
    except ModuleNotFoundError:
        return "There is no code to scan, because segno is not installed: pip install 'devilgan_lite[phone]'.\n"
    drawn = io.StringIO()
    segno.make(address, micro=False).terminal(drawn, compact=True)
    try:
        drawn.getvalue().encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:  # a terminal without block characters
        return ""
    return drawn.getvalue()


def drawn_code(address: str) -> str:
    """The QR code of ``address`` as SVG for a page; empty where segno is missing."""
    try:
        import segno
    except ModuleNotFoundError:
        return ""
    return str(segno.make(address, micro=False).svg_inline(scale=6, title=f"QR code of {address}"))
