"""The interface: every limit, who may see what, and what a stranger may write into names, forms and headers."""

import asyncio
import gzip
import hashlib
import json
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in import check as stand_in
from starlette.testclient import TestClient

from devilgan_lite.service import guard
from devilgan_lite.service.settings import Settings, hashed, read_keys
from devilgan_lite.service.upload import Rejected, receive, shown_name

Serve = Callable[..., TestClient]
ANN, BOB = "ann's-key-is-long-enough", "bob's-key-is-long-enough"
KEYS = {"ann": hashed(ANN), "bob": hashed(BOB)}


def by(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def work(client: Any, *, tell: int = 2) -> str:
    """Do the next job as a worker would; its id."""
    store = client.desk.store
    job = store.claim("somebody 1 1")
    path = client.desk.settings.uploads / job.id
    path.write_bytes(b"steps 2")
    store.tell(job.id, job.worker, {"event": "started", "attempt": 1})
    report = stand_in(
        path, {}, jail=None, name="FILE", on_event=lambda event: store.tell(job.id, job.worker, event), cancelled=bool
    )
    store.finish(job.id, job.worker, report, verdict=report["verdict"], sentence=report["sentence"])
    return job.id


def events_of(answer: Any) -> list[tuple[str, str, dict[str, Any]]]:
    """Number, event and data of each message."""
    found = []
    for message in answer.text.strip().split("\n\n"):
        parts = dict(line.split(": ", 1) for line in message.splitlines())
        if "event" in parts:
            found.append((parts.get("id", ""), parts["event"], json.loads(parts["data"])))
    return found


# --- uploads


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
    with pytest.raises(Rejected, match="too slow") as caught:
        asyncio.run(receive(_in_pieces(pieces, pause), tmp_path / "part", **limits))
    assert caught.value.status == 408


# --- limits


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


# --- who may see what


def test_a_key_is_needed(serve: Serve) -> None:
    client: Any = serve(keys=KEYS)
    asked = ["POST /scans", "GET /scans", "GET /scans/x", "GET /scans/x/events", "GET /scans/x/report.json"]
    asked += ["DELETE /scans/x", "POST /scans/x/link"]
    for headers in ({}, by("nobody's-key-is-long-enough"), by(""), {"Authorization": ANN}, by(KEYS["ann"])):
        for method, path in map(str.split, asked):
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401 and "key" in answer.json()["detail"]
    assert client.get("/scans", headers=by(ANN)).json() == []


def test_another_keys_scan_is_unknown(serve: Serve) -> None:
    client: Any = serve(keys=KEYS)
    id = client.post("/scans", content=b"x", headers=by(ANN)).json()["id"]
    work(client)
    paths = [f"/scans/{id}{tail}" for tail in ("", "/events", "/report.json", "/report.html", "/report.sarif")]
    for method, path in (*(("GET", path) for path in paths), ("DELETE", paths[0]), ("POST", f"{paths[0]}/link")):
        theirs = client.request(method, path, headers=by(BOB))
        never = client.request(method, path.replace(id, "never"), headers=by(BOB))
        assert theirs.status_code == never.status_code == 404 and theirs.content == never.content
    assert client.get("/scans", headers=by(BOB)).json() == []
    assert client.get(paths[2], headers=by(ANN)).status_code == 200


def test_known_bytes_of_another_key_are_known_only_after_they_were_uploaded(serve: Serve) -> None:
    client: Any = serve(keys=KEYS)
    hers = client.post("/scans", content=b"x", headers=by(ANN) | {"X-Filename": "secret-project.onnx"}).json()
    his = client.post("/scans", content=b"x", headers=by(BOB) | {"X-Filename": "found.onnx"})
    assert his.status_code == 202  # hers has not ended, so his waits like any
    client.delete(f"/scans/{his.json()['id']}", headers=by(BOB))
    work(client)
    his = client.post("/scans", content=b"x", headers=by(BOB) | {"X-Filename": "found.onnx"})
    assert his.status_code == 200 and his.json()["id"] != hers["id"] and his.json()["state"] == "done"
    for tail in ("", "/report.json", "/report.html", "/report.sarif", "/events"):
        answer = client.get(f"/scans/{his.json()['id']}{tail}", headers=by(BOB))
        assert answer.status_code == 200 and "secret-project" not in answer.text
    assert client.get(f"/scans/{his.json()['id']}/report.json", headers=by(BOB)).json()["file"]["name"] == "found.onnx"


def test_a_link_opens_one_report_for_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = serve(keys=KEYS)
    ids = []
    for content in (b"x", b"y"):
        ids.append(client.post("/scans", content=content, headers=by(ANN)).json()["id"])
        work(client)
    token = client.post(f"/scans/{ids[0]}/link", headers=by(ANN)).json()["token"]
    read = lambda id, token: client.get(f"/scans/{id}/report.html", params={"token": token}).status_code  # noqa: E731
    assert read(ids[0], token) == 200
    owner, until, signature = token.split(":")
    for wrong in (
        f"bob:{until}:{signature}",
        f"{owner}:{int(until) + 1}:{signature}",
        f"{owner}:{until}:",
        "::",
        "é:1:1",
    ):
        assert read(ids[0], wrong) == 401
    assert read(ids[1], token) == 401
    assert client.get(f"/scans/{ids[0]}", params={"token": token}).status_code == 401
    later = time.time() + guard.LINK_SECONDS + 1
    monkeypatch.setattr(guard.time, "time", lambda: later)
    assert read(ids[0], token) == 401


@pytest.mark.parametrize(
    ("text", "says"),
    [("ann", "16 to 200"), ("ann:short", "16 to 200"), ("a b:0123456789abcdef", "must be a new name"),
     ("a:0123456789abcdef\na:0123456789abcdefg", "line 2"), ("# nothing\n\n", "no key")],
)  # fmt: skip
def test_a_wrong_file_of_keys(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_keys(path)
    assert "0123456789abcdef" not in str(caught.value)


def test_keys_are_kept_as_hashes(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may\nann:{ANN}\n")
    settings = Settings(folder=tmp_path, keys=read_keys(path))
    assert settings.keys == {"ann": KEYS["ann"]} and ANN not in repr(settings) and KEYS["ann"] not in repr(settings)


# --- browsers


@pytest.mark.parametrize(
    "path", ["/", "/page.js", "/page.css", "/healthz", "/openapi.json", "/docs", "/scans", "/nope"]
)
def test_every_answer_has_the_headers(client: Any, path: str) -> None:
    headers = client.get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers and "server" not in headers


def test_a_mistake_of_ours_tells_nothing_and_has_the_headers(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.desk.store, "recent", lambda owner: 1 / 0)
    answer = client.get("/scans")
    assert answer.status_code == 500 and "mistake" in answer.json()["detail"] and "division" not in answer.text
    assert "x-content-type-options" in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [("127.0.0.1:8765", 200), ("localhost", 200), ("[::1]:8765", 200), ("evil.example", 400),
     ("127.0.0.1.evil.example", 400), ("", 400), ("[", 400), ("localhost@evil.example", 400)],
)  # fmt: skip
def test_foreign_host_names_are_refused(client: Any, host: str, status: int) -> None:
    assert client.get("/healthz", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [({}, True), ({"Sec-Fetch-Site": "same-origin"}, True), ({"Sec-Fetch-Site": "none"}, True),
     ({"Origin": "http://127.0.0.1:8765"}, True), ({"Sec-Fetch-Site": "cross-site"}, False),
     ({"Sec-Fetch-Site": "same-site"}, False), ({"Origin": "https://evil.example"}, False), ({"Origin": "null"}, False),
     ({"Origin": "http://127.0.0.1:8766"}, False),
     ({"Origin": "http://127.0.0.1:8765", "Sec-Fetch-Site": "cross-site"}, False)],
)  # fmt: skip
def test_a_page_of_another_site_changes_nothing(client: Any, headers: dict[str, str], allowed: bool) -> None:
    id = client.post("/scans", content=b"there").json()["id"]
    assert client.post("/scans", content=b"x", headers=headers).status_code == (202 if allowed else 403)
    assert client.delete(f"/scans/{id}", headers=headers).status_code == (204 if allowed else 403)


def test_the_page_runs_nothing_that_is_inline(client: Any) -> None:
    for path in ("/", "/docs"):
        text = client.get(path).text
        assert not re.search(r"<script(?![^>]*src=)|\son\w+=|style=|<style|javascript:|https?://", text)
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(", client.get("/page.js").text
    )


def test_the_interface_is_described(client: Any) -> None:
    schema = client.get("/openapi.json").json()
    assert {"/scans", "/scans/{id}", "/scans/{id}/events", "/scans/{id}/report.json", "/healthz"} <= schema[
        "paths"
    ].keys()
    listed = client.get("/docs").text
    for path, methods in schema["paths"].items():
        for method, what in methods.items():
            assert f"{method.upper()} {path}" in listed and what["description"]


# --- reports and events


def test_the_report_in_three_formats(client: Any) -> None:
    id = client.post("/scans", content=b"x", headers={"X-Filename": "g.onnx"}).json()["id"]
    for tail in ("json", "html", "sarif"):
        assert client.get(f"/scans/{id}/report.{tail}").status_code == 409
    work(client)
    report = client.get(f"/scans/{id}/report.json")
    assert report.json()["verdict"] == "suspicious" and report.json()["file"]["name"] == "g.onnx"
    assert "attachment" in report.headers["content-disposition"]
    assert client.get(f"/scans/{id}/report.sarif").json()["version"] == "2.1.0"
    page = client.get(f"/scans/{id}/report.html").text
    assert "g.onnx" in page and "<b>of the first layer" not in page
    assert client.delete(f"/scans/{id}").status_code == 204
    assert client.get(f"/scans/{id}/report.json").status_code == 404


def test_a_failed_scan_says_why(client: Any) -> None:
    id = client.post("/scans", content=b"x").json()["id"]
    client.desk.store.claim("w 1 1")
    client.desk.store.finish(id, "w 1 1", None, verdict="", sentence="The check itself failed (KeyError).")
    answer = client.get(f"/scans/{id}/report.html")
    assert answer.status_code == 404 and "KeyError" in answer.json()["detail"]
    assert events_of(client.get(f"/scans/{id}/events"))[-1][2]["state"] == "failed"


def test_events_tell_the_history_and_go_on_where_they_stopped(client: Any) -> None:
    id = client.post("/scans", content=b"x").json()["id"]
    work(client)
    whole = events_of(client.get(f"/scans/{id}/events"))
    assert [number for number, _, _ in whole] == ["1", "2", "3", "4", ""]
    assert [event for _, event, _ in whole] == ["progress"] * 4 + ["end"]
    assert whole[-1][2]["verdict"] == "suspicious"
    for last, left in (("2", 3), ("4", 1), ("99", 1), ("-1", 5), ("x", 5), ("9" * 50, 5)):
        assert events_of(client.get(f"/scans/{id}/events", headers={"Last-Event-ID": last})) == whole[-left:]


def test_events_come_while_a_scan_runs(serve: Serve) -> None:
    client: Any = serve(heartbeat_seconds=0.05)
    id = client.post("/scans", content=b"x").json()["id"]

    def later() -> None:
        time.sleep(0.3)
        work(client)

    thread = threading.Thread(target=later)
    thread.start()
    answer = client.get(f"/scans/{id}/events")
    thread.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events_of(answer)
    assert found[0][1:] == ("job", {"state": "waiting", "verdict": "", "sentence": ""}) and found[-1][1] == "end"
    assert [number for number, event, _ in found if event == "progress"] == ["1", "2", "3", "4"]
    assert ": still here" in answer.text


def test_events_end_when_a_scan_is_deleted(client: Any) -> None:
    id = client.post("/scans", content=b"x").json()["id"]
    thread = threading.Timer(0.2, lambda: client.desk.store.delete(id, "local"))
    thread.start()
    assert events_of(client.get(f"/scans/{id}/events"))[-1][2]["state"] == "deleted"
    assert client.desk.streams == 0


def test_too_many_streams_are_429(serve: Serve) -> None:
    client: Any = serve(streams=1)
    id = client.post("/scans", content=b"x").json()["id"]
    client.desk.streams = 1
    assert client.get(f"/scans/{id}/events").status_code == 429


def test_the_log_holds_no_name_and_no_content(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    id = client.post("/scans", content=b"content-of-the-file", headers={"X-Filename": "secret-name.onnx"}).json()["id"]
    client.post("/scans", content=b"")
    client.delete(f"/scans/{id}")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["upload", "rejected", "deleted"]
    assert lines[0]["bytes"] == 19 and all(isinstance(line["time"], float) for line in lines)
    text = json.dumps(lines)
    assert "secret-name" not in text and "content-of" not in text and id not in text
