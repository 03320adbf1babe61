"""The key opens with its passphrase only, and a seed without the passphrase draws nothing that a player could draw."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from devilgan_lite.challenge import seal

KEY = {"id": "1", "nonce": "00", "models": {"a": {"backdoored": True}}}


def test_the_stream_hangs_on_seed_and_passphrase_and_purpose() -> None:
    base = ("correct horse battery", 3, "roles")
    numbers = [
        seal.stream(*base).random(),
        seal.stream("correct horse batterz", 3, "roles").random(),
        seal.stream("correct horse battery", 4, "roles").random(),
        seal.stream("correct horse battery", 3, "names").random(),
    ]
    assert len(set(numbers)) == 4
    assert seal.stream(*base).random() == numbers[0]


@pytest.mark.parametrize("passphrase", ["", "short", " " * 20])
def test_short_passphrases_are_refused(passphrase: str) -> None:
    with pytest.raises(ValueError, match="at least 12 characters"):
        seal.stream(passphrase, 0, "roles")
    with pytest.raises(ValueError, match="at least 12 characters"):
        seal.seal(KEY, passphrase)


def test_a_sealed_key_opens_and_shows_nothing(tmp_path: Path) -> None:
    path = tmp_path / "key.sealed"
    path.write_bytes(seal.seal(KEY, "correct horse battery"))
    assert seal.unseal(path, "correct horse battery") == KEY
    assert b"backdoored" not in path.read_bytes()
    assert seal.seal(KEY, "correct horse battery") != path.read_bytes()  # a salt of its own each time


def test_wrong_passphrase_and_changed_file_have_their_own_sentences(tmp_path: Path) -> None:
    path = tmp_path / "key.sealed"
    content = seal.seal(KEY, "correct horse battery")
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(ValueError, match="does not open: the passphrase is wrong\\.$"):
        seal.unseal(path, "incorrect horse battery", sha256=digest)
    sealed = json.loads(content)
    middle = len(sealed["token"]) // 2
    sealed["token"] = (
        sealed["token"][:middle] + ("A" if sealed["token"][middle] != "A" else "B") + (sealed["token"][middle + 1 :])
    )
    path.write_text(json.dumps(sealed))
    with pytest.raises(ValueError, match="it was changed or is another's"):
        seal.unseal(path, "correct horse battery", sha256=digest)
    with pytest.raises(ValueError, match="the passphrase is wrong, or the file was changed"):
        seal.unseal(path, "correct horse battery")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 2, "salt": "00", "token": "x"}', "\x00", "[" * 9999])
def test_what_is_no_key_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key.sealed"
    path.write_text(content)
    with pytest.raises(ValueError, match="is not a sealed key of format 1"):
        seal.unseal(path, "correct horse battery")


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no sealed key"):
        seal.unseal(tmp_path / "key.sealed", "correct horse battery")


def test_the_commitment_binds_every_part() -> None:
    changed = {**KEY, "models": {"a": {"backdoored": False}}}
    assert seal.commitment(KEY) == seal.commitment(dict(reversed(KEY.items())))
    assert len({seal.commitment(key) for key in (KEY, changed, {**KEY, "nonce": "01"})}) == 3
