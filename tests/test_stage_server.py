"""The server of the stage without a browser: who is answered, rounds of votes, the scan beside."""

import base64
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from devilgan_lite import detect, zoo
from devilgan_lite.cli import phones, small_server, stage_scan, stage_server
from devilgan_lite.cli.votes import Votes
from devilgan_lite.files import exporting
from devilgan_lite.generators import evaluate

PAIR = ("dcgan-fashion", "dcgan-fashion-gate")


@pytest.fixture(scope="module")
def pages() -> Any:
    return phones.prepared(PAIR)


class Live:
    """A scan that only counts how often it is begun."""

    def __init__(self) -> None:
        self.begun = 0

    def start(self, question: small_server.Question) -> dict[str, Any]:
        self.begun += 1
        return {"started": self.begun == 1}

    def state(self, question: small_server.Question) -> dict[str, Any]:
        return {"state": "running", "query": question.query}


Ask = Callable[..., tuple[int, Any]]


def asking(server: small_server.Server) -> Ask:
    """``ask(method, path, content, **headers)`` as the server's own page would: the status, and the JSON or text."""
    host = f"{server.server_address[0]}:{server.server_port}"

    def ask(method: str, path: str, content: Any = None, **headers: str | None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
        given: dict[str, str | None] = {"Host": host, "Origin": f"http://{host}", small_server.TOKEN: server.token}
        body = None if content is None else content if isinstance(content, bytes) else json.dumps(content).encode()
        if body is not None:
            given |= {"Content-Type": "application/json", "Content-Length": str(len(body))}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection.putrequest(method, path, skip_host=True)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text

    return ask


@pytest.fixture
def running(pages: Any) -> Iterator[tuple[Ask, Live, small_server.Server]]:
    live: Any = Live()
    with stage_server.stage(pages, 0, live, Votes()) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield asking(server), live, server
        server.shutdown()


def test_the_page_is_for_this_machine_and_the_rest_for_the_page(running: Any) -> None:
    ask, live, server = running
    status, html = ask("GET", "/", X_Stage_Token=None)
    assert status == 200 and server.token.encode() in html and len(server.token) >= 32
    assert ask("GET", "/", Host=f"localhost:{server.server_port}")[0] == 200
    for wrong_name in ("elsewhere.example", f"elsewhere.example:{server.server_port}", "127.0.0.1", None):
        assert ask("GET", "/", Host=wrong_name)[0] == 403  # a name that leads here
    for path in ("/scan", "/round"):
        assert ask("GET", path)[0] == 200
        assert ask("GET", path, X_Stage_Token=None)[0] == 403
        for wrong in ({"X_Stage_Token": "x"}, {"Origin": "http://elsewhere.example"}, {"Origin": None}):
            assert ask("POST", path, {"do": "open"}, **wrong)[0] == 403
    assert live.begun == 0 and ask("GET", "/round")[1]["state"] == "none"
    assert ask("POST", "/scan", {}) == (200, {"started": True})
    assert ask("POST", "/scan", {}) == (200, {"started": False})
    assert ask("GET", "/scan?since=3")[1]["query"] == "since=3"


@pytest.mark.parametrize(
    ("method", "path", "content", "headers", "status"),
    [
        ("GET", "/stage.js", None, {}, 404),
        ("GET", "/../etc/passwd", None, {}, 404),
        ("POST", "/", {}, {}, 405),
        ("PUT", "/scan", {}, {}, 501),
        ("DELETE", "/round", None, {}, 501),
        ("POST", "/scan", None, {}, 411),
        ("POST", "/scan", {}, {"Content_Length": "-1"}, 411),
        ("POST", "/scan", {}, {"Content_Length": "1001"}, 413),
        ("POST", "/scan", {}, {"Content_Length": "9" * 5_000}, 413),
        ("POST", "/scan", {}, {"Content_Type": "text/plain"}, 415),
        ("POST", "/scan", b"{", {}, 400),
        ("POST", "/scan", b"[]", {}, 400),
        ("POST", "/scan", b"[" * 999, {}, 400),
        ("POST", "/scan", b"\xff{}", {}, 400),
        ("POST", "/round", {"do": "win"}, {}, 400),
        ("POST", "/round", {"do": ["open"]}, {}, 400),
        ("POST", "/round", {"do": "close"}, {}, 409),
    ],
)
def test_what_is_wrong_is_refused(
    running: Any, method: str, path: str, content: Any, headers: dict[str, str], status: int
) -> None:
    ask, live, _ = running
    found, said = ask(method, path, content, **headers)
    assert found == status and live.begun == 0
    if status < 500:
        assert list(said) == ["error"] and said["error"].endswith(".")


def test_one_address_cannot_hold_all_connections(pages: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_server, "MOST_OF_ONE", 2)
    live: Any = Live()
    with stage_server.stage(pages, 0, live, Votes()) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        ask = asking(server)
        idle = [socket.create_connection(server.server_address[:2], timeout=20) for _ in range(2)]
        end = time.monotonic() + 20
        while server._open.total() < 2 and time.monotonic() < end:
            time.sleep(0.01)
        with pytest.raises((OSError, http.client.HTTPException)):
            ask("GET", "/round")
        for one in idle:
            one.close()
        while server._open and time.monotonic() < end:
            time.sleep(0.01)
        assert ask("GET", "/round")[0] == 200
        server.shutdown()


def test_phones_are_answered_under_the_address_of_the_code_only() -> None:
    answers: dict[str, small_server.Route] = {"GET": lambda question: {}, "POST": lambda question: {}}
    with small_server.Server("127.0.0.1", 0, {"/vote": answers}) as server:  # no token, as for phones
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        ask, port = asking(server), server.server_port
        assert ask("GET", "/vote")[0] == ask("POST", "/vote", {})[0] == 200
        for name in (f"elsewhere.example:{port}", f"127.0.0.1:{port + 1}", "127.0.0.1", None):
            own = {"Host": name, "Origin": f"http://{name}"}  # of a page whose name was made to lead here
            assert ask("GET", "/vote", **own)[0] == ask("POST", "/vote", {}, **own)[0] == 403
        assert ask("GET", "/vote", Host=None)[1]["error"] == f"this page is at http://127.0.0.1:{port}/ only."
        server.shutdown()


def test_no_name_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(name: str = "") -> str:
        raise AssertionError("a hotspot without DNS would hang here")

    monkeypatch.setattr(socket, "getfqdn", hang)
    with small_server.Server("127.0.0.1", 0, {}) as server:
        assert (server.server_name, server.server_port) == server.server_address


def test_a_connection_that_gets_no_thread_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with small_server.Server("127.0.0.1", 0, {}) as server, socket.create_connection(server.server_address) as phone:
        monkeypatch.setattr(threading.Thread, "start", start)
        server.handle_request()
        assert server._open.total() == 0 and phone.recv(1) == b""


# ---- rounds


def said(**content: Any) -> small_server.Question:
    return small_server.Question("", content, content.pop("address", "10.0.0.1"))


def test_a_round_draws_at_random_and_tells_no_more_than_it_must() -> None:
    votes, drawn = Votes(), set()
    before = votes.stage(said())["round"]
    for number in range(before + 1, before + 41):
        opened = votes.change(said(do="open"))
        drawn.add(opened["swapped"])
        assert opened["round"] == number and opened["voted"] == 0
        assert votes.public(said()) == {"round": number, "state": "open"}  # not which is A
        votes.vote(said(round=number, voter="a" * 32, choice="A"))
        votes.vote(said(round=number, voter="b" * 32, choice="A"))
        votes.vote(said(round=number, voter="a" * 32, choice="B"))  # changed
        assert votes.stage(said())["voted"] == 2 and votes.stage(said())["votes"] == [0, 0]  # not for whom
        closed = votes.change(said(do="close"))
        assert closed["votes"] == [1, 1]
        answer = "A" if opened["swapped"] else "B"
        assert votes.public(said()) == {"round": number, "state": "closed", "votes": [1, 1], "answer": answer}
        votes.change(said(do="end"))
        assert votes.public(said())["state"] == "none"
    assert drawn == {True, False}
    assert Votes().public(said())["round"] != before  # a restart does not begin with the same number


def test_votes_have_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from devilgan_lite.cli import votes as module

    votes = Votes()
    voter = iter(f"{number:032x}" for number in range(1_000))
    with pytest.raises(small_server.Refused, match="this round is over"):
        votes.vote(said(round=votes.public(said())["round"], voter=next(voter), choice="A"))
    number = votes.change(said(do="open"))["round"]
    with pytest.raises(small_server.Refused, match="open already"):
        votes.change(said(do="open"))
    wrong: list[dict[str, Any]] = [
        {"voter": "A" * 32}, {"voter": "a" * 31}, {"voter": 3}, {"choice": "C"}, {"choice": ["A"]}, {"choice": None},
    ]  # fmt: skip
    for one in wrong:
        with pytest.raises(small_server.Refused, match="a vote is for A or B"):
            votes.vote(said(**{"round": number, "voter": "a" * 32, "choice": "A"} | one))
    for _ in range(module.VOTERS_OF_ONE):
        votes.vote(said(round=number, voter=next(voter), choice="A"))
    with pytest.raises(small_server.Refused, match="too many phones have voted from this address"):
        votes.vote(said(round=number, voter=next(voter), choice="A"))
    votes.vote(said(round=number, voter=next(voter), choice="A", address="10.0.0.2"))
    monkeypatch.setattr(module, "MOST_VOTES", 20)
    same = next(voter)
    for _ in range(20):
        votes.vote(said(round=number, voter=same, choice="B", address="10.0.0.3"))
    with pytest.raises(small_server.Refused, match="too many votes"):
        votes.vote(said(round=number, voter=same, choice="B", address="10.0.0.3"))
    monkeypatch.setattr(module, "MOST_VOTERS", 10)
    with pytest.raises(small_server.Refused, match="too many phones"):
        votes.vote(said(round=number, voter=next(voter), choice="A", address="10.0.0.4"))
    assert votes.change(said(do="close"))["votes"] == [module.VOTERS_OF_ONE + 1, 1]


# ---- the scan
QUESTION = small_server.Question("", {}, "")


def waited(live: stage_scan.LiveScan) -> dict[str, Any]:
    end = time.monotonic() + 240
    while (found := live.state(QUESTION))["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_scan_begins_once_and_ends_with_the_stage() -> None:
    live = stage_scan.LiveScan(PAIR[1])
    assert live.state(QUESTION)["state"] == "none"
    live.command = [sys.executable, "-c", "import sys; print('{\"finding\": {}}', flush=True); sys.stdin.read()"]
    assert live.start(QUESTION) == {"started": True} and live.start(QUESTION) == {"started": False}
    child, end = live._child, time.monotonic() + 60
    while not (found := live.state(QUESTION))["findings"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert found["state"] == "running"
    for since, count in (("0", 1), ("1", 0), ("-1", 1), ("x", 1), ("9" * 5_000, 1)):
        assert len(live.state(small_server.Question(f"since={since}", {}, ""))["findings"]) == count
    live.close()
    assert child is live._child and child is not None and child.poll() is not None
    assert "ended early" in waited(live)["error"]
    assert live.start(QUESTION) == {"started": True}  # after a failure, anew
    live.close()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "import sys; print('{\"fin', flush=True); sys.stdin.read()"], "The scan ended early"),
        ([sys.executable, "-c", "import sys; sys.stdout.buffer.write(b'\\xc3')"], "The scan ended early"),
        (["/nowhere/python"], "The scan could not begin: .*nowhere"),
    ],
)
def test_a_scan_that_breaks_off_has_failed(command: list[str], said: str) -> None:
    live = stage_scan.LiveScan(PAIR[1])
    live.command = command
    live.start(QUESTION)
    found = waited(live)
    assert found["state"] == "failed" and re.match(said, found["error"]) and found["error"].endswith(".")
    assert live._child is None or live._child.poll() is not None
    assert live.start(QUESTION) == {"started": True}
    live.close()


def test_a_file_of_another_format_is_scanned_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told: list[dict[str, Any]] = []
    seen: list[Any] = []

    def scan(suspect: Any, **settings: Any) -> detect.ScanReport:
        seen.append(suspect)
        return detect.ScanReport(findings=(), p_value=1.0)

    monkeypatch.setattr(detect, "scan", scan)
    model = zoo.load(PAIR[1])
    exporting.export(model, None, path := tmp_path / "suspect.pt2")
    stage_scan.scan(str(path), "cpu", told.append)
    z = model.sample_latent(3)
    assert torch.allclose(evaluate(seen[0], z), evaluate(model, z), atol=1e-5)
    assert told[-1]["report"]["planted"] is None  # it has no card


def test_a_scan_ends_when_the_stage_is_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        port = server.getsockname()[1]
        # the scan connects and waits for us: when its end of the line goes, it has ended
        child = f"""import socket
from devilgan_lite.cli import stage_scan
stage_scan.scan = lambda name, device, say: socket.create_connection(("127.0.0.1", {port})).recv(1)
stage_scan.main()"""
        stage = f"""import sys, time
from devilgan_lite.cli import stage_scan
live = stage_scan.LiveScan("a")
live.command = [sys.executable, "-c", {child!r}, "a", "cpu"]
live.start(None)
time.sleep(600)"""
        with subprocess.Popen([sys.executable, "-c", stage]) as process:
            try:
                scan, _ = server.accept()
            finally:
                process.kill()
        with scan:
            scan.settimeout(60)
            assert scan.recv(1) == b""


@pytest.mark.slow
def test_a_scan_that_cannot_run_says_why() -> None:
    live = stage_scan.LiveScan("dcgan-fashion-gat")
    live.start(QUESTION)
    found = waited(live)
    assert found["state"] == "failed" and "Did you mean 'dcgan-fashion-gate'?" in found["error"]


def test_findings_come_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    from devilgan_lite import detect

    def scan(module: Any, on_finding: Any, device: str) -> detect.ScanReport:
        found = [detect.Finding("structure", "T2", "zero blocks", evidence="construction", strength=2.0)]
        found += [detect.Finding("search", "T2", "an estimate", sample=zoo.load_backdoor(PAIR[1]).target[0])]
        for one in found:
            on_finding(one)
        return detect.ScanReport(findings=tuple(found), p_value=1.0)

    monkeypatch.setattr(detect, "scan", scan)
    lines: list[dict[str, Any]] = []
    stage_scan.scan(PAIR[1], "cpu", lines.append)
    first, second, last = json.loads(json.dumps(lines))
    assert first["finding"] == {
        "question": "Is the network built oddly?", "kind": "yes", "answer": "Yes, 2 times the limit.",
        "message": "zero blocks", "sample": None,
    }  # fmt: skip
    assert second["finding"]["question"] == "Where is the trigger?"
    assert second["finding"]["answer"] == "See the picture."
    assert base64.b64decode(second["finding"]["sample"]).startswith(b"\x89PNG")
    assert last["report"]["verdict"] == "suspicious" and last["report"]["sentence"].endswith(".")


@pytest.mark.parametrize(
    ("settings", "kind", "words"),
    [
        ({"evidence": "twin", "strength": 1.0}, "yes", "Yes, 1 times the limit."),
        ({"evidence": "twin", "strength": 0.99}, "no", "No."),
        ({"evidence": "", "strength": 9.0}, "open", "No answer: it has no say in the verdict."),  # spectra of styles
        ({"evidence": "", "open": True}, "open", "No answer: the twin misses 73% of the variance."),
        ({"evidence": "twin", "open": True}, "open", "No answer: the twin misses 73% of the variance."),
        ({"evidence": "twin", "ran": False}, "open", "No answer: the twin misses 73% of the variance."),
    ],
)
def test_only_a_detector_with_a_say_answers_no(settings: dict[str, Any], kind: str, words: str) -> None:
    from devilgan_lite import detect
    from devilgan_lite.detect.plain import described

    report = detect.ScanReport(findings=(), p_value=1.0)
    told = described(detect.Finding("noisy twin", "T2", "the twin misses 73% of the variance", **settings), report)
    assert stage_scan.answer(told, pictured=False) == (kind, words)
    long = told | {"message": "x" * 400}
    assert len(stage_scan.answer(long, pictured=False)[1]) < 150
