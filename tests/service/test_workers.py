"""Real servers and workers on loopback: whatever is killed, every job ends or waits again, and nothing is left over."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from running import PATIENCE, ROOT, Server

from devilgan_lite import generators, zoo
from devilgan_lite.cli.serve import serve

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see processes in")
DOCKERFILE = (ROOT / "Dockerfile").read_text()
HEAD = b"POST /scans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"


def gone(pid: int) -> bool:
    """Whether a process has ended within the patience."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def upload(server: Server, content: str, **query: Any) -> str:
    words = "&".join(f"{name}={value}" for name, value in query.items())
    return server.ask(f"/scans?{words}", content.encode(), **{"X-Filename": "a.onnx"})["id"]


def test_scans_from_upload_to_report(one: Server) -> None:
    good, bad, odd = upload(one, "steps 2", seed=7), upload(one, "fail"), upload(one, "odd")
    workers = one.workers()
    assert len(workers) == 1
    assert all(b"service.db" not in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in workers)  # nor any password
    scan, failed, strange = one.wait_for(good, bad, odd)
    assert (scan["state"], scan["verdict"], scan["attempts"]) == ("done", "suspicious", 1)
    report = one.ask(f"/scans/{good}/report.json")
    assert report["settings"] == {"latent_dim": None, "seed": 7, "twin": True}  # what the check was given
    assert report["file"]["name"] == "a.onnx"
    # a check that raises has failed at once, and its worker goes on
    assert (failed["state"], failed["attempts"]) == ("failed", 1) and "KeyError" in failed["sentence"]
    assert "stranger" not in failed["sentence"] and one.workers() == workers
    # odd text and numbers of a stranger break nothing
    assert (strange["state"], strange["sentence"]) == ("done", "a?b?")
    report = one.ask(f"/scans/{odd}/report.json")
    assert report["score"] is None and report["list"] == [None, "?"]
    # a scan that is deleted frees its worker
    endless = upload(one, "sleep")
    one.wait_for(endless, states=("running",))
    assert one.ask(f"/scans/{endless}", method="DELETE") is None
    assert one.wait_for(upload(one, "steps 1"))[0]["state"] == "done" and one.ask(f"/scans/{endless}") == 404
    folder = one.log.parent / "service"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))  # for nobody else here
    end = time.monotonic() + PATIENCE
    while list((folder / "uploads").iterdir()) and time.monotonic() < end:  # a report is there a moment earlier
        time.sleep(0.05)
    assert list((folder / "uploads").iterdir()) == []


def test_kill_9_of_a_worker_and_a_file_that_does_it_each_time(one: Server) -> None:
    id = upload(one, "steps 20")
    one.wait_for(id, states=("running",))
    (worker,) = one.workers()
    os.kill(worker, signal.SIGKILL)
    (scan,) = one.wait_for(id)
    assert (scan["state"], scan["attempts"]) == ("done", 2) and worker not in one.workers()
    assert len(one.ask(f"/scans/{id}/report.json")["detectors"]) == 20
    bomb, good = one.wait_for(upload(one, "bomb"), upload(one, "steps 1"))
    assert bomb["state"] == "failed" and bomb["attempts"] == 3 and "3 times" in bomb["sentence"]
    assert good["state"] == "done" and good["attempts"] == 1


@pytest.mark.parametrize("how", [signal.SIGTERM, *(pytest.param(one, marks=pytest.mark.nightly) for one in (2, 9))])
def test_the_end_of_the_server_in_the_middle_of_a_scan(tmp_path: Path, how: int) -> None:
    with Server(tmp_path / "service", "--workers", "2") as server:
        ids = [upload(server, f"steps {steps}") for steps in (30, 31, 1)]
        server.wait_for(*ids[:2], states=("running",))
        workers = server.workers()
        server.process.send_signal(how)
        assert server.process.wait(PATIENCE) == (-how if how == signal.SIGKILL else 0)
        assert len(workers) == 2 and all(map(gone, workers))
    with Server(tmp_path / "service", "--workers", "2") as server:
        scans = server.wait_for(*ids)
        # the workers handed back what they held, so no attempt was lost
        assert [(scan["state"], scan["attempts"]) for scan in scans] == [("done", 1)] * 3


@pytest.mark.nightly
def test_kill_9_of_everything(tmp_path: Path) -> None:
    with Server(tmp_path / "service", "--workers", "1") as server:
        id = upload(server, "steps 20")
        server.wait_for(id, states=("running",))
        for pid in (server.process.pid, *server.workers()):
            os.kill(pid, signal.SIGKILL)
        server.process.wait(PATIENCE)
    with Server(tmp_path / "service", "--workers", "1") as server:
        (scan,) = server.wait_for(id)
        assert (scan["state"], scan["attempts"]) == ("done", 2)


def test_real_files_are_checked_in_a_jail_that_does_not_outlive_its_worker(
    tmp_path: Path, tiny_gate: generators.Generator
) -> None:
    card = zoo.ModelCard("found", tiny_gate.spec(), "digits", 0, {})
    model = zoo.save_file(tmp_path / "found.safetensors", tiny_gate, card).read_bytes()
    with Server(tmp_path / "service", "--workers", "1", check="") as server:
        id = server.ask("/scans?twin=false&latent_dim=16", model, **{"X-Filename": "found.safetensors"})["id"]
        junk = server.ask("/scans", b"no model at all")["id"]
        scan, refused = server.wait_for(id, junk)
        assert (scan["state"], scan["verdict"], refused["verdict"]) == ("done", "suspicious", "refused")
        report = server.ask(f"/scans/{id}/report.json")
        assert report["file"]["name"] == "found.safetensors" and report["jail"]["how"] == "finished"
        for tail, says in (("html", b"found.safetensors"), ("sarif", b"2.1.0")):
            with urllib.request.urlopen(f"{server.address}/scans/{id}/report.{tail}", timeout=PATIENCE) as answer:
                assert says in answer.read()
        id = server.ask("/scans?latent_dim=16", model)["id"]
        with urllib.request.urlopen(f"{server.address}/scans/{id}/events", timeout=PATIENCE) as stream:
            assert any(b'"opened"' in line for line in stream)  # the file is open in the jail, and the scan goes on
        (worker,) = server.workers()
        jailed = [process.pid for process in psutil.Process(worker).children(recursive=True)]
        assert len(jailed) >= 2
        os.kill(worker, signal.SIGKILL)
        assert all(map(gone, jailed))
        server.wait_for(id, states=("running", "waiting"))
        workers = server.workers()
        assert server.ask(f"/scans/{id}", method="DELETE") is None
    assert all(map(gone, workers))


def test_reports_are_forgotten_in_time(tmp_path: Path) -> None:
    times = "heartbeat_seconds=0.3 lease_seconds=2 poll_seconds=0.05 sweep_seconds=0.1"
    with Server(tmp_path / "service", "--workers", "1", "--days", "0.001", times=f"{times} days=1e-6") as server:
        id = upload(server, "steps 1")
        end = time.monotonic() + PATIENCE
        while server.ask(f"/scans/{id}") != 404 and time.monotonic() < end:
            time.sleep(0.05)
        assert server.ask(f"/scans/{id}") == 404 and server.ask(f"/scans/{id}/report.json") == 404


def raw(server: Server, text: bytes) -> socket.socket:
    line = socket.create_connection(("127.0.0.1", int(server.address.rpartition(":")[2])), timeout=PATIENCE)
    line.sendall(text)
    return line


def test_broken_uploads_leave_nothing_and_other_machines_need_a_key(tmp_path: Path) -> None:
    uploads, keys, key = tmp_path / "service" / "uploads", tmp_path / "keys", "ann's-key-is-long-enough"
    keys.write_text(f"ann:{key}\n")
    head = HEAD.replace(b"\r\n\r\n", f"\r\nAuthorization: Bearer {key}\r\n\r\n".encode())
    options = ("--workers", "0", "--host", "0.0.0.0", "--keys", str(keys))
    with Server(tmp_path / "service", *options, times="upload_seconds=0.5") as server:
        server.address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert server.ask("/scans") == 401
        asked: Any = {"Authorization": f"Bearer {key}", "Host": "checks.example"}
        assert server.ask("/scans", **asked) == []
        slow, broken = raw(server, head + b"x" * 1_000), raw(server, head + b"x" * 1_000)
        end = time.monotonic() + PATIENCE
        while len(list(uploads.iterdir())) < 2 and time.monotonic() < end - PATIENCE + 3:  # or they have gone already
            time.sleep(0.01)
        broken.close()
        with slow:
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        while list(uploads.iterdir()) and time.monotonic() < end:
            time.sleep(0.01)
        assert list(uploads.iterdir()) == []
        assert server.ask("/scans", **asked) == [] and server.ask("/scans", b"fine", **asked)["state"] == "waiting"


def test_what_keeps_it_from_starting_is_one_sentence(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: 0o022)  # a server's own process may change it, and this one not

    def said(*options: str) -> str:
        done = call("serve", "--folder", tmp_path / "service", *options)
        assert done.exit_code == 2 and done.stderr.count("\n") == 1 and "Traceback" not in done.output, done.output
        return done.stderr

    for options, says in (
        (["--host", "0.0.0.0"], "--keys"),
        (["--host", "0.0.0.0", "--no-keys"], "--name"),
        (["--keys", "none"], "none"),
        (["--database", "nothing://user:password@x/y", "--port", "0"], "database"),
    ):
        sentence = said(*options)
        assert says in sentence and "password" not in sentence
    assert not (tmp_path / "service" / "service.db").exists()
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        sentence = said("--port", port)
    assert port in sentence and "--port" in sentence


def test_the_containers_start_a_command_that_exists() -> None:
    told = sum((json.loads(words) for words in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", DOCKERFILE, re.M)), [])
    known = inspect.signature(serve).parameters
    assert told[:2] == ["devilgan", "serve"]
    assert all(option[2:].replace("-", "_") in known for option in told if option.startswith("--"))
    assert f":{known['port'].default}/healthz" in DOCKERFILE
    (option,) = [one for one in inspect.get_annotations(serve)["database"].__metadata__ if one.envvar]
    compose = yaml.safe_load((ROOT / "compose.yml").read_text())
    assert list(compose["services"]["service"]["environment"]) == [option.envvar]


def test_the_server_never_imports_torch() -> None:
    code = (
        "import sys, devilgan_lite.cli.serve, devilgan_lite.service.server, devilgan_lite.service.worker\n"
        "import devilgan_lite.intake.page, devilgan_lite.intake.check\n"
        "print([name for name in ('torch', 'numpy', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
