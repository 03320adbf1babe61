"""A client of an application without workers, and a real server with one."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")

from running import Server  # noqa: E402
from starlette.testclient import TestClient  # noqa: E402

from devilgan_lite.service.app import create_app  # noqa: E402
from devilgan_lite.service.settings import Settings  # noqa: E402


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """``serve(queue=2)`` is a client of an application with these settings; ``client.desk`` is its desk."""
    clients: list[TestClient] = []

    def start(**settings: Any) -> TestClient:
        app: Any = create_app(
            Settings(**{"folder": tmp_path / "service", "workers": 0, "poll_seconds": 0.02, **settings})
        )
        client = TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)
        client.__enter__()
        client.desk = app.app.state.desk  # type: ignore[attr-defined]
        clients.append(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Server]:
    with Server(tmp_path / "service", "--workers", "1") as server:
        yield server
