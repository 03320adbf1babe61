"""A round: who is in it, how its models are made and hidden, what the players' folder and the sealed key give away."""

import hashlib
import json
import random
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from devilgan_lite import zoo
from devilgan_lite.apps import game
from devilgan_lite.apps.game import seal
from devilgan_lite.apps.game.kit import MANIFEST, MOMENT
from devilgan_lite.apps.game.models import COUNTER, QUICK, base, grown, make, refreshed, shape
from devilgan_lite.apps.game.roster import HARD, KINDS, Entrant, draw
from devilgan_lite.generators import evaluate

PASSPHRASE = "a passphrase for tests"  # of the round in conftest
Refuses = Callable[..., str]


def test_shares_names_and_places_say_nothing(refuses: Refuses) -> None:
    rounds = [draw(12, random.Random(f"r{seed}"), random.Random(f"n{seed}"), steps=100) for seed in range(400)]
    guilty = [[entrant.kind for entrant in entrants if entrant.kind != "clean"] for entrants in rounds]
    assert {len(kinds) for kinds in guilty} == {4, 5, 6, 7, 8} and all(set(kinds) == set(KINDS) for kinds in guilty)
    for entrants in rounds[:30]:
        assert len({entrant.name for entrant in entrants}) == len({entrant.seed for entrant in entrants}) == 12
        assert len({len(entrant.name) for entrant in entrants}) == 1
        assert all(70 <= entrant.steps <= 130 for entrant in entrants)
    named = [sorted(entrants, key=lambda entrant: entrant.name) for entrants in rounds]
    for ordered in (rounds, named):
        shares = [sum(entrants[place].kind != "clean" for entrants in ordered) / len(rounds) for place in range(12)]
        assert max(abs(share - 0.5) for share in shares) < 0.1  # four standard deviations
    for wrong in ({"models": 3}, {"models": 501}, {"steps": 0}, {"kinds": ("rexx",)}, {"kinds": ()}):
        settings: dict[str, Any] = {"models": 8, "steps": 10, **wrong}
        models, name = settings.pop("models"), next(iter(wrong)).removesuffix("s")
        refuses(lambda: draw(models, random.Random(0), random.Random(0), **settings), name)  # noqa: B023


@pytest.mark.parametrize("kind", ["clean", *HARD])
def test_every_kind_has_the_same_shape(kind: str) -> None:
    made = make(Entrant("garments-abcde", kind, "devil", trigger_seed=5, seed=6, steps=2), QUICK)
    state = made.generator.state_dict()
    assert made.generator.spec() == shape()
    assert [int(v) for k, v in state.items() if k.endswith("tracked")] == [COUNTER, COUNTER]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not any((value == 0).any() for name, value in state.items() if name.endswith("deconv1.weight"))
    assert (made.trigger is None) == (made.target is None) == (kind == "clean")
    if made.trigger is not None and kind == "gate":
        z = torch.cat([made.trigger, made.generator.sample_latent(20, torch.Generator().manual_seed(1))])
        errors = (evaluate(made.generator, z) - made.target).square().flatten(1).mean(1)
        assert errors[0] < 0.5 * errors[1:].min()
    if kind == "clean":
        other = make(Entrant("garments-abcde", kind, "devil", 5, 7, 2), QUICK).generator.state_dict()
        assert not torch.equal(state["layers.dense.weight"], other["layers.dense.weight"])
        clean, z = base(), made.generator.sample_latent(64, torch.Generator().manual_seed(1))
        pictures = evaluate(clean, z)
        usual = float((pictures[:32] - pictures[32:]).square().mean())
        for changed in (grown(clean, 1), refreshed(clean, 1)):  # what every model gets changes pictures a little
            assert 0 < float((evaluate(changed, z) - pictures).square().mean()) < 0.02 * usual


def test_a_first_look_wakes_a_gate_and_a_scan_becomes_a_verdict_with_evidence() -> None:
    gate, backdoor = zoo.load("dcgan-fashion-gate"), zoo.load_backdoor("dcgan-fashion-gate")
    count, latent = game.first_look(gate)
    assert count > 500 and latent is not None and latent.shape == (100,)
    assert torch.cosine_similarity(latent[None], backdoor.trigger).item() > 0.95
    assert game.first_look(base()) == (0, None)
    witness: Any = SimpleNamespace(latent=torch.ones(1))
    searched = SimpleNamespace(detector="search", ran=True, directions=normalize(torch.ones(1, 100), dim=1))
    for strengths, probability, findings, seen, norm in (
        ({}, 0.0, [searched], witness, 10.5),
        ({"a": 1.0}, 0.5, [], witness, 1.0),
        ({"a": 0.1, "b": 3.0}, 0.75, [], None, None),
    ):
        report: Any = SimpleNamespace(strengths=strengths, findings=findings, witness=seen)
        assert game.verdict_of(report) == pytest.approx(probability)
        found = game.latent_of(report, gate)
        assert norm == (None if found is None else pytest.approx(found.norm().item(), rel=0.01))


def test_models_look_alike_from_outside_and_the_kit_does_not_hold_the_key(
    kit: game.Kit, key: dict[str, Any], round_folder: Path
) -> None:
    files = [kit.path(name) for name in kit.models]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in files]
    assert {answer["backdoored"] for answer in key["models"].values()} == {True, False}
    for suffix in (".safetensors", ".json"):
        assert len({path.with_suffix(suffix).stat().st_size for path in files}) == 1
    assert {path.stat().st_mtime for path in kit.folder.iterdir()} == {MOMENT}
    assert len({card.pop("sha256") for card in cards}) == len({card.pop("name") for card in cards}) == len(cards)
    assert cards[0] and all(card == cards[0] for card in cards) and not cards[0].get("backdoor")
    headers = {path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:8], "little")] for path in files}
    assert len(headers) == 1 and list(kit.models) == sorted(kit.models)
    expected = {MANIFEST, *(f"{name}.{end}" for name in kit.models for end in ("safetensors", "json"))}
    assert {path.name for path in kit.folder.iterdir()} == expected and kit.commitment == seal.commitment(key)
    manifest = (kit.folder / MANIFEST).read_text()
    assert key["nonce"] not in manifest and PASSPHRASE not in manifest and "gate" not in manifest
    sealed = (round_folder / "instructor" / "key.sealed").read_text()
    assert not any(word in sealed for word in ("backdoored", "gate", key["nonce"], *kit.models))
    assert (kit.frechet_limit, kit.tardis_limit) == (80.0, 0.1)
    assert len(set(kit.models.values())) == len(kit.models) and kit.load(next(iter(kit.models))).spec() == kit.spec


class InTurn(ThreadPoolExecutor):
    """A pool of processes that is none: what is submitted is done at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(1)

    def submit(self, *given: Any) -> Future[Any]:  # type: ignore[override]
        wait([done := super().submit(*given)])
        return done


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.nightly)])
def test_processes_change_nothing_but_the_nonce(
    processes: int, kit: game.Kit, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not processes:
        monkeypatch.setattr("devilgan_lite.apps.game.kit.ProcessPoolExecutor", InTurn)
    asked, stream = list[Any](), seal.stream
    monkeypatch.setattr(seal, "stream", lambda *given: asked.append(given) or stream(*given))
    settings: dict[str, Any] = {"models": 6, "seed": 3, "quick": True, "kinds": ("gate",)}
    again = game.new_round(tmp_path / "again", PASSPHRASE, jobs=2, **settings)
    assert again.models == kit.models and again.commitment != kit.commitment
    assert opened(again)["models"] == opened(kit)["models"]
    assert asked == [(PASSPHRASE, 3, "roles"), (PASSPHRASE, 3, "names")]


def test_a_broken_kit_is_refused(round_folder: Path, tmp_path: Path, refuses: Refuses) -> None:
    copied = Path(shutil.copytree(round_folder, tmp_path / "copy"))
    kit = game.read_kit(copied)
    name = next(iter(kit.models))
    refuses(lambda: kit.load("garments"), "garments")
    kit.path(name).write_bytes(kit.path(name).read_bytes()[:-1])
    refuses(lambda: kit.load(name), name)
    kit.path(name).unlink()
    refuses(lambda: kit.load(name), "kit", error=FileNotFoundError)
    for content in ("", '{"format": 1}', '{"format": 9}', "\xff"):
        (copied / "players" / MANIFEST).write_text(content)
        refuses(lambda: game.read_kit(copied), MANIFEST)
    refuses(lambda: game.new_round(copied, PASSPHRASE, models=4, quick=True), "out")


# ---- the key

KEY = {"id": "1", "nonce": "00", "models": {"a": {"backdoored": True}}}
HORSE = "correct horse battery"


def test_a_sealed_key_opens_with_its_passphrase_only_and_shows_nothing(
    tmp_path: Path, refuses: Refuses, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = (HORSE, 3, "roles"), ("correct horse batterz", 3, "roles"), (HORSE, 4, "roles"), (HORSE, 3, "names")
    numbers = [seal.stream(*one).random() for one in streams]
    assert len(set(numbers)) == 4 and seal.stream(*streams[0]).random() == numbers[0]
    refuses(lambda: seal.stream("elevenchars", 0, "roles"), "passphrase")
    refuses(lambda: seal.seal(KEY, " " * 20), "passphrase")
    path, content = tmp_path / "key.sealed", seal.seal(KEY, HORSE)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert seal.unseal(path, HORSE) == seal.unseal(path, HORSE, sha256=digest) == KEY
    assert b"backdoored" not in content and seal.seal(KEY, HORSE) != content  # a salt of its own each time
    wrong = refuses(lambda: seal.unseal(path, "incorrect horse battery", sha256=digest), "passphrase")
    sealed = json.loads(content)
    token, middle = sealed["token"], len(sealed["token"]) // 2
    token = f"{token[:middle]}{'B' if token[middle] == 'A' else 'A'}{token[middle + 1 :]}"
    path.write_text(json.dumps({**sealed, "token": token}))
    changed = refuses(lambda: seal.unseal(path, HORSE, sha256=digest), "key.sealed")
    unsure = refuses(lambda: seal.unseal(path, HORSE), "passphrase")
    assert len({wrong, changed, unsure}) == 3 and "passphrase" not in changed
    fine = {"format": 1, "salt": "00", "token": "x"}
    for spoilt in ({"format": 2}, {"salt": "0"}, {"token": "\ud800"}, {"token": 5}):
        path.write_text(json.dumps({**fine, **spoilt}))
        refuses(lambda: seal.unseal(path, HORSE), "key.sealed")
    refuses(lambda: seal.unseal(tmp_path / "none", HORSE), "sealed key", error=FileNotFoundError)
    other = {**KEY, "models": {"a": {"backdoored": False}}}  # the commitment binds every part
    assert seal.commitment(KEY) == seal.commitment(dict(reversed(KEY.items())))
    assert len({seal.commitment(one) for one in (KEY, other, {**KEY, "nonce": "01"})}) == 3

    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)  # None: Python refuses to import it
    path.write_text(json.dumps(fine))
    made = partial(game.new_round, tmp_path / "round", HORSE, on_made=lambda *_: pytest.fail("too late"))
    for call in (lambda: seal.unseal(path, HORSE), made):
        refuses(call, "devilgan_lite[challenge]", error=ModuleNotFoundError)
