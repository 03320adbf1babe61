"""Who may see what: keys, links, pages of other sites, the headers of every answer, and what the log keeps."""

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import ANN, BOB, KEYS, by, work
from starlette.testclient import TestClient

from devilgan_lite.service import guard
from devilgan_lite.service.settings import Settings, read_keys

Serve = Callable[..., TestClient]
TAILS = ("", "/events", "/report.json", "/report.html", "/report.sarif")


def test_a_key_is_needed_and_shows_only_its_own_scans(serve: Serve) -> None:
    client: Any = serve(keys=KEYS)
    id = client.post("/scans", content=b"x", headers=by(ANN)).json()["id"]
    work(client)
    asked = [("GET", f"/scans/{id}{tail}") for tail in TAILS]
    asked += [("DELETE", f"/scans/{id}"), ("POST", f"/scans/{id}/link")]
    for headers in ({}, by("nobody's-key-is-long-enough"), by(""), {"Authorization": ANN}, by(KEYS["ann"])):
        for method, path in [*asked, ("POST", "/scans"), ("GET", "/scans")]:
            answer = client.request(method, path, headers=headers)
            assert answer.status_code == 401 and "key" in answer.json()["detail"]
    for method, path in asked:  # of another key
        theirs = client.request(method, path, headers=by(BOB))
        never = client.request(method, path.replace(id, "never"), headers=by(BOB))
        assert theirs.status_code == never.status_code == 404 and theirs.content == never.content
    assert client.get("/scans", headers=by(BOB)).json() == []
    assert [scan["id"] for scan in client.get("/scans", headers=by(ANN)).json()] == [id]
    assert all(client.get(path, headers=by(ANN)).status_code == 200 for method, path in asked if method == "GET")


def test_known_bytes_of_another_key_are_known_only_after_they_were_uploaded(serve: Serve) -> None:
    client: Any = serve(keys=KEYS)
    hers = client.post("/scans", content=b"x", headers=by(ANN) | {"X-Filename": "secret-project.onnx"}).json()
    his = client.post("/scans", content=b"x", headers=by(BOB) | {"X-Filename": "found.onnx"})
    assert his.status_code == 202  # hers has not ended, so his waits like any
    client.delete(f"/scans/{his.json()['id']}", headers=by(BOB))
    work(client)
    his = client.post("/scans", content=b"x", headers=by(BOB) | {"X-Filename": "found.onnx"})
    assert his.status_code == 200 and his.json()["id"] != hers["id"] and his.json()["state"] == "done"
    for tail in TAILS:
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
    owner, until, signature = token.split(":")

    def read(id: str, token: str) -> int:
        return client.get(f"/scans/{id}/report.html", params={"token": token}).status_code

    assert read(ids[0], token) == 200 and read(ids[1], token) == 401
    wrong = (f"bob:{until}:{signature}", f"{owner}:{int(until) + 1}:{signature}", f"{owner}:{until}:", "::", "é:1:1")
    assert {read(ids[0], one) for one in wrong} == {401}
    assert client.get(f"/scans/{ids[0]}", params={"token": token}).status_code == 401
    now = time.time()
    for later, status in ((guard.LINK_SECONDS - 30, 200), (guard.LINK_SECONDS + 1, 401)):
        monkeypatch.setattr(guard.time, "time", lambda later=later: now + later)
        assert read(ids[0], token) == status
    assert 200 <= guard.LINK_SECONDS <= 600


def test_keys_are_kept_as_hashes(tmp_path: Path, refuses: Callable[..., str]) -> None:
    path = tmp_path / "keys"
    path.write_text(f"# who may\n\nann:{ANN}\n")
    settings = Settings(folder=tmp_path, keys=read_keys(path))
    assert settings.keys == {"ann": KEYS["ann"]} and ANN not in repr(settings) and KEYS["ann"] not in repr(settings)
    good = "0123456789abcdef"
    for text, names in (
        ("ann", ["line 1"]),
        ("ann:short", ["line 1", "16"]),
        (f"a b:{good}", ["line 1", "a b"]),
        (f"a:{good}\na:{good}g", ["line 2"]),
        ("# nothing\n\n", ["keys"]),
    ):
        path.write_text(text)
        assert good not in refuses(lambda: read_keys(path), *names)


def test_every_answer_has_the_headers_and_no_page_runs_what_is_inline(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = client.get("/openapi.json").json()
    for path in ("/", "/page.js", "/page.css", "/healthz", "/openapi.json", "/docs", "/scans", "/nope"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
        assert headers["x-frame-options"] == "DENY" and headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in headers and "server" not in headers
    for path in ("/", "/docs"):
        inline = r"<script(?![^>]*src=)|\son\w+=|style=|<style|javascript:|https?://"
        assert not re.search(inline, client.get(path).text)
    code = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\("
    assert not re.search(code, client.get("/page.js").text)
    assert {"/scans", "/scans/{id}", "/scans/{id}/events", "/scans/{id}/report.json", "/healthz"} <= {*schema["paths"]}
    listed = client.get("/docs").text
    for path, methods in schema["paths"].items():
        for method, what in methods.items():
            assert f"{method.upper()} {path}" in listed and what["description"]
    monkeypatch.setattr(client.desk.store, "recent", lambda owner: 1 / 0)
    answer = client.get("/scans")  # a mistake of ours tells nothing
    assert answer.status_code == 500 and answer.json()["detail"] and "division" not in answer.text
    assert "x-content-type-options" in answer.headers


def test_the_state_of_the_service(client: Any) -> None:
    client.post("/scans", content=b"x")
    known = client.get("/healthz").json()
    limit = client.desk.settings.upload_bytes
    assert (known["status"], known["waiting"], known["running"], known["workers"]) == ("ok", 1, 0, 0)
    assert known["keys"] is False and known["upload_bytes"] == limit


def test_foreign_host_names_and_pages_of_other_sites_are_refused(client: Any) -> None:
    for host, status in {
        "127.0.0.1:8765": 200, "localhost": 200, "LOCALHOST": 200, "[::1]:8765": 200, "evil.example": 400,
        "127.0.0.1.evil.example": 400, "": 400, "[": 400, "localhost@evil.example": 400,
    }.items():  # fmt: skip
        assert client.get("/healthz", headers={"Host": host}).status_code == status, host
    ours = "http://127.0.0.1:8765"
    for headers, allowed in (
        ({}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "none"}, True),
        ({"Origin": ours}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": "http://127.0.0.1:8766"}, False),
        ({"Origin": ours, "Sec-Fetch-Site": "cross-site"}, False),
    ):
        id = client.post("/scans", content=b"there").json()["id"]
        asked = client.post("/scans", content=str(headers).encode(), headers=headers)
        assert asked.status_code == (202 if allowed else 403), headers
        assert client.delete(f"/scans/{id}", headers=headers).status_code == (204 if allowed else 403)


def test_the_log_holds_no_name_and_no_content(client: Any, capsys: pytest.CaptureFixture[str]) -> None:
    id = client.post("/scans", content=b"content-of-the-file", headers={"X-Filename": "secret-name.onnx"}).json()["id"]
    client.post("/scans", content=b"")
    client.delete(f"/scans/{id}")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["event"] for line in lines] == ["upload", "rejected", "deleted"]
    assert lines[0]["bytes"] == 19 and all(isinstance(line["time"], float) for line in lines)
    text = json.dumps(lines)
    assert "secret-name" not in text and "content-of" not in text and id not in text
