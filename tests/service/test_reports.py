"""Reports in three formats, and progress as events."""

import threading
import time
from collections.abc import Callable
from typing import Any

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
    sarif = client.get(f"/scans/{id}/report.sarif")
    assert sarif.json()["version"] == "2.1.0" and sarif.headers["content-type"].startswith("application/sarif+json")
    for answer, ending in ((report, "json"), (sarif, "sarif")):
        assert f'attachment; filename="report.{ending}"' in answer.headers["content-disposition"]
    page = client.get(f"/scans/{id}/report.html").text
    assert "g.onnx" in page and "<b>of the first layer" not in page
    assert client.delete(f"/scans/{id}").status_code == 204
    assert client.get(f"/scans/{id}/report.json").status_code == client.get(f"/scans/{id}").status_code == 404


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


def test_events_come_while_a_scan_runs_and_end_when_it_is_deleted(serve: Serve) -> None:
    client: Any = serve(heartbeat_seconds=0.05)
    first, second = (client.post("/scans", content=content).json()["id"] for content in (b"x", b"y"))

    def later() -> None:
        time.sleep(0.3)
        work(client)

    thread = threading.Thread(target=later)
    thread.start()
    answer = client.get(f"/scans/{first}/events")
    thread.join()
    assert answer.headers["content-type"].startswith("text/event-stream")
    found = events_of(answer)
    assert found[0][1:] == ("job", {"state": "waiting", "verdict": "", "sentence": ""}) and found[-1][1] == "end"
    assert [number for number, event, _ in found if event == "progress"] == ["1", "2", "3", "4"]
    assert ": still here" in answer.text
    threading.Timer(0.2, lambda: client.desk.store.delete(second, "local")).start()
    assert events_of(client.get(f"/scans/{second}/events"))[-1][2]["state"] == "deleted"
    assert client.desk.streams == 0


def test_too_many_streams_are_429(serve: Serve) -> None:
    client: Any = serve(streams=2)
    id = client.post("/scans", content=b"x").json()["id"]
    work(client)
    for open_now, status in ((1, 200), (2, 429)):
        client.desk.streams = open_now
        assert client.get(f"/scans/{id}/events").status_code == status
