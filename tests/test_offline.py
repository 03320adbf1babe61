"""The network is closed here and in every Python that a test starts. (UDP: connecting one sends nothing.)"""

import socket
import subprocess
import sys

import pytest

ELSEWHERE = ("192.0.2.1", 9)  # an address for documentation, RFC 5737
TRY = f"import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect({ELSEWHERE})"


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
@pytest.mark.parametrize(
    ("family", "address"),
    [(socket.AF_INET, ELSEWHERE), (socket.AF_INET, ("a.example", 9)), (socket.AF_INET6, ("2001:db8::1", 9))],
)
def test_other_machines_are_refused(method: str, family: socket.AddressFamily, address: tuple[str, int]) -> None:
    with (
        socket.socket(family, socket.SOCK_DGRAM) as udp,
        pytest.raises(RuntimeError, match="tests run without a network"),
    ):
        getattr(udp, method)(address)


def test_loopback_stays_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname(), timeout=5):
        pass


def test_child_processes_are_closed_too() -> None:
    child = subprocess.run([sys.executable, "-c", TRY], capture_output=True, text=True, timeout=60)
    assert "NetworkClosed" in child.stderr
