"""What keeps the answers from the players: numbers that hang on a passphrase, and a key sealed with it.

The seed alone draws nothing: every random number of a round comes from the seed **and** the instructor's passphrase
(scrypt, then HMAC-SHA-256 for each purpose), so a player who runs the same command with the same seed gets another
round. The key is encrypted and authenticated (Fernet of the ``cryptography`` package: AES-128-CBC and HMAC-SHA-256)
under scrypt of the passphrase with a random salt.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any

from devilgan_lite.checks import whole_number

FORMAT = 1
LEAST_LETTERS = 12  # of a passphrase: scrypt makes a guess dear, not impossible
COST = {"n": 2**15, "r": 8, "p": 1}  # of scrypt: 32 MiB and about 0.1 s a guess
MOST_BYTES = 16 * 2**20  # of a sealed key


def check_passphrase(passphrase: str) -> None:
    """Raise ``ValueError`` unless the passphrase is long enough to be one."""
    if not isinstance(passphrase, str) or len(passphrase.strip()) < LEAST_LETTERS:
        raise ValueError(f"the passphrase is too short: it must have at least {LEAST_LETTERS} characters.")


@lru_cache(maxsize=8)
def _stretched(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, **COST, maxmem=2**26, dklen=32)


def stream(passphrase: str, seed: int, purpose: str) -> random.Random:
    """A stream of random numbers for ``purpose``, the same for the same passphrase and ``seed`` (0 or more)."""
    check_passphrase(passphrase)
    whole_number("seed", seed, 0)
    secret = _stretched(passphrase, b"devilgan challenge, seed %d" % seed)
    return random.Random(hmac.digest(secret, purpose.encode(), "sha256"))


def canonical(key: dict[str, Any]) -> bytes:
    """The one way in which a key is written: sorted names, no spaces."""
    return json.dumps(key, sort_keys=True, separators=(",", ":")).encode()


def commitment(key: dict[str, Any]) -> str:
    """What the players hold of the key: its SHA-256. The key holds 32 random bytes, so nothing can be guessed from it.

    It binds the instructor: no other key has the same commitment.
    """
    return hashlib.sha256(canonical(key)).hexdigest()


def new_nonce() -> str:
    """32 fresh random bytes, in hexadecimal; every key holds some under ``nonce``."""
    return secrets.token_hex(32)


def seal(key: dict[str, Any], passphrase: str) -> bytes:
    """The key encrypted under ``passphrase``: a JSON text with salt and token."""
    from cryptography.fernet import Fernet

    check_passphrase(passphrase)
    salt = secrets.token_bytes(16)
    token = Fernet(base64.urlsafe_b64encode(_stretched(passphrase, salt))).encrypt(canonical(key))
    return json.dumps({"format": FORMAT, "salt": salt.hex(), "token": token.decode()}, indent=1).encode() + b"\n"


def unseal(path: str | Path, passphrase: str, *, sha256: str | None = None) -> dict[str, Any]:
    """Open a sealed key. With ``sha256``, from the players' ``challenge.json``, a changed file is told from a wrong
    passphrase. ``ValueError`` or ``FileNotFoundError`` in one sentence.
    """
    from cryptography.fernet import Fernet, InvalidToken

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no sealed key {path}; devilgan challenge new writes it as instructor/key.sealed.")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes; a sealed key has at most {MOST_BYTES:,}.")
    content = path.read_bytes()
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the key that was sealed for this round: it was changed or is another's.")
    try:
        sealed = json.loads(content)
        salt, token = bytes.fromhex(sealed["salt"]), sealed["token"].encode()
        known = sealed["format"] == FORMAT and len(salt) == 16
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        known = False
    if not known:
        raise ValueError(f"{path.name} is not a sealed key of format {FORMAT}.")
    try:
        opened = Fernet(base64.urlsafe_b64encode(_stretched(passphrase, salt))).decrypt(token)
    except InvalidToken:
        reason = "the passphrase is wrong" if sha256 is not None else "the passphrase is wrong, or the file was changed"
        raise ValueError(f"{path.name} does not open: {reason}.") from None
    key: dict[str, Any] = json.loads(opened)
    return key
