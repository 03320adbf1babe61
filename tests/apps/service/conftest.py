"""A client of an application without workers."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's importlib mode does not

pytest.importorskip("fastapi")
pytest.importorskip("sqlalchemy")

from starlette.testclient import TestClient  # noqa: E402

from devilgan_lite.apps.service.app import create_app  # noqa: E402
from devilgan_lite.apps.service.settings import Settings  # noqa: E402


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., TestClient]]:
    """``serve(queue=2)`` is a client of an application with these settings; ``client.desk`` is its desk."""
    with ExitStack() as clients:

        def start(**settings: Any) -> TestClient:
            given = {"folder": tmp_path / "service", "workers": 0, "poll_seconds": 0.02, **settings}
            app: Any = create_app(Settings(**given))
            client = TestClient(app, base_url="http://127.0.0.1:8765", raise_server_exceptions=False)
            client.desk = app.app.state.desk  # type: ignore[attr-defined]
            return clients.enter_context(client)

        yield start


@pytest.fixture
def client(serve: Callable[..., TestClient]) -> TestClient:
    return serve()
