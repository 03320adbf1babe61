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
from starlette.testclient import TestClient

from devilgan_lite.service.upload import Rejected, receive, shown_name

Serve = Callable[..., TestClient]


@pytest.mark.parametrize("form", [True, False])
def test_an_upload_by_form_or_as_it_is(client: Any, form: bool) -> None:
    content = os.urandom(3 * 2**20 + 17)  # several pieces, and whatever bytes a boundary is made of
    if form:
        answer = client.post("/scans?seed=3", data={"note": "x"}, files={"file": ("größe.onnx", content)})
    else:
        answer = client.post("/scans?seed=3", content=content, headers={"X-Filename": "gr%C3%B6%C3%9Fe.onnx"})
    scan = answer.json()
    assert answer.status_code == 202 and scan["state"] == "waiting" and scan["name"] == "größe.onnx"
    assert (scan["bytes"], scan["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert scan["settings"]["seed"] == 3 and re.fullmatch(r"[\w-]{20,}", scan["id"])
    (path,) = client.desk.settings.uploads.iterdir()
    assert path.read_bytes() == content and path.name == scan["id"]


def test_the_same_file_again_is_the_same_scan(client: Any) -> None:
    first = client.post("/scans", content=b"abc")
    again = client.post("/scans", files={"file": ("b.onnx", b"abc")})
    assert (first.status_code, again.status_code) == (202, 200) and again.json() == first.json()
    assert client.post("/scans?twin=false", content=b"abc").status_code == 202
    assert len(list(client.desk.settings.uploads.iterdir())) == 2  # nothing is kept of the second


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "..%2f..%2fx", "C:\\windows\\x", "a/../../b", ".", "..", "\x00", "x" * 3_000],
)
def test_a_name_is_never_a_path(client: Any, name: str, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    for number, send in enumerate(
        (
            lambda content: client.post("/scans", files={"file": (name, content)}),
            lambda content: client.post("/scans", content=content, headers={"X-Filename": name.replace("\x00", "%00")}),
        )
    ):
        scan = send(f"{number}{name}".encode()).json()
        assert len(scan["name"]) <= 120 and scan["name"].isprintable() and scan["name"]
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    uploads = client.desk.settings.uploads
    assert {path.parent for path in made if "service.db" not in path.name} == {uploads}
    assert all(re.fullmatch(r"[\w-]{24}", path.name) for path in uploads.iterdir())


def test_a_script_in_a_name_stays_text(client: Any) -> None:
    name = '"><script>alert(1)</script>\u202egnp.exe\n'
    client.post(
        "/scans", content=b"x", headers={"X-Filename": "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AEgnp.exe%0A"}
    )
    assert client.get("/scans").json()[0]["name"] == shown_name(name) == '"><script>alert(1)</script>?gnp.exe?'
    id = work(client)
    report = client.get(f"/scans/{id}/report.html")
    assert report.status_code == 200 and "alert(1)" in report.text and "<script" not in report.text
    assert "sandbox" in report.headers["content-security-policy"]
    assert "script-src" not in report.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("sent", "status", "says"),
    [
        ({"content": b""}, 400, "empty"),
        ({"files": {"file": ("a", b"")}}, 400, "empty"),
        ({"files": {"model": ("a", b"abc")}}, 400, "part called file"),
        ({"files": [("file", ("a", b"abc")), ("file", ("b", b"abc"))]}, 400, "more than one"),
        ({"content": b"abc", "headers": {"Content-Type": "multipart/form-data"}}, 400, "boundary"),
        ({"content": b"abc", "headers": {"Content-Type": "multipart/form-data; boundary=q"}}, 400, "form"),
        ({"content": b'--q\r\nContent-Disposition: form-data; name="file"\r\n\r\nabc',
          "headers": {"Content-Type": "multipart/form-data; boundary=q"}}, 400, "breaks off"),
        ({"content": b"--q\r\n" + b"A: b\r\n" * 50 + b"\r\nabc\r\n--q--\r\n",
          "headers": {"Content-Type": "multipart/form-data; boundary=q"}}, 400, "form"),
        *(
            ({"content": b'--q\r\nContent-Disposition: form-data; name="file"; ' + odd + b"\r\n\r\nabc\r\n--q--\r\n",
              "headers": {"Content-Type": "multipart/form-data; boundary=q"}}, 400, "cannot be read")
            for odd in (b"filename*=utf-8''%ff; filename*0=a", b"filename*=idna''%ff")
        ),
        ({"content": b"abc", "headers": {"Content-Type": "multipart/form-data; boundary*=a''b; boundary*0=c"}}, 400,
         "boundary"),
        ({"content": b"abc", "params": {"seed": "-1"}}, 422, "seed"),
        ({"content": b"abc", "params": {"seed": "x" * 10_000}}, 422, "seed"),
        ({"content": b"abc", "params": {"latent_dim": "0"}}, 422, "latent_dim"),
        ({"content": b"abc", "params": {"twin": "perhaps"}}, 422, "twin"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_sentence(client: Any, sent: Any, status: int, says: str) -> None:
    answer = client.post("/scans", **sent)
    assert answer.status_code == status
    sentence = answer.json()["detail"]
    assert says in sentence and len(sentence) <= 300 and "\n" not in sentence
    assert list(client.desk.settings.uploads.iterdir()) == [] and client.get("/scans").json() == []


def test_too_large_is_413_however_it_is_sent(serve: Serve) -> None:
    client: Any = serve(upload_bytes=1_000_000)
    pieces = lambda: (b"x" * 50_000 for _ in range(60))  # noqa: E731  # without a Content-Length
    for answer in (
        client.post("/scans", content=b"x" * 1_000_001),
        client.post("/scans", content=b"x" * 9_000_000),  # known from the Content-Length alone
        client.post("/scans", content=pieces()),
        client.post("/scans", files={"file": ("a", b"x" * 1_000_001)}),
    ):
        assert answer.status_code == 413 and "1,000,000" in answer.json()["detail"]
    assert list(client.desk.settings.uploads.iterdir()) == []
    assert client.post("/scans", content=b"x" * 1_000_000).status_code == 202
    bomb = gzip.compress(bytes(50_000_000))
    answer = client.post("/scans", content=bomb, headers={"Content-Encoding": "gzip"})
    assert answer.json()["bytes"] == len(bomb)  # nothing is unpacked


async def _in_pieces(pieces: int, seconds: float) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        await asyncio.sleep(seconds)
        yield b"x" * 100


@pytest.mark.parametrize(("pieces", "pause"), [(1, 30.0), (10_000, 0.02)])
def test_a_slow_upload_is_408(tmp_path: Path, pieces: int, pause: float) -> None:
    """Also one that sends a little all the time."""
    limits: Any = {"content_type": "", "name": "a", "most": 10**9, "seconds": 0.1, "least_rate": 50_000}
    with ThreadPoolExecutor() as thread, pytest.raises(Rejected, match="too slow") as caught:  # a browser holds ours
        thread.submit(lambda: asyncio.run(receive(_in_pieces(pieces, pause), tmp_path / "part", **limits))).result()
    assert caught.value.status == 408


def test_a_full_queue_is_429(serve: Serve) -> None:
    client: Any = serve(queue=2)
    first = [client.post("/scans", content=bytes([n + 1])).status_code for n in range(3)]
    assert first == [202, 202, 429]
    answer = client.post("/scans", content=b"d")
    assert int(answer.headers["retry-after"]) > 0 and "queue is full" in answer.json()["detail"]
    work(client)
    assert client.post("/scans", content=b"d").status_code == 202


def test_limits_of_each_key(serve: Serve) -> None:
    client: Any = serve(keys=KEYS, queue=10, queue_per_key=2, uploads_per_minute=4)
    anns = [client.post("/scans", content=bytes([n + 1]), headers=by(ANN)).status_code for n in range(3)]
    assert anns == [202, 202, 429]
    assert client.post("/scans", content=b"x", headers=by(BOB)).status_code == 202  # bob's own share is free
    assert client.post("/scans", content=b"\1", headers=by(ANN)).status_code == 429
    answer = client.post("/scans", content=b"\1", headers=by(ANN))
    assert answer.status_code == 429 and "a minute" in answer.json()["detail"]
    assert 0 < int(answer.headers["retry-after"]) <= 61


def test_a_full_disk_is_507(serve: Serve) -> None:
    client: Any = serve(disk_bytes=1_000)
    assert client.post("/scans", content=b"x" * 600).status_code == 202
    assert client.post("/scans", content=b"y" * 600).status_code == 507
    assert client.post("/scans", content=b"y" * 300).status_code == 202


def test_uploads_are_deleted_when_nothing_needs_them(serve: Serve, tmp_path: Path) -> None:
    client: Any = serve()
    kept = client.post("/scans", content=b"x").json()["id"]
    uploads = client.desk.settings.uploads
    for name, age in (("orphan", 700), ("new.part", 10), (kept, 700)):
        (uploads / name).touch()
        os.utime(uploads / name, (time.time() - age,) * 2)
    client.desk.sweep()
    assert {path.name for path in uploads.iterdir()} == {"new.part", kept}
    assert client.delete(f"/scans/{kept}").status_code == 204
    assert {path.name for path in uploads.iterdir()} == {"new.part"}
