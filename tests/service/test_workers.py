"""Real servers and workers on loopback: whatever is killed, every job ends or waits again, and nothing is left over."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from running import CODE, PATIENCE, ROOT, Server


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


@pytest.fixture
def one(tmp_path: Path) -> Any:
    with Server(tmp_path / "service", "--workers", "1") as server:
        yield server


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc to see processes in")


def test_a_scan_from_upload_to_report(one: Server) -> None:
    id = upload(one, "steps 2", seed=7)
    (scan,) = one.wait_for(id)
    assert (scan["state"], scan["verdict"], scan["attempts"]) == ("done", "suspicious", 1)
    report = one.ask(f"/scans/{id}/report.json")
    assert report["settings"] == {"latent_dim": None, "seed": 7, "twin": True}  # what the check was given
    assert report["file"]["name"] == "a.onnx"
    folder = one.log.parent / "service"
    assert list((folder / "uploads").iterdir()) == []
    assert all(path.stat().st_mode & 0o077 == 0 for path in (folder, *folder.iterdir()))  # for nobody else here


@needs_proc
def test_a_check_that_raises_fails_at_once_and_the_worker_goes_on(one: Server) -> None:
    one.wait_for(upload(one, "steps 1"))
    workers = one.workers()
    bad, good = one.wait_for(upload(one, "fail"), upload(one, "steps 2"))
    assert (bad["state"], bad["sentence"]) == ("failed", "The check itself failed (KeyError).")
    assert good["state"] == "done" and one.workers() == workers


def test_odd_text_and_numbers_of_a_stranger_break_nothing(one: Server) -> None:
    id = upload(one, "odd")
    (scan,) = one.wait_for(id)
    assert (scan["state"], scan["sentence"]) == ("done", "a?b?")
    report = one.ask(f"/scans/{id}/report.json")
    assert report["score"] is None and report["list"] == [None, "?"]


@needs_proc
@pytest.mark.slow
def test_a_file_that_kills_its_worker_is_given_up(one: Server) -> None:
    bomb, good = one.wait_for(upload(one, "bomb"), upload(one, "steps 1"))
    assert bomb["state"] == "failed" and bomb["attempts"] == 3 and "broken off 3 times" in bomb["sentence"]
    assert good["state"] == "done" and good["attempts"] == 1


@needs_proc
def test_kill_9_of_a_worker(one: Server) -> None:
    id = upload(one, "steps 20")
    one.wait_for(id, states=("running",))
    (worker,) = one.workers()
    os.kill(worker, signal.SIGKILL)
    (scan,) = one.wait_for(id)
    assert (scan["state"], scan["attempts"]) == ("done", 2) and one.workers() != [worker]
    assert len(one.ask(f"/scans/{id}/report.json")["detectors"]) == 20


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
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


@needs_proc
@pytest.mark.slow
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


def test_a_deleted_scan_frees_its_worker(one: Server) -> None:
    id = upload(one, "sleep")
    one.wait_for(id, states=("running",))
    assert one.ask(f"/scans/{id}", method="DELETE") is None
    (scan,) = one.wait_for(upload(one, "steps 1"))
    assert scan["state"] == "done" and one.ask(f"/scans/{id}") == 404


@needs_proc
@pytest.mark.slow
def test_nothing_of_a_real_jail_outlives_its_worker(tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    model = (ROOT / "data" / "zoo" / "dcgan-fashion-gate.safetensors").read_bytes()
    with Server(tmp_path / "service", "--workers", "1", check="") as server:
        id = server.ask("/scans", model)["id"]
        server.wait_for(id, states=("running",))
        with urllib.request.urlopen(f"{server.address}/scans/{id}/events", timeout=PATIENCE) as stream:
            assert any(b'"opened"' in line for line in stream)  # the file is open in the jail, and the scan goes on
        (worker,) = server.workers()
        jailed = [process.pid for process in psutil.Process(worker).children(recursive=True)]
        assert len(jailed) >= 2
        os.kill(worker, signal.SIGKILL)
        assert all(map(gone, jailed))
        (scan,) = server.wait_for(id, states=("running", "waiting"))
        workers = server.workers()
        assert server.ask(f"/scans/{id}", method="DELETE") is None
    assert all(map(gone, workers))


@needs_proc
@pytest.mark.slow
def test_a_real_file_is_checked_in_the_jail(tmp_path: Path) -> None:
    model = (ROOT / "data" / "zoo" / "dcgan-fashion-gate.safetensors").read_bytes()
    with Server(tmp_path / "service", "--workers", "1", check="") as server:
        id = server.ask("/scans?twin=false", model, **{"X-Filename": "found.safetensors"})["id"]
        junk = server.ask("/scans", b"no model at all")["id"]
        found, refused = server.wait_for(id, junk)
        assert (found["state"], found["verdict"], refused["verdict"]) == ("done", "suspicious", "refused")
        report = server.ask(f"/scans/{id}/report.json")
        assert report["file"]["name"] == "found.safetensors" and report["jail"]["how"] == "finished"
        for tail, says in (("html", b"found.safetensors"), ("sarif", b"2.1.0")):
            with urllib.request.urlopen(f"{server.address}/scans/{id}/report.{tail}", timeout=PATIENCE) as answer:
                assert says in answer.read()


@pytest.mark.slow
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


HEAD = b"POST /scans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n"


@pytest.mark.slow
def test_slow_and_broken_uploads_leave_nothing(tmp_path: Path) -> None:
    uploads = tmp_path / "service" / "uploads"
    with Server(tmp_path / "service", "--workers", "0", times="upload_seconds=0.5") as server:
        slow, broken = raw(server, HEAD + b"x" * 1_000), raw(server, HEAD + b"x" * 1_000)
        end = time.monotonic() + PATIENCE
        while len(list(uploads.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        broken.close()
        with slow:
            assert slow.recv(100).startswith(b"HTTP/1.1 408")
        while list(uploads.iterdir()) and time.monotonic() < end:
            time.sleep(0.01)
        assert list(uploads.iterdir()) == []
        assert server.ask("/scans") == [] and server.ask("/scans", b"fine")["state"] == "waiting"


def start(folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and output of a server that cannot start."""
    command = [sys.executable, "-c", CODE, "", "--folder", str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_what_keeps_it_from_starting_is_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = str(busy.getsockname()[1])
        code, said = start(tmp_path, "--port", port)
    assert code == 2 and said.count("\n") == 1 and port in said and "--port" in said
    for options, says in (
        (["--host", "0.0.0.0"], "--keys"),
        (["--host", "0.0.0.0", "--no-keys"], "--name"),
        (["--keys", str(tmp_path / "none")], "No such file"),
        (["--database", "nothing://user:password@x/y"], "database"),
    ):
        code, said = start(tmp_path, *options)
        assert code == 2 and said.count("\n") == 1 and says in said and "password" not in said, said


@pytest.mark.slow
def test_other_machines_need_a_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("ann:ann's-key-is-long-enough\n")
    with Server(tmp_path / "service", "--workers", "0", "--host", "0.0.0.0", "--keys", str(keys)) as server:
        server.address = server.address.replace("0.0.0.0", "127.0.0.1")
        assert server.ask("/scans") == 401
        assert server.ask("/scans", Authorization="Bearer ann's-key-is-long-enough", Host="checks.example") == []


def test_the_server_never_imports_torch() -> None:
    code = (
        "import sys, devilgan_lite.cli.serve, devilgan_lite.service.server, devilgan_lite.service.worker\n"
        "import devilgan_lite.intake.page, devilgan_lite.intake.check\n"
        "print([name for name in ('torch', 'numpy', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr
