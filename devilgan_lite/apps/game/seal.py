"""What keeps the answers from the players: random numbers that need a passphrase, and a key that is sealed with it.

The seed alone draws nothing: every random number of a round comes from the seed **and** the instructor's passphrase
(scrypt, then HMAC-SHA-256 for each purpose), so a player who runs the same command with the same seed gets another
round. The key is encrypted and authenticated (Fernet of the optional ``cryptography`` package: AES-128-CBC and
HMAC-SHA-256) under scrypt of the passphrase with a random salt.
"""

import base64
import hashlib
import hmac
import importlib
import json
import random
import secrets
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

from devilgan_lite.checks import read_bytes, read_json, whole_number

FORMAT = 1
LEAST_LETTERS = 12  # of a passphrase: scrypt makes each guess slow, not impossible
COST = {"n": 2**15, "r": 8, "p": 1}  # of scrypt: 32 MiB and about 0.1 s a guess
MOST_BYTES = 16 * 2**20  # of a sealed key


def check_passphrase(passphrase: str) -> None:
    """Raise ``ValueError`` unless the passphrase has at least 12 characters."""
    if not isinstance(passphrase, str) or len(passphrase.strip()) < LEAST_LETTERS:
        raise ValueError(f"the passphrase is too short: it must have at least {LEAST_LETTERS} characters.")


@lru_cache(maxsize=8)
def _stretched(passphrase: str, salt: bytes) -> bytes:
    return hashlib.scrypt(passphrase.encode(), salt=salt, **COST, maxmem=2**26, dklen=32)


def cryptography() -> ModuleType:
    """The module ``cryptography.fernet``; ``ModuleNotFoundError`` in one sentence where it is not installed."""
    try:
        return importlib.import_module("cryptography.fernet")
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "the key of a round is sealed with cryptography, which is missing: pip install 'devilgan_lite[challenge]'."
        ) from None


def _cipher(passphrase: str, salt: bytes) -> Any:
    return cryptography().Fernet(base64.urlsafe_b64encode(_stretched(passphrase, salt)))


def stream(passphrase: str, seed: int, purpose: str) -> random.Random:
    """A stream of random numbers for ``purpose``, the same for the same passphrase and ``seed`` (0 or more)."""
    check_passphrase(passphrase)
    whole_number("seed", seed, 0)
    secret = _stretched(passphrase, b"devilgan challenge, seed %d" % seed)
    return random.Random(hmac.digest(secret, purpose.encode(), "sha256"))


def canonical(key: dict[str, Any]) -> bytes:
    """The key as JSON with sorted names and no spaces, so that equal keys are equal bytes."""
    return json.dumps(key, sort_keys=True, separators=(",", ":")).encode()


def commitment(key: dict[str, Any]) -> str:
    """The SHA-256 of the key, which the players hold. The key has 32 random bytes, so nobody can guess it from this.

    It binds the instructor: no other key has the same commitment.
    """
    return hashlib.sha256(canonical(key)).hexdigest()


def seal(key: dict[str, Any], passphrase: str) -> bytes:
    """The key encrypted under ``passphrase``: a JSON text with salt and token."""
    check_passphrase(passphrase)
    salt = secrets.token_bytes(16)
    token = _cipher(passphrase, salt).encrypt(canonical(key))
    return json.dumps({"format": FORMAT, "salt": salt.hex(), "token": token.decode()}, indent=1).encode() + b"\n"


def unseal(path: str | Path, passphrase: str, *, sha256: str | None = None) -> dict[str, Any]:
    """Open a sealed key; ``ValueError`` or ``FileNotFoundError`` in one sentence.

    With ``sha256``, from the players' ``challenge.json``, a changed file gets another sentence than a wrong passphrase.
    """
    path = Path(path)
    missing = "; devilgan challenge new writes it as instructor/key.sealed"
    content = read_bytes(path, "sealed key", most=MOST_BYTES, missing=missing)
    if sha256 is not None and hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError(f"{path.name} is not the key that was sealed for this round: it was changed or is another's.")
    types = {"format": int, "salt": str, "token": str}
    sealed = read_json(path, "sealed key", types, version=FORMAT, most=MOST_BYTES)
    try:
        salt, token = bytes.fromhex(sealed["salt"]), sealed["token"].encode()
    except ValueError:
        raise ValueError(f"{path.name} is not a sealed key: its salt or token is damaged.") from None
    try:
        key: dict[str, Any] = json.loads(_cipher(passphrase, salt).decrypt(token))
    except cryptography().InvalidToken:
        reason = "the passphrase is wrong" if sha256 is not None else "the passphrase is wrong, or the file was changed"
        raise ValueError(f"{path.name} does not open: {reason}.") from None
    return key
