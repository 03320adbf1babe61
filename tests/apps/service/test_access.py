"""Who may see what: keys, links, pages of other sites, the headers of every answer, and what the log keeps."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asking import ANN, BOB, KEYS, by, work
from starlette.testclient import TestClient

from devilgan_lite.apps.service import guard
from devilgan_lite.apps.service.settings import Settings, read_keys

Serve = Callable[..., TestClient]
TAILS = ("", "/events", "/report.json", "/report.html", "/report.sarif")


def test_a_key_is_needed_and_shows_only_its_own_scans(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    client: Any = serve(keys=KEYS)
    id = client.post("/scans", content=b"x", headers=by(ANN, "secret-project.onnx")).json()["id"]
    his = client.post("/scans", content=b"x", headers=by(BOB, "found.onnx"))
    assert his.status_code == 202  # hers has not ended, so his waits like any
    client.delete(f"/scans/{his.json()['id']}", headers=by(BOB))
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
    # bytes that are known of another key's scan are known only after they were uploaded, and under his own name
    his = client.post("/scans", content=b"x", headers=by(BOB, "found.onnx"))
    assert his.status_code == 200 and his.json()["id"] != id and his.json()["state"] == "done"
    answers = [client.get(f"/scans/{his.json()['id']}{tail}", headers=by(BOB)) for tail in TAILS]
    assert all(answer.status_code == 200 and "secret-project" not in answer.text for answer in answers)
    assert answers[2].json()["file"]["name"] == "found.onnx"
    log = capsys.readouterr().err
    assert log.count('"upload"') == 3 and not any(secret in log for secret in ("secret-project", "found", id, ANN))


def test_a_link_opens_one_report_for_a_while(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    client: Any = serve(keys=KEYS)
    ids = [client.post("/scans", content=content, headers=by(ANN)).json()["id"] for content in (b"x", b"y")]
    assert [work(client), work(client)] == ids
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
    path, good = tmp_path / "keys", "0123456789abcdef"
    path.write_text(f"# who may\n\nann:{ANN}\n")
    settings = Settings(folder=tmp_path, keys=read_keys(path))
    assert settings.keys == {"ann": KEYS["ann"]} and ANN not in repr(settings) and KEYS["ann"] not in repr(settings)
    wrong = {"ann:0123456789abcde": "16", f"a b:{good}": "a b", f"a:{good}\na:{good}g": "line 2", "# none\n\n": "keys"}
    for text, named in wrong.items():
        path.write_text(text)
        assert good not in refuses(lambda: read_keys(path), named)


def test_every_answer_has_the_headers_and_no_page_runs_what_is_inline(client: Any, monkeypatch: Any) -> None:
    client.post("/scans", content=b"x")
    known, limit = client.get("/healthz").json(), client.desk.settings.upload_bytes
    assert (known["status"], known["waiting"], known["running"], known["workers"]) == ("ok", 1, 0, 0)
    assert known["keys"] is False and known["upload_bytes"] == limit
    expected = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "x-frame-options": "DENY"}
    for path in ("/", "/page.js", "/page.css", "/healthz", "/openapi.json", "/docs", "/scans", "/nope"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert {**expected, "cache-control": "no-store"}.items() <= headers.items()
        assert "access-control-allow-origin" not in headers and "server" not in headers
    inline = r"<script(?![^>]*src=)|\son\w+=|style=|<style|javascript:|https?://"
    code = r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\("
    for path, wrong in (("/", inline), ("/docs", inline), ("/page.js", code)):
        assert not re.search(wrong, client.get(path).text)
    listed = client.get("/docs").text
    schema = client.get("/openapi.json").json()["paths"]
    assert all(f"{method.upper()} {path}" in listed for path, methods in schema.items() for method in methods)
    monkeypatch.setattr(client.desk.store, "recent", lambda owner: 1 / 0)
    answer = client.get("/scans")  # a mistake of ours tells nothing
    assert answer.status_code == 500 and answer.json()["detail"] and "division" not in answer.text
    assert "x-content-type-options" in answer.headers


def test_foreign_host_names_and_pages_of_other_sites_are_refused(client: Any) -> None:
    foreign = "evil.example", "127.0.0.1.evil.example", "", "[", "localhost@evil.example"
    for host in ("127.0.0.1:8765", "LOCALHOST", "[::1]:8765", *foreign):
        assert client.get("/healthz", headers={"Host": host}).status_code == (400 if host in foreign else 200), host
    ours = "http://127.0.0.1:8765"
    allowed = {}, {"Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}, {"Origin": ours}
    refused = {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "null"}
    refused += {"Origin": "http://127.0.0.1:8766"}, {"Origin": ours, "Sec-Fetch-Site": "cross-site"}
    for headers in (*allowed, *refused):
        id = client.post("/scans", content=b"there").json()["id"]
        asked = client.post("/scans", content=str(headers).encode(), headers=headers)
        assert asked.status_code == (202 if headers in allowed else 403), headers
        assert client.delete(f"/scans/{id}", headers=headers).status_code == (204 if headers in allowed else 403)
