"""The server behind ``devilgan stage``: one page for a projector, whose browser computes the pictures by itself.

It listens on this machine only, and does what the page cannot: scans, and rounds of votes. See ``small_server``.
"""

import secrets
import signal
import webbrowser

import typer

from devilgan_lite.cli import stage_check
from devilgan_lite.cli.small_server import Page, Server
from devilgan_lite.cli.stage_scan import LiveScan
from devilgan_lite.cli.votes import Votes
from devilgan_lite.phone import Pages


def stage(pages: Pages, port: int, live: LiveScan, votes: Votes, *, address: str = "", notice: str = "") -> Server:
    """The server of the stage at ``port``; ``address`` is that of the page for phones, if any."""
    from devilgan_lite.cli.phones import drawn_code

    token = secrets.token_urlsafe(24)
    code = drawn_code(address) if address else ""
    page = Page(pages.stage(token=token, address=address, code=code, notice=notice).encode())
    return Server(
        stage_check.HOST,
        port,
        {
            "/": {"GET": lambda question: page},
            "/scan": {"GET": live.state, "POST": live.start},
            "/round": {"GET": votes.stage, "POST": votes.change},
        },
        token,
    )


def serve(
    pages: Pages, port: int, live: LiveScan, browser: bool, votes: Votes, *, address: str = "", notice: str = ""
) -> None:
    """Serve the stage at ``port`` or the next free one, print its address and wait for Ctrl-C."""
    free = stage_check.free_port(port)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the scan never outlives this process
    with stage(pages, free, live, votes, address=address, notice=notice) as server:
        own = f"http://{stage_check.HOST}:{free}/"
        busy = "" if free == port else f" (port {port} is busy)"
        opened = browser and stage_check.browser() is not None and webbrowser.open(own)
        hint = "" if opened or not browser else " No browser could be opened: open this address yourself."
        typer.echo(f"The stage is at {own}{busy}; Ctrl-C ends it.{hint}")
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            live.close()
