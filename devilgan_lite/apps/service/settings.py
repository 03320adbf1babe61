"""The settings of the checking service, and the file of keys. Every limit of the service is a field here."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from devilgan_lite.checks import in_range, shown, whole_number

CHECK = "devilgan_lite.intake.check"  # the module with which a worker checks a file
LOCAL = "local"  # who owns every job where there are no keys
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")
MIB = 2**20


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a service is told. ``keys`` maps names to the SHA-256 (hex) of each key; without any, there is one owner.

    ``hosts``: the names in a ``Host`` header that are answered; empty: all of them.
    """

    folder: Path  # uploads, and the database where no other is named
    database: str = ""  # SQLAlchemy's URL; empty: SQLite in the folder
    check: str = CHECK
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)
    keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    hosts: tuple[str, ...] = LOCAL_HOSTS
    queue: int = 100  # jobs that wait or run, of everybody
    queue_per_key: int = 50
    uploads_per_minute: int = 60  # for each key
    upload_bytes: int = 1024 * MIB
    upload_seconds: float = 30.0  # grace before an upload must keep the least rate
    least_rate: float = 16_384.0  # bytes each second
    streams: int = 100  # progress streams that are open at once
    disk_bytes: int = 20 * 1024 * MIB  # uploads and reports together
    days: float = 30.0  # that reports are kept
    heartbeat_seconds: float = 10.0
    lease_seconds: float = 60.0  # after the last heartbeat until somebody else takes the job up
    poll_seconds: float = 0.5  # between two looks for news
    sweep_seconds: float = 60.0

    def __post_init__(self) -> None:
        whole_number("workers", self.workers, 0, 256)
        for name in ("queue", "queue_per_key", "uploads_per_minute", "upload_bytes", "streams", "disk_bytes"):
            whole_number(name, getattr(self, name), 1)
        for name in ("upload_seconds", "least_rate", "days", "heartbeat_seconds", "poll_seconds", "sweep_seconds"):
            in_range(name, getattr(self, name), 0, 1e9, open_low=True)
        in_range("lease_seconds", self.lease_seconds, 2 * self.heartbeat_seconds)

    @property
    def url(self) -> str:
        """The database's URL, with the driver that this project uses."""
        if not self.database:
            return f"sqlite:///{self.folder.resolve() / 'service.db'}"
        return re.sub(r"^postgres(ql)?://", "postgresql+psycopg://", self.database)

    @property
    def uploads(self) -> Path:
        """The folder of files that wait for their check."""
        return self.folder / "uploads"


def hashed(key: str) -> str:
    """SHA-256 of a key, in hexadecimal. A key is long and random, so it needs no slow hash."""
    return hashlib.sha256(key.encode()).hexdigest()


def read_keys(path: Path) -> dict[str, str]:
    """Names and hashed keys from a file of lines ``name:key``; empty lines and lines that start with # are skipped."""
    found: dict[str, str] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        name, _, key = line.strip().partition(":")
        if not name or name.startswith("#"):
            continue
        if not re.fullmatch(r"[A-Za-z0-9_.-]{1,40}", name) or name in found:
            raise ValueError(f"line {number} of {path.name}: {shown(name)} must be a new name of letters, digits, _.-")
        if not re.fullmatch(r"[!-~]{16,200}", key):
            raise ValueError(f"line {number} of {path.name}: a key has 16 to 200 letters, digits or signs, no spaces.")
        found[name] = hashed(key)
    if not found:
        raise ValueError(f"{path.name} holds no key; write one `name:key` a line.")
    return found
