"""The page for phones: built from a pair, and offered to the network that this machine is in, with a code to scan."""

import contextlib
import gzip
import io
import ipaddress
import socket
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from devilgan_lite.checks import cut
from devilgan_lite.cli import stage_check
from devilgan_lite.cli.common import load_pair, one_line
from devilgan_lite.cli.small_server import Page, Route, Server
from devilgan_lite.cli.votes import Votes

if TYPE_CHECKING:
    from devilgan_lite.phone import Pages

ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation (RFC 5737): nothing is sent there


def prepared(pair: tuple[str, str]) -> "Pages":
    """The pages of (clean, backdoored): names in the zoo, or files."""
    from devilgan_lite.phone import Pages

    return Pages(*load_pair(pair), names=pair)


def built(pair: tuple[str, str]) -> str:
    """The page for phones of (clean, backdoored)."""
    return prepared(pair).phone()


def first_prepared(pairs: list[tuple[str, str]]) -> tuple["Pages", str]:
    """The pages of the first of ``pairs`` that can be shown, and a sentence on each before it.

    If there is none, the error of the last.
    """
    said = list[str]()
    for pair in pairs[:-1]:
        try:
            return prepared(pair), " ".join(said)
        except Exception as error:  # a broken model, a missing package: the next pair is tried
            said.append(f"{cut(pair[1])} cannot be shown: {one_line(str(error)) or type(error).__name__}")
    return prepared(pairs[-1]), " ".join(said)


def for_phones(pages: "Pages", others: list[tuple[str, str]]) -> tuple[str, str]:
    """The page of ``pages``, or of the first of ``others`` that fits a phone; and a sentence where it is another."""
    try:
        return pages.phone(vote=True), ""
    except ValueError as error:
        reason = str(error)
    for pair in others:
        with contextlib.suppress(ValueError, OSError, ImportError):
            return prepared(pair).phone(vote=True), f"Phones get {pair[0]} and {pair[1]}, because {reason}"
    raise ValueError(reason)


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
def shared(html: str, port: int, votes: Votes) -> Iterator[str]:
    """Offer the page ``html`` and its ``votes`` at ``port`` or the next free one; print and yield the address."""
    host = own_address()
    page = Page(gzip.compress(html.encode()), "gzip")  # every browser reads it; a third less for the air in the room
    free = stage_check.free_port(port, host)
    routes: dict[str, dict[str, Route]] = {
        "/": {"GET": lambda question: page},
        "/round": {"GET": votes.public},
        "/vote": {"POST": votes.vote},
    }
    with Server(host, free, routes) as server:
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
    return str(segno.make(address, micro=False).svg_inline(omitsize=True, title=f"QR code of {address}"))
