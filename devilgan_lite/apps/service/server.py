"""Runs the application with uvicorn, and says when it listens."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable

import uvicorn

from devilgan_lite.apps.service.app import create_app
from devilgan_lite.apps.service.settings import Settings

MOST_CONNECTIONS = 500  # so that many slow ones do not use up the process's files
GRACE = 2  # seconds that open answers, such as progress streams, have at the end


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listens: Callable[[], object]) -> None:
        super().__init__(config)
        self.listens = listens

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens()


def run(settings: Settings, host: str, port: int, on_listen: Callable[[str], object]) -> None:
    """Serve until SIGINT or SIGTERM; ``on_listen`` gets the address once it answers. A busy port: ``ValueError``."""
    os.umask(0o077)  # uploads and reports are for nobody else on this machine
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"{host}:{port} cannot be listened on ({error.strerror}); choose another --port."
            ) from None
        place = f"[{host}]" if ":" in host else host
        address = f"http://{place}:{listener.getsockname()[1]}"
        config = uvicorn.Config(
            create_app(settings),
            log_level="error",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE,
            limit_concurrency=MOST_CONNECTIONS,
            lifespan="on",
        )
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # what uvicorn raises again when it has ended
        with contextlib.suppress(KeyboardInterrupt):
            _Server(config, lambda: on_listen(address)).run(sockets=[listener])
