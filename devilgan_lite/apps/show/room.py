"""The stage for a projector and the page for phones, each behind a server of its own, with the votes of one room.

The browsers compute the pictures by themselves. The stage listens on this machine only, the page for phones to the
network that this machine is in; what a page cannot do, its server does: scans, and rounds of votes.
"""

import contextlib
import gzip
import secrets
import signal
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING

import typer

from devilgan_lite.apps.show import pairs, serving
from devilgan_lite.apps.show.live_scan import LiveScan
from devilgan_lite.apps.show.serving import HOST, PORTS, Page, Server
from devilgan_lite.apps.show.votes import Votes

if TYPE_CHECKING:
    from devilgan_lite.apps.show.phone import Pages


def show(choices: list[tuple[str, str]], live: LiveScan, port: int, *, share: bool, browser: bool) -> None:
    """Serve the first of some (clean, backdoored) that can be shown, with ``share`` to phones, too, until Ctrl-C."""
    if share:
        serving.own_address()  # no network: said before any work
    pages, notice = pairs.first_prepared(choices)
    votes = Votes()
    with contextlib.ExitStack() as stack:
        address = ""
        if share:
            html, other = pairs.for_phones(pages, [pair for pair in pairs.pairs() if pair != pages.names])
            notice = " ".join(filter(None, [notice, other]))
            beside = port + 1 if port < 65_535 else port - PORTS
            address = stack.enter_context(shared(html, beside, votes))
        if notice:
            typer.echo(notice)
        server = stack.enter_context(stage(pages, port, live, votes, address=address, notice=notice))
        busy = "" if server.server_port == port else f" (port {port} is busy)"
        opened = browser and serving.browser() is not None and webbrowser.open(server.address)
        hint = "" if opened or not browser else " No browser could be opened: open this address yourself."
        typer.echo(f"The stage is at {server.address}{busy}; Ctrl-C ends it.{hint}")
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the scan never outlives this process
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            live.close()


@contextlib.contextmanager
def shared(html: str, port: int, votes: Votes) -> Iterator[str]:
    """Offer the page ``html`` and its ``votes`` at ``port`` or the next free one; print and yield the address."""
    page = Page(gzip.compress(html.encode()), "gzip")  # every browser reads it; a third less for the air in the room
    routes: dict[str, dict[str, serving.Route]] = {
        "/": {"GET": lambda question: page},
        "/round": {"GET": votes.public},
        "/vote": {"POST": votes.vote},
    }
    with Server(serving.own_address(), port, routes) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        typer.echo(f"{serving.codes(server.address)[0]}Phones in this network open {server.address}")
        try:
            yield server.address
        finally:
            server.shutdown()


def stage(pages: "Pages", port: int, live: LiveScan, votes: Votes, *, address: str = "", notice: str = "") -> Server:
    """The server of the stage at ``port``; ``address`` is that of the page for phones, if any."""
    token = secrets.token_urlsafe(24)
    code = serving.codes(address)[1] if address else ""
    page = Page(pages.stage(token=token, address=address, code=code, notice=notice).encode())
    routes: dict[str, dict[str, serving.Route]] = {
        "/": {"GET": lambda question: page},
        "/scan": {"GET": live.state, "POST": live.start},
        "/round": {"GET": votes.stage, "POST": votes.change},
    }
    return Server(HOST, port, routes, token)
