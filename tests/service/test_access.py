"""Who may see what: keys, links, pages of other sites, and the headers of every answer."""

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
