"""Reports in three formats, and progress as events."""

import threading
from collections.abc import Callable
from typing import Any

from asking import events_of, work
from starlette.testclient import TestClient

Serve = Callable[..., TestClient]


def test_the_report_in_three_formats_or_why_there_is_none(client: Any) -> None:
    escaped = "%22%3E%3Cscript%3Ealert(1)%3C/script%3E%E2%80%AEgnp.exe%0A"
    scan = client.post("/scans", content=b"x", headers={"X-Filename": escaped}).json()
    id, name = scan["id"], '"><script>alert(1)</script>?gnp.exe?'
    for tail in ("json", "html", "sarif"):
        assert client.get(f"/scans/{id}/report.{tail}").status_code == 409
    work(client)
    report, sarif = (client.get(f"/scans/{id}/report.{tail}") for tail in ("json", "sarif"))
    assert report.json()["verdict"] == "suspicious" and report.json()["file"]["name"] == scan["name"] == name
    assert sarif.json()["version"] == "2.1.0" and sarif.headers["content-type"].startswith("application/sarif+json")
    assert 'attachment; filename="report.json"' in report.headers["content-disposition"]
    page = client.get(f"/scans/{id}/report.html")
    assert "alert(1)" in page.text and "<script" not in page.text and "<b>of the first layer" not in page.text
    policy = page.headers["content-security-policy"]
    assert "sandbox" in policy and "default-src 'none'" in policy and "script-src" not in policy
    assert client.delete(f"/scans/{id}").status_code == 204
    assert client.get(f"/scans/{id}/report.json").status_code == client.get(f"/scans/{id}").status_code == 404

    id = client.post("/scans", content=b"x").json()["id"]
    client.desk.store.claim("w 1 1")
    client.desk.store.finish(id, "w 1 1", None, verdict="", sentence="The check itself failed (KeyError).")
    answer = client.get(f"/scans/{id}/report.html")
    assert answer.status_code == 404 and "KeyError" in answer.json()["detail"]
    assert events_of(client.get(f"/scans/{id}/events"))[-1][2]["state"] == "failed"


def test_events_tell_the_history_and_go_on_where_they_stopped(serve: Serve) -> None:
    client: Any = serve(streams=2)
    id = client.post("/scans", content=b"x").json()["id"]
    work(client)
    whole = events_of(client.get(f"/scans/{id}/events"))
    assert [number for number, _, _ in whole] == ["1", "2", "3", "4", ""]
    assert [event for _, event, _ in whole] == ["progress"] * 4 + ["end"] and whole[-1][2]["verdict"] == "suspicious"
    for last, left in (("2", 3), ("4", 1), ("99", 1), ("-1", 5), ("9" * 50, 5)):
        assert events_of(client.get(f"/scans/{id}/events", headers={"Last-Event-ID": last})) == whole[-left:]
    for open_now, status in ((1, 200), (2, 429)):
        client.desk.streams = open_now
        assert client.get(f"/scans/{id}/events").status_code == status


def test_events_come_while_a_scan_runs_and_end_when_it_is_deleted(serve: Serve) -> None:
    client: Any = serve(heartbeat_seconds=0.05)
    first, second = (client.post("/scans", content=content).json()["id"] for content in (b"x", b"y"))

    worker = threading.Timer(0.3, work, [client])
    worker.start()
    answer = client.get(f"/scans/{first}/events")
    worker.join()
    assert answer.headers["content-type"].startswith("text/event-stream") and ": still here" in answer.text
    found = events_of(answer)
    assert found[0][1:] == ("job", {"state": "waiting", "verdict": "", "sentence": ""}) and found[-1][1] == "end"
    assert [number for number, event, _ in found if event == "progress"] == ["1", "2", "3", "4"]
    threading.Timer(0.2, lambda: client.desk.store.delete(second, "local")).start()
    assert events_of(client.get(f"/scans/{second}/events"))[-1][2]["state"] == "deleted"
    assert client.desk.streams == 0
