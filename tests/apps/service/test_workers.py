"""Real servers and workers on loopback: whatever is killed, every job ends or waits again, and nothing is left over."""

import inspect
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest
from running import PATIENCE, ROOT, Server, until

from devilgan_lite import generators, zoo
from devilgan_lite.apps.service.commands import serve
from devilgan_lite.apps.service.worker import clean

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see processes in")


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def all_end(pids: list[int]) -> bool:
    return until(lambda: all(map(gone, pids)))


def upload(server: Server, content: str, query: str = "") -> str:
    return server.ask(f"/scans{query}", content.encode(), **{"X-Filename": "a.onnx"})["id"]


def test_scans_from_upload_to_report_whatever_happens_to_the_worker(tmp_path: Path) -> None:
    folder = tmp_path / "service"
    with Server(folder, "--workers", "1") as one:
        good, bad, odd = upload(one, "steps 2", "?seed=7"), upload(one, "fail"), upload(one, "odd")
        (worker,) = one.workers()
        assert "service.db" not in " ".join(psutil.Process(worker).cmdline())  # nor any password
        scan, failed, strange = one.wait_for(good, bad, odd)
        assert (scan["state"], scan["verdict"], scan["attempts"]) == ("done", "suspicious", 1)
        report = one.ask(f"/scans/{good}/report.json")
        assert report["settings"] == {"latent_dim": None, "seed": 7, "twin": True}  # what the check was given
        assert report["file"]["name"] == "a.onnx"
        # a check that raises has failed at once, and its worker goes on
        assert (failed["state"], failed["attempts"]) == ("failed", 1) and "KeyError" in failed["sentence"]
        assert "stranger" not in failed["sentence"] and one.workers() == [worker]
        # odd text and numbers of a stranger break nothing
        assert (strange["state"], strange["sentence"]) == ("done", "a?b?")
        report = one.ask(f"/scans/{odd}/report.json")
        assert report["score"] is None and report["list"] == [None, "?"] and clean([float("nan")]) == [None]
        # a scan that is deleted frees its worker, and a worker that is killed is replaced
        endless, other = upload(one, "sleep"), upload(one, "steps 12")
        one.wait_for(endless, states=("running",))
        assert one.ask(f"/scans/{endless}", method="DELETE") is None
        one.wait_for(other, states=("running",))
        os.kill(worker, signal.SIGKILL)
        (scan,) = one.wait_for(other)
        assert (scan["state"], scan["attempts"]) == ("done", 2) and one.ask(f"/scans/{endless}") == 404
        assert len(one.ask(f"/scans/{other}/report.json")["findings"]) == 12 and worker not in one.workers()
        (bomb,) = one.wait_for(upload(one, "bomb"))  # each time
        assert bomb["state"] == "failed" and bomb["attempts"] == 3 and "3 times" in bomb["sentence"]
        assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))  # for nobody else here
        left = {path.name for path in (folder / "uploads").iterdir()}
        assert left <= {bomb["id"]}, left


@pytest.mark.parametrize(
    ("how", "killed", "attempts"),
    [
        (signal.SIGTERM, "server", 1),  # the workers hand back what they hold, so no attempt is lost
        pytest.param(signal.SIGINT, "server", 1, marks=pytest.mark.nightly),
        pytest.param(signal.SIGKILL, "server", 1, marks=pytest.mark.nightly),
        pytest.param(signal.SIGKILL, "everything", 2, marks=pytest.mark.nightly),
    ],
)
def test_the_end_of_the_server_in_the_middle_of_a_scan(tmp_path: Path, how: int, killed: str, attempts: int) -> None:
    with Server(tmp_path / "service", "--workers", "1") as server:
        first, second = upload(server, "steps 15"), upload(server, "steps 1")
        server.wait_for(first, states=("running",))
        workers = server.workers()
        for pid in (server.process.pid, *(workers if killed == "everything" else [])):
            os.kill(pid, how)
        assert server.process.wait(PATIENCE) == (-how if how == signal.SIGKILL else 0)
        assert len(workers) == 1 and all_end(workers)
    with Server(tmp_path / "service", "--workers", "1") as server:
        scans = server.wait_for(first, second)
        assert [(scan["state"], scan["attempts"]) for scan in scans] == [("done", attempts), ("done", 1)]


def test_real_files_are_checked_in_a_jail_that_does_not_outlive_its_worker(
    tmp_path: Path, tiny_gate: generators.Generator
) -> None:
    card = zoo.ModelCard("found", tiny_gate.spec(), "digits", 0, {})
    model = zoo.save_file(tmp_path / "found.safetensors", tiny_gate, card).read_bytes()
    with Server(tmp_path / "service", "--workers", "1", check="") as server:
        id = server.ask("/scans?twin=false&latent_dim=16", model, **{"X-Filename": "found.safetensors"})["id"]
        scan, refused = server.wait_for(id, server.ask("/scans", b"no model at all")["id"])
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
        assert all_end(jailed)


def test_broken_uploads_leave_nothing_and_other_machines_need_a_key(tmp_path: Path) -> None:
    uploads, keys, key = tmp_path / "service" / "uploads", tmp_path / "keys", "ann's-key-is-long-enough"
    keys.write_text(f"ann:{key}\n")
    asked: Any = {"Authorization": f"Bearer {key}", "Host": "checks.example"}
    lines = ["POST /scans HTTP/1.1", "Content-Length: 1000000", *(f"{name}: {text}" for name, text in asked.items())]
    options = ("--workers", "0", "--host", "0.0.0.0", "--keys", str(keys))
    with Server(tmp_path / "service", *options, times="upload_seconds=1") as server:
        assert server.ask("/scans") == 401 and server.ask("/scans", **asked) == []
        place = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        slow, broken = (socket.create_connection(place, timeout=PATIENCE) for _ in range(2))
        for line in (slow, broken):
            line.sendall("\r\n".join([*lines, "", "x" * 1_000]).encode())
        assert until(lambda: len(list(uploads.iterdir())) == 2)
        broken.close()
        with slow:
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        assert until(lambda: not list(uploads.iterdir()))
        assert server.ask("/scans", **asked) == [] and server.ask("/scans", b"fine", **asked)["state"] == "waiting"


def test_what_keeps_it_from_starting_is_one_sentence(fails: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: 0o022)  # a server's own process may change it, and this one not
    serving = ("serve", "--folder", tmp_path / "service")
    fails(*serving, "--host", "0.0.0.0", names=["--keys"])
    fails(*serving, "--host", "0.0.0.0", "--no-keys", names=["--name"])
    fails(*serving, "--keys", "none", names=["none"])
    (tmp_path / "service" / "uploads").mkdir(parents=True)
    said = fails(*serving, "--database", "nothing://user:password@x/y", "--port", "0", names=["database"])
    assert "password" not in said
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        fails(*serving, "--port", port, names=[port, "--port"])


def test_the_containers_start_a_command_that_exists_and_the_server_never_imports_torch() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    told = sum((json.loads(words) for words in re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", dockerfile, re.M)), [])
    known = inspect.signature(serve).parameters
    assert told[:2] == ["devilgan", "serve"] and f":{known['port'].default}/healthz" in dockerfile
    assert all(option[2:].replace("-", "_") in known for option in told if option.startswith("--"))
    modules = "apps.service.commands apps.service.server apps.service.worker report.html intake.check"
    code = "".join(f"import devilgan_lite.{name}\n" for name in modules.split())
    code += "import sys\nprint([name for name in ('torch', 'numpy', 'onnx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
