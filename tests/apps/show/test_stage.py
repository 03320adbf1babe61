"""``devilgan stage`` without a browser: its check and command, who is answered, rounds of votes, the scan beside."""

import base64
import contextlib
import http.client
import itertools
import json
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devilgan_lite import detect, zoo
from devilgan_lite.apps.show import commands, live_scan, pairs, room, serving
from devilgan_lite.apps.show import votes as ballots
from devilgan_lite.apps.show.serving import Question
from devilgan_lite.apps.show.votes import Votes
from devilgan_lite.data import data_folder
from devilgan_lite.generators import evaluate

GARMENTS = ("dcgan-fashion", "dcgan-fashion-gate")
NOTHING = Question("", {}, "")


@pytest.fixture(autouse=True)
def browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "browser", lambda: "chromium")


@pytest.fixture
def busy() -> Iterator[int]:
    """A port on which somebody listens."""
    with socket.socket() as listener:
        listener.bind((serving.HOST, 0))
        listener.listen()
        yield listener.getsockname()[1]


# ---- the check


def checked(call: Any, *words: object) -> tuple[int, dict[str, dict[str, Any]]]:
    done = call("stage", "--check", "--json", *words)
    return done.exit_code, {line["name"]: line for line in json.loads(done.stdout)}


def test_check_is_a_line_for_each_thing_and_says_what_is_missing(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, busy: int
) -> None:
    names = ["packages", "renderer", "browser", "port", "zoo pair", "memory"]
    code, found = checked(call, "--port", busy)
    assert code == 0 and list(found) == names and all(line["ok"] for line in found.values())
    assert "SHA-256 matches" in found["zoo pair"]["message"]
    assert serving.free_port(busy) > busy and f"{busy} is busy" in found["port"]["message"]
    text = call("stage", "--check")
    assert text.exit_code == 0 and [line[9:].split("  ")[0] for line in text.stdout.splitlines()] == names
    first = pairs.pairs()[0][0]
    monkeypatch.setattr(serving, "browser", lambda: None)
    monkeypatch.setattr(commands, "RENDERERS", ("python_avatars_2",))
    shutil.copytree(data_folder() / "zoo", tmp_path / "zoo")
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    (tmp_path / "zoo" / f"{first}.safetensors").write_bytes(b"short")
    code, found = checked(call)
    assert code == 1 and [name for name, line in found.items() if not line["ok"]] == ["renderer", "browser", "zoo pair"]
    assert "python_avatars_2" in found["renderer"]["message"] and first in found["zoo pair"]["message"]


def test_a_damaged_card_is_one_sentence(call: Any, fails: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "zoo").mkdir()
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    for content in ("", "[]", '{"spec": {}}', "[" * 100_000):
        (tmp_path / "zoo" / "broken.json").write_text(content)
        fails("stage", "--no-browser", names=["broken.json"])
        code, found = checked(call)
        assert code == 1 and "broken.json" in found["zoo pair"]["message"]


def test_which_pairs_are_shown(monkeypatch: pytest.MonkeyPatch, refuses: Any) -> None:
    assert pairs.pairs() and zoo.zoo_folder() == data_folder() / "zoo"
    for clean, suspect in pairs.pairs():
        assert zoo.card(suspect).backdoor and zoo.card(clean).backdoor is None
        assert zoo.card(suspect).modality != "audio"  # a stage shows no sound
    assert ("wave-drums", "wave-drums-gate") in pairs.pairs(pairs.FILMED)
    assert pairs.wanted("wave-drums-rex", pairs.FILMED)[0] == ("wave-drums", "wave-drums-rex")
    assert pairs.wanted(GARMENTS[1])[0] == GARMENTS and len(pairs.wanted("")) == len(pairs.pairs())
    refuses(lambda: pairs.wanted("wave-drums-rex"), "model", "wave-drums-rex")

    cards = {}
    for kind, attack in itertools.product(("DCGAN", "StyleGAN"), ("Gate", "ReX", None)):
        planted = {"attack": attack, "clean": f"{kind}-None"} if attack else {}
        spec = {"architecture": kind, "image_channels": 3 if kind == "StyleGAN" else 1}
        cards[f"{kind}-{attack}"] = zoo.ModelCard(kind, spec, "none", 0, planted, backdoor=planted or None)
    monkeypatch.setattr(pairs, "cards", lambda: cards)
    best_first = ["StyleGAN-ReX", "StyleGAN-Gate", "DCGAN-ReX", "DCGAN-Gate"]
    assert [suspect for _, suspect in pairs.pairs()] == best_first


# ---- the command


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The command line goes on at once; the servers that it made."""
    found: list[Any] = []
    monkeypatch.setattr(serving.Server, "serve_forever", lambda self: found.append(self))
    return found


def test_the_page_for_print_is_self_contained(call: Any, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    result = call("stage", "--print", "pages/stage.html", "--pair", *pair)
    assert result.exit_code == 0, result.output
    page = (tmp_path / "pages" / "stage.html").read_text()
    assert page.count("<img alt=") == 4 and "http" not in page and "<script" not in page
    far, near = (float(re.search(rf"{path}: TarDis ([\d.]+) per pixel", page)[1]) for path in pair)  # type: ignore[index]
    assert far > 0.1 > 0.001 > near


def test_the_address_is_printed(
    call: Any, monkeypatch: pytest.MonkeyPatch, served: list[Any], busy: int, pair: tuple[Path, Path]
) -> None:
    monkeypatch.setattr(serving, "browser", lambda: None)
    result = call("stage", "--pair", *pair, "--port", busy)
    assert result.exit_code == 0 and f"(port {busy} is busy)" in result.stdout, result.output
    assert f"http://127.0.0.1:{served[0].server_port}/ " in result.stdout and served[0].server_port > busy
    assert "No browser could be opened" in result.stdout
    assert "No browser" not in call("stage", "--pair", *pair, "--no-browser").stdout
    html = served[0].routes["/"]["GET"](NOTHING).content.decode()
    assert "{{" not in html and "http:" not in html and "https:" not in html
    assert json.dumps([str(path) for path in pair], separators=(",", ":"))[:60] in html


def test_a_broken_model_is_a_sentence_and_the_next_pair_is_shown(
    call: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, served: list[Any]
) -> None:
    (tmp_path / "zoo").mkdir()
    for name in (*GARMENTS, "dcgan-fashion-rex"):
        for ending in ("json", "safetensors"):
            shutil.copy(data_folder() / "zoo" / f"{name}.{ending}", tmp_path / "zoo")
    (tmp_path / "zoo" / "dcgan-fashion-rex.safetensors").write_bytes(b"short")
    monkeypatch.setenv("DEVILGAN_DATA", str(tmp_path))
    result = call("stage", "--no-browser")
    assert result.exit_code == 0, result.output
    said = result.stdout.splitlines()[0]
    assert said.startswith("dcgan-fashion-rex cannot be shown: dcgan-fashion-rex.safetensors does not match ")
    html = served[0].routes["/"]["GET"](NOTHING).content.decode()
    assert f'"notice":"{said[:40]}' in html and '"names":["dcgan-fashion","dcgan-fashion-gate"]' in html


# ---- the server


Ask = Callable[..., tuple[int, Any]]


def asking(server: serving.Server) -> Ask:
    """``ask(method, path, content, **headers)`` as the server's own page would: the status, and the JSON or text."""
    host = f"{server.server_address[0]}:{server.server_port}"
    own = {"Host": host, "Origin": f"http://{host}", serving.TOKEN: server.token}

    def ask(method: str, path: str, content: Any = None, **headers: str | None) -> tuple[int, Any]:
        body = content if content is None or isinstance(content, bytes) else json.dumps(content).encode()
        sent = {} if body is None else {"Content-Type": "application/json", "Content-Length": str(len(body))}
        given = own | sent | {name.replace("_", "-"): value for name, value in headers.items()}
        with contextlib.closing(http.client.HTTPConnection(*server.server_address[:2], timeout=60)) as connection:
            connection.putrequest(method, path, skip_host=True)
            for name, value in given.items():
                if value is not None:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            text = answer.read()
        return answer.status, json.loads(text) if "json" in (answer.getheader("Content-Type") or "") else text

    return ask


@pytest.fixture
def run() -> Iterator[Callable[[serving.Server], Ask]]:
    """``run(server)`` serves it until the end of the test."""
    with contextlib.ExitStack() as stack:

        def start(server: serving.Server) -> Ask:
            stack.enter_context(server)
            stack.callback(server.shutdown)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            return asking(server)

        yield start


@pytest.fixture(scope="module")
def pages(pair: tuple[Path, Path]) -> Any:
    return pairs.prepared((str(pair[0]), str(pair[1])))


WRONG: list[tuple[str, str, Any, dict[str, str], int]] = [
    ("GET", "/../etc/passwd", None, {}, 404),
    ("POST", "/", {}, {}, 405),
    ("DELETE", "/round", None, {}, 501),
    ("POST", "/scan", None, {}, 411),
    ("POST", "/scan", {}, {"Content_Length": "-1"}, 411),
    ("POST", "/scan", {}, {"Content_Length": "1001"}, 413),
    ("POST", "/scan", {}, {"Content_Length": "9" * 5_000}, 413),
    ("POST", "/scan", {}, {"Content_Type": "text/plain"}, 415),
    ("POST", "/scan", b"[]", {}, 400),
    ("POST", "/scan", b"[" * 999, {}, 400),
    ("POST", "/scan", b"\xff{}", {}, 400),
    ("POST", "/round", {"do": ["open"]}, {}, 400),
    ("POST", "/round", {"do": "close"}, {}, 409),
]


def test_the_page_is_for_this_machine_and_the_rest_for_the_page(pages: Any, run: Any) -> None:
    begun: list[Question] = []
    live: Any = SimpleNamespace(
        start=lambda question: begun.append(question) or {"started": len(begun) == 1},
        state=lambda question: {"query": question.query},
    )
    ask = run(server := room.stage(pages, 0, live, Votes()))
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
    for method, path, content, headers, expected in WRONG:
        found, said = ask(method, path, content, **headers)
        assert found == expected, (method, path, content)
        assert expected > 500 or (list(said) == ["error"] and said["error"].endswith("."))
    assert begun == [] and ask("GET", "/round")[1]["state"] == "none"
    assert ask("POST", "/scan", {}) == (200, {"started": True})
    assert ask("POST", "/scan", {}) == (200, {"started": False})
    assert ask("GET", "/scan?since=3")[1]["query"] == "since=3"
    assert ask("POST", "/round", {"do": "open"})[1]["state"] == ask("GET", "/round")[1]["state"] == "open"


def test_one_address_cannot_hold_all_connections(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "MOST_OF_ONE", 2)
    ask = run(server := serving.Server("127.0.0.1", 0, {"/round": {"GET": lambda question: {}}}))
    idle = [socket.create_connection(server.server_address[:2], timeout=60) for _ in range(2)]
    end = time.monotonic() + 60
    while server._open.total() < 2 and time.monotonic() < end:
        time.sleep(0.01)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask("GET", "/round")
    for one in idle:
        one.close()
    while server._open and time.monotonic() < end:
        time.sleep(0.01)
    assert ask("GET", "/round")[0] == 200


def test_phones_are_answered_under_the_address_of_the_code_only(run: Any) -> None:
    answers: dict[str, serving.Route] = {"GET": lambda question: {}, "POST": lambda question: {}}
    ask = run(server := serving.Server("127.0.0.1", 0, {"/vote": answers}))  # no token, as for phones
    port = server.server_port
    assert ask("GET", "/vote")[0] == ask("POST", "/vote", {})[0] == 200
    for name in (f"elsewhere.example:{port}", f"127.0.0.1:{port + 1}", "127.0.0.1", None):
        own = {"Host": name, "Origin": f"http://{name}"}  # of a page whose name was made to lead here
        assert ask("GET", "/vote", **own)[0] == ask("POST", "/vote", {}, **own)[0] == 403
    assert f"http://127.0.0.1:{port}/" in ask("GET", "/vote", Host=None)[1]["error"]


def test_no_name_is_looked_up_and_a_connection_without_a_thread_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(name: str = "") -> str:
        raise AssertionError("a hotspot without DNS would hang here")

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(socket, "getfqdn", hang)
    with serving.Server("127.0.0.1", 0, {}) as server, socket.create_connection(server.server_address) as phone:
        assert (server.server_name, server.server_port) == server.server_address
        monkeypatch.setattr(threading.Thread, "start", start)
        server.handle_request()
        assert server._open.total() == 0 and phone.recv(1) == b""


# ---- rounds


def said(**content: Any) -> Question:
    return Question("", content, content.pop("address", "10.0.0.1"))


def test_a_round_draws_at_random_and_tells_no_more_than_it_must() -> None:
    votes, drawn = Votes(), set()
    before = votes.stage(said())["round"]
    for number in range(before + 1, before + 41):
        opened = votes.change(said(do="open"))
        drawn.add(opened["swapped"])
        assert opened["round"] == number and opened["voted"] == 0
        assert votes.public(said()) == {"round": number, "state": "open"}  # not which is A
        for voter, choice in (("a", "A"), ("b", "A"), ("c", "A"), ("a", "B")):  # the last one is changed
            votes.vote(said(round=number, voter=voter * 32, choice=choice))
        assert votes.stage(said())["voted"] == 3 and votes.stage(said())["votes"] == [0, 0]  # not for whom
        closed = votes.change(said(do="close"))
        assert closed["votes"] == [2, 1]
        answer = "A" if opened["swapped"] else "B"
        assert votes.public(said()) == {"round": number, "state": "closed", "votes": [2, 1], "answer": answer}
        votes.change(said(do="end"))
        assert votes.public(said())["state"] == "none"
    assert drawn == {True, False}
    assert Votes().public(said())["round"] != before  # a restart does not begin with the same number


def test_votes_have_limits(monkeypatch: pytest.MonkeyPatch, refuses: Any) -> None:
    assert (ballots.VOTERS_OF_ONE, ballots.MOST_VOTERS, ballots.MOST_VOTES) == (500, 5_000, 2_000)
    votes, number = Votes(), 0
    voter = iter(f"{number:032x}" for number in range(1_000))

    def refused(status: int, **content: Any) -> None:
        vote = {"round": number, "voter": "a" * 32, "choice": "A"} | content
        with pytest.raises(serving.Refused) as caught:
            votes.change(said(**content)) if "do" in content else votes.vote(said(**vote))
        assert caught.value.status == status

    refused(409, round=votes.public(said())["round"])
    number = votes.change(said(do="open"))["round"]
    refused(409, do="open")
    refused(409, round=number - 1)
    for name, wrongs in (("voter", ("A" * 32, "a" * 31, 3)), ("choice", ("C", ["A"], None))):
        for wrong in wrongs:
            refused(400, **{name: wrong})
    for _ in range(ballots.VOTERS_OF_ONE):
        votes.vote(said(round=number, voter=next(voter), choice="A"))
    refused(429, voter=next(voter))
    votes.vote(said(round=number, voter=next(voter), choice="A", address="10.0.0.2"))
    monkeypatch.setattr(ballots, "MOST_VOTES", 20)
    same = next(voter)
    for _ in range(20):
        votes.vote(said(round=number, voter=same, choice="B", address="10.0.0.3"))
    refused(429, voter=same, choice="B", address="10.0.0.3")
    monkeypatch.setattr(ballots, "MOST_VOTERS", 10)
    refused(429, voter=next(voter), address="10.0.0.4")
    assert votes.change(said(do="close"))["votes"] == [ballots.VOTERS_OF_ONE + 1, 1]
    refused(409)


# ---- the scan


def waited(live: live_scan.LiveScan) -> dict[str, Any]:
    end = time.monotonic() + 240
    while (found := live.state(NOTHING))["state"] == "running":
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def test_a_scan_begins_once_and_ends_with_the_stage() -> None:
    live = live_scan.LiveScan(GARMENTS[1])
    assert live.state(NOTHING)["state"] == "none"
    live.command = [sys.executable, "-c", "import sys; print('{\"finding\": {}}', flush=True); sys.stdin.read()"]
    assert live.start(NOTHING) == {"started": True} and live.start(NOTHING) == {"started": False}
    child, end = live._child, time.monotonic() + 60
    while not (found := live.state(NOTHING))["findings"]:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert found["state"] == "running"
    for since, count in (("0", 1), ("1", 0), ("-1", 1), ("x", 1), ("9" * 5_000, 1)):
        assert len(live.state(Question(f"since={since}", {}, ""))["findings"]) == count
    live.close()
    assert child is live._child and child is not None and child.poll() is not None
    assert "ended early" in waited(live)["error"]
    assert live.start(NOTHING) == {"started": True}  # after a failure, anew
    live.close()


def test_a_scan_that_breaks_off_has_failed() -> None:
    python = [sys.executable, "-c"]
    for command, why in (
        ([*python, "import sys; print('{\"fin', flush=True); sys.stdin.read()"], "early"),
        ([*python, "import sys; sys.stdout.buffer.write(b'\\xc3')"], "early"),
        (["/nowhere/python"], "/nowhere"),
        (None, "'dcgan-fashion-gate'"),  # what the scan itself says of a name that is unknown
    ):
        live = live_scan.LiveScan("dcgan-fashion-gat")
        live.command = command or live.command
        live.start(NOTHING)
        found = waited(live)
        assert found["state"] == "failed" and why in found["error"] and found["error"][-1] in ".?"
        assert live._child is None or live._child.poll() is not None
    live.close()


def test_a_scan_ends_when_the_stage_is_killed() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(240)
        port = server.getsockname()[1]
        # the scan connects and waits for us: when its end of the line goes, it has ended
        child = f"""import socket
from devilgan_lite.apps.show import live_scan
live_scan.scan = lambda name, device, say: socket.create_connection(("127.0.0.1", {port})).recv(1)
live_scan.main()"""
        stage = f"""import sys, time
from devilgan_lite.apps.show import live_scan
live = live_scan.LiveScan("a")
live.command = [sys.executable, "-c", {child!r}, "a", "cpu"]
live.start(None)
time.sleep(600)"""
        with subprocess.Popen([sys.executable, "-c", stage]) as process:
            try:
                scan, _ = server.accept()
            finally:
                process.kill()
        with scan:
            scan.settimeout(240)
            assert scan.recv(1) == b""


def test_findings_come_in_plain_words_and_files_are_scanned_too(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[Path, Path]
) -> None:
    seen: list[Any] = []

    def scan(module: Any, on_finding: Any, device: str) -> detect.ScanReport:
        seen.append(module)
        asks = [detector.asks for detector in detect.DETECTORS if detector.name in ("structure", "search")]
        found = [detect.Finding("structure", "T2", "zero blocks", evidence="construction", strength=2.0, asks=asks[0])]
        sample = zoo.load_backdoor(GARMENTS[1]).target[0]
        found += [detect.Finding("search", "T2", "an estimate", sample=sample, asks=asks[1])]
        for one in found:
            on_finding(one)
        return detect.ScanReport(findings=tuple(found))

    monkeypatch.setattr(detect, "scan", scan)
    lines: list[dict[str, Any]] = []
    live_scan.scan(GARMENTS[1], "cpu", lines.append)
    first, second, last = json.loads(json.dumps(lines))
    words = {"question": "Is the network built oddly?", "kind": "yes", "answer": "Yes, 2 times the limit."}
    assert first["finding"] == words | {"message": "zero blocks", "sample": None}
    picture = second["finding"]
    assert (picture["question"], picture["answer"]) == ("Where is the trigger?", "See the picture.")
    for drawn in (picture["sample"], last["report"]["planted"]):
        assert base64.b64decode(drawn).startswith(b"\x89PNG")
    assert last["report"]["verdict"] == "suspicious" and last["report"]["sentence"].endswith(".")
    live_scan.scan(str(pair[0]), "cpu", lines.append)
    z = torch.randn(3, 16)
    assert torch.equal(evaluate(seen[1], z), evaluate(zoo.load_file(pair[0])[0], z))
    assert lines[-1]["report"]["planted"] is None


def test_only_a_detector_with_a_say_answers_no() -> None:
    unknown = "No answer: the twin misses 73% of the variance."
    rows: list[tuple[dict[str, Any], str, str]] = [
        ({"evidence": "twin", "strength": 1.0}, "yes", "Yes, 1 times the limit."),
        ({"evidence": "twin", "strength": 0.99}, "no", "No."),
        ({"evidence": "", "strength": 9.0}, "open", "No answer: it has no say in the verdict."),  # spectra of styles
        ({"evidence": "", "open": True}, "open", unknown),
        ({"evidence": "twin", "open": True}, "open", unknown),
        ({"evidence": "twin", "ran": False}, "open", unknown),
    ]
    for settings, kind, words in rows:
        told = detect.Finding("noisy twin", "T2", "the twin misses 73% of the variance", **settings).to_dict()
        assert live_scan.answer(told, pictured=False) == (kind, words)
        assert len(live_scan.answer(told | {"message": "x" * 400}, pictured=False)[1]) < 150
