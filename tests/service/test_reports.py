"""Reports in three formats, progress as events, and the log."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from asking import events_of, work
from starlette.testclient import TestClient

Serve = Callable[..., TestClient]


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
