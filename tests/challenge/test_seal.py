"""The key opens with its passphrase only, and a seed without the passphrase draws nothing that a player could draw."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from devilgan_lite import challenge
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


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "salt": "00", "token": "x"}',
        '{"format": 1, "salt": "0", "token": "x"}',
        '{"format": 1, "salt": "00", "token": "\\ud800"}',
        "\x00",
        "[" * 9999,
    ],
)
def test_what_is_no_key_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "key.sealed"
    path.write_text(content)
    with pytest.raises(ValueError, match="key.sealed is not a sealed key: "):
        seal.unseal(path, "correct horse battery")


def test_a_missing_key_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no sealed key"):
        seal.unseal(tmp_path / "key.sealed", "correct horse battery")


@pytest.fixture
def without_cryptography(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)  # None: Python refuses to import it


@pytest.mark.usefixtures("without_cryptography")
def test_without_cryptography_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    sentence = r"sealed with cryptography, which is missing: pip install 'devilgan_lite\[challenge\]'\.$"
    with pytest.raises(ModuleNotFoundError, match=sentence):
        seal.seal(KEY, "correct horse battery")
    (tmp_path / "key.sealed").write_text('{"format": 1, "salt": "00", "token": "x"}')
    with pytest.raises(ModuleNotFoundError, match=sentence):
        seal.unseal(tmp_path / "key.sealed", "correct horse battery")
    with pytest.raises(ModuleNotFoundError, match=sentence):  # before the first model is made
        challenge.new_round(tmp_path / "round", "correct horse battery", on_made=lambda *_: pytest.fail("too late"))
    assert not (tmp_path / "round").exists()


def test_the_commitment_binds_every_part() -> None:
    changed = {**KEY, "models": {"a": {"backdoored": False}}}
    assert seal.commitment(KEY) == seal.commitment(dict(reversed(KEY.items())))
    assert len({seal.commitment(key) for key in (KEY, changed, {**KEY, "nonce": "01"})}) == 3
