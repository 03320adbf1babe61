"""Uploads: every limit, and what a stranger may write into names, forms and headers."""

import asyncio
import gzip
import hashlib
import os
import re
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from asking import ANN, BOB, KEYS, by, work
from running import until
from starlette.testclient import TestClient

from devilgan_lite.apps.service import guard
from devilgan_lite.apps.service.upload import Rejected, receive

Serve = Callable[..., TestClient]


def test_an_upload_by_form_or_as_it_is_and_the_same_again(client: Any) -> None:
    uploads = client.desk.settings.uploads
    content = os.urandom(3 * 2**20 + 17)  # several pieces, and whatever bytes a boundary is made of
    first = client.post("/scans?seed=3", data={"note": "x"}, files={"file": ("größe.onnx", content)})
    scan = first.json()
    assert first.status_code == 202 and scan["state"] == "waiting" and scan["name"] == "größe.onnx"
    assert (scan["bytes"], scan["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert scan["settings"]["seed"] == 3 and re.fullmatch(r"[\w-]{20,}", scan["id"])
    assert [(path.name, path.read_bytes()) for path in uploads.iterdir()] == [(scan["id"], content)]
    again = client.post("/scans?seed=3", content=content, headers={"X-Filename": "other.onnx"})
    assert again.status_code == 200 and again.json() == scan and len(list(uploads.iterdir())) == 1
    for query in ("", "?seed=3&twin=false", "?seed=3&latent_dim=7"):  # another question about the same bytes
        answer = client.post(f"/scans{query}", content=content, headers={"X-Filename": "gr%C3%B6%C3%9Fe.onnx"})
        assert answer.status_code == 202 and answer.json()["name"] == "größe.onnx"
        assert (uploads / answer.json()["id"]).read_bytes() == content
    assert len(list(uploads.iterdir())) == 4
    while client.desk.store.count("waiting"):
        work(client)
    done = client.post("/scans?seed=3", content=content)
    assert done.status_code == 200 and (done.json()["id"], done.json()["state"]) == (scan["id"], "done")


def test_a_name_is_never_a_path(client: Any, tmp_path: Path) -> None:
    before, uploads = {path for path in tmp_path.rglob("*") if path.is_file()}, client.desk.settings.uploads
    for name in ("../../etc/passwd", "..%2f..%2fx", "C:\\windows\\x", "\x00", "x" * 3_000):
        bare = {"content": f"bare {name}".encode(), "headers": {"X-Filename": name.replace("\x00", "%00")}}
        for sent in ({"files": {"file": (name, f"form {name}".encode())}}, bare):
            scan = client.post("/scans", **sent).json()
            assert 0 < len(scan["name"]) <= 120 and scan["name"].isprintable()
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert {path.parent for path in made if "service.db" not in path.name} == {uploads}
    assert all(re.fullmatch(r"[\w-]{24}", path.name) for path in uploads.iterdir())


def test_what_is_wrong_is_one_sentence(client: Any) -> None:
    part = b'--q\r\nContent-Disposition: form-data; name="file"'

    def form(content: bytes, ending: str = "; boundary=q") -> dict[str, Any]:
        return {"content": content, "headers": {"Content-Type": f"multipart/form-data{ending}"}}

    rows: list[tuple[dict[str, Any], int, str]] = [
        ({"content": b""}, 400, "empty"),
        ({"files": {"model": ("a", b"abc")}}, 400, "file"),
        ({"files": [("file", ("a", b"abc")), ("file", ("b", b"abc"))]}, 400, "more than one"),
        (form(b"abc", ""), 400, "boundary"),
        (form(b"abc", "; boundary*=a''b; boundary*0=c"), 400, "boundary"),
        (form(b"abc"), 400, "form"),
        (form(part + b"\r\n\r\nabc"), 400, "breaks off"),
        (form(part + b"; filename*=utf-8''%ff; filename*0=a\r\n\r\nabc\r\n--q--\r\n"), 400, "form"),
    ]
    queries = ("seed", "-1"), ("seed", "x" * 10_000), ("latent_dim", "0"), ("twin", "perhaps")
    rows += [({"content": b"abc", "params": {name: value}}, 422, name) for name, value in queries]
    for sent, status, says in rows:
        answer = client.post("/scans", **sent)
        sentence = answer.json()["detail"]
        assert answer.status_code == status and says in sentence, sentence
        assert len(sentence) <= 300 and "\n" not in sentence
    assert list(client.desk.settings.uploads.iterdir()) == [] and client.get("/scans").json() == []


def test_too_large_is_413_however_it_is_sent(serve: Serve) -> None:
    client: Any = serve(upload_bytes=1_000_000)
    without_length, form = (b"x" * 50_000 for _ in range(60)), {"file": ("a", b"x" * 1_000_001)}
    contents: list[Any] = [b"x" * 1_000_001, b"x" * 9_000_000, without_length]
    for sent in (*({"content": content} for content in contents), {"files": form}):
        answer = client.post("/scans", **sent)
        assert answer.status_code == 413 and "1,000,000" in answer.json()["detail"]
    assert list(client.desk.settings.uploads.iterdir()) == []
    assert client.post("/scans", content=b"x" * 1_000_000).status_code == 202
    bomb = gzip.compress(bytes(50_000_000))
    answer = client.post("/scans", content=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.json()["bytes"] == len(bomb)  # nothing is unpacked


@pytest.mark.parametrize(("pieces", "pause"), [(1, 5.0), (10_000, 0.01)])
def test_a_slow_upload_is_408(tmp_path: Path, pieces: int, pause: float) -> None:
    """Also one that sends a little all the time."""

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(pieces):
            await asyncio.sleep(pause)
            yield b"x" * 100

    limits: Any = {"content_type": "", "name": "a", "most": 10**9, "seconds": 0.1, "least_rate": 50_000}
    with ThreadPoolExecutor() as thread, pytest.raises(Rejected, match="too slow") as caught:  # a browser holds ours
        thread.submit(lambda: asyncio.run(receive(in_pieces(), tmp_path / "part", **limits))).result()
    assert caught.value.status == 408


def test_full_queues_many_uploads_and_a_full_disk(serve: Serve, tmp_path: Path, monkeypatch: Any) -> None:
    def sent(client: Any, *contents: bytes, key: str = "") -> list[int]:
        headers = by(key) if key else {}
        return [client.post("/scans", content=content, headers=headers).status_code for content in contents]

    def emptied(client: Any) -> None:
        store = client.desk.store
        assert all(store.delete(job.id, owner) for owner in ("local", *KEYS) for job in store.recent(owner))

    client: Any = serve(queue=2)
    assert sent(client, b"a", b"b", b"c") == [202, 202, 429]
    answer = client.post("/scans", content=b"d")
    assert int(answer.headers["retry-after"]) > 0 and "queue" in answer.json()["detail"]
    work(client)
    assert sent(client, b"d") == [202]
    emptied(client)

    keyed: Any = serve(keys=KEYS, queue=10, queue_per_key=2, uploads_per_minute=4)
    assert sent(keyed, b"1", b"2", b"3", key=ANN) == [202, 202, 429]
    assert sent(keyed, b"x", key=BOB) == [202]  # his own share is free
    assert sent(keyed, b"1", key=ANN) == [429]
    answer = keyed.post("/scans", content=b"1", headers=by(ANN))
    assert answer.status_code == 429 and "minute" in answer.json()["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 61
    emptied(keyed)
    later = time.monotonic() + 61
    with monkeypatch.context() as patch:
        patch.setattr(guard.time, "monotonic", lambda: later)
        assert sent(keyed, b"1", key=ANN) == [202]  # a minute later
    small = serve(folder=tmp_path / "small", disk_bytes=1_000)
    assert sent(small, b"1" * 600, b"2" * 601, b"3" * 300) == [202, 507, 202]


def test_uploads_and_reports_are_forgotten_in_time(serve: Serve) -> None:
    client: Any = serve(days=2)
    kept, old = (client.post("/scans", content=content).json()["id"] for content in (b"x", b"y"))
    uploads, store = client.desk.settings.uploads, client.desk.store
    for name, age in (("orphan", 700), ("new", 500), ("new.part", 10), ("old.part", 700), (kept, 700)):
        (uploads / name).touch()
        os.utime(uploads / name, (time.time() - age,) * 2)
    client.desk.sweep()
    assert {path.name for path in uploads.iterdir()} == {"new", "new.part", kept, old}
    assert client.delete(f"/scans/{kept}").status_code == 204
    assert {path.name for path in uploads.iterdir()} == {"new", "new.part", old}
    work(client)
    for now, left in ((time.time() + 1.9 * 86_400, [old]), (time.time() + 2.1 * 86_400, [])):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("devilgan_lite.apps.service.desk.time.time", lambda now=now: now)
            client.desk.sweep()
        assert [job.id for job in store.recent("local")] == left
    by_itself: Any = serve(days=1e-9, sweep_seconds=0.05)
    by_itself.post("/scans", content=b"z")
    id = work(by_itself)
    assert until(lambda: by_itself.get(f"/scans/{id}").status_code == 404)
