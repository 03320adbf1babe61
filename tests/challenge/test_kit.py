"""The players' folder shows nothing but weights: sizes, cards, times and order are the same whatever a model is."""

import json
from pathlib import Path
from typing import Any

import pytest

from devilgan_lite import challenge, zoo
from devilgan_lite.challenge import seal
from devilgan_lite.challenge.kit import MANIFEST, MOMENT

PASSPHRASE = "a passphrase for tests"  # of the round in conftest


def test_models_look_alike_from_outside(kit: challenge.Kit, key: dict[str, Any]) -> None:
    files = [kit.path(name) for name in kit.models]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in files]
    assert {answer["backdoored"] for answer in key["models"].values()} == {True, False}
    assert len({path.stat().st_size for path in files}) == 1
    assert len({path.with_suffix(".json").stat().st_size for path in files}) == 1
    assert {path.stat().st_mtime for path in kit.folder.iterdir()} == {MOMENT}
    assert all({k: v for k, v in card.items() if k not in ("name", "sha256")}.keys() for card in cards)
    rest = [{name: value for name, value in card.items() if name not in ("name", "sha256")} for card in cards]
    assert all(card == rest[0] for card in rest)
    assert len({card["sha256"] for card in cards}) == len(cards)
    headers = {path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:8], "little")] for path in files}
    assert len(headers) == 1
    assert list(kit.models) == sorted(kit.models)


def test_the_kit_does_not_hold_the_key(kit: challenge.Kit, key: dict[str, Any], round_folder: Path) -> None:
    expected = {MANIFEST, *(f"{name}.{end}" for name in kit.models for end in ("safetensors", "json"))}
    assert {path.name for path in kit.folder.iterdir()} == expected
    manifest = (kit.folder / MANIFEST).read_text()
    assert key["nonce"] not in manifest and PASSPHRASE not in manifest and "gate" not in manifest
    assert kit.commitment == seal.commitment(key)
    sealed = (round_folder / "instructor" / "key.sealed").read_text()
    assert not any(word in sealed for word in ("backdoored", "gate", key["nonce"], *kit.models))


def test_models_of_a_round_are_all_different_and_load_like_any_other(kit: challenge.Kit) -> None:
    assert len(set(kit.models.values())) == len(kit.models)
    generator, card = zoo.load_file(kit.path(next(iter(kit.models))))
    assert generator.spec() == kit.spec and card.backdoor is None and card.metrics == {}


@pytest.mark.slow
def test_the_seed_alone_gives_another_round(kit: challenge.Kit, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"models": 4, "seed": 3, "quick": True, "kinds": ("gate",)}
    other = challenge.new_round(tmp_path / "other", "another passphrase", **settings)
    assert set(other.models).isdisjoint(kit.models) and set(other.models.values()).isdisjoint(kit.models.values())
    again = challenge.new_round(tmp_path / "again", "another passphrase", **settings)
    assert again.models == other.models and again.commitment != other.commitment


def test_a_changed_model_is_refused(copied: Path) -> None:
    kit = challenge.read_kit(copied)
    name = next(iter(kit.models))
    content = bytearray(kit.path(name).read_bytes())
    content[-1] ^= 1
    kit.path(name).write_bytes(content)
    with pytest.raises(ValueError, match="is not the model of this round"):
        kit.load(name)
    kit.path(name).unlink()
    with pytest.raises(FileNotFoundError, match="the kit is not complete"):
        kit.load(name)
    with pytest.raises(ValueError, match="unknown; valid"):
        kit.load("garments")


@pytest.mark.parametrize("content", ["", "[]", '{"format": 1}', '{"format": 9}', '{"format": 1, "more": 2}', "\xff"])
def test_a_broken_description_is_refused(content: str, copied: Path) -> None:
    (copied / "players" / MANIFEST).write_text(content)
    with pytest.raises(ValueError, match="challenge.json is not a description of a round: "):
        challenge.read_kit(copied)


@pytest.mark.slow
def test_two_processes_make_the_same_models(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"models": 4, "seed": 1, "quick": True, "kinds": ("gate",)}
    one = challenge.new_round(tmp_path / "one", PASSPHRASE, jobs=1, **settings)
    two = challenge.new_round(tmp_path / "two", PASSPHRASE, jobs=2, **settings)
    assert one.models == two.models
