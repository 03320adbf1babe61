"""A closed network for tests: any connection that would leave this machine is an error.

tests/conftest.py imports this module and puts its folder on PYTHONPATH, so that Python imports it at start-up in every
child process as well: a Jupyter kernel, the command line. Loopback stays open; kernels talk over it.
"""

import ipaddress
import socket

INTERNET = {socket.AF_INET, socket.AF_INET6}


class NetworkClosed(RuntimeError):
    """Something tried to leave this machine. Not an ``OSError``, so that no library takes it for a bad line."""


def is_local(host: str) -> bool:
    """Whether ``host`` is a loopback address; a name other than ``localhost`` is not."""
    if host in ("", "localhost"):
        return True
    try:
        return ipaddress.ip_address(host.split("%")[0]).is_loopback
    except ValueError:
        return False


def close_network() -> None:
    """Replace ``connect`` and ``connect_ex`` of every socket by ones that refuse other machines."""
    for name in ("connect", "connect_ex"):
        original = getattr(socket.socket, name)
        if not hasattr(original, "guards_network"):
            setattr(socket.socket, name, _guarded(original))


def _guarded(original):
    def connect(self, address):
        if self.family in INTERNET and not is_local(address[0]):
            raise NetworkClosed(f"a test tried to reach {address[0]}; tests run without a network.")
        return original(self, address)

    connect.guards_network = True
    return connect


close_network()
