"""A round: who is in it, how its models are made and hidden, what the players' folder and the sealed key give away."""

import contextlib
import hashlib
import json
import random
import sys
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from devilgan_lite import challenge, zoo
from devilgan_lite.challenge import seal
from devilgan_lite.challenge.kit import MANIFEST, MOMENT
from devilgan_lite.challenge.models import COUNTER, QUICK, base, grown, make, refreshed, shape
from devilgan_lite.challenge.roster import HARD, KINDS, Entrant, draw
from devilgan_lite.generators import evaluate

PASSPHRASE = "a passphrase for tests"  # of the round in conftest
QUICKLY: dict[str, Any] = {"models": 4, "quick": True, "kinds": ("gate",)}
Refuses = Callable[..., str]

# ---- who is in it


def drawn(seed: int = 0, passphrase: str = PASSPHRASE) -> list[Entrant]:
    return draw(12, *(seal.stream(passphrase, seed, purpose) for purpose in ("roles", "names")), steps=100)


def test_shares_names_and_places_say_nothing_and_hang_on_seed_and_passphrase(refuses: Refuses) -> None:
    assert drawn() == drawn()
    for other in (drawn(passphrase="battery horse correct"), drawn(seed=1)):
        assert {entrant.name for entrant in drawn()}.isdisjoint(entrant.name for entrant in other)
        assert [entrant.seed for entrant in drawn()] != [entrant.seed for entrant in other]
    rounds = [draw(12, random.Random(f"r{seed}"), random.Random(f"n{seed}"), steps=100) for seed in range(400)]
    counts = set()
    for entrants in rounds[:30]:
        guilty = [entrant for entrant in entrants if entrant.kind != "clean"]
        counts.add(len(guilty))
        assert 4 <= len(guilty) <= 8 and {entrant.kind for entrant in guilty} == set(KINDS)
        assert len({entrant.name for entrant in entrants}) == len({entrant.seed for entrant in entrants}) == 12
        assert len({len(entrant.name) for entrant in entrants}) == 1
        assert all(70 <= entrant.steps <= 130 for entrant in entrants)
    assert len(counts) > 2  # the number of backdoored ones is not known beforehand
    for place in range(12):
        named = [sorted(entrants, key=lambda entrant: entrant.name) for entrants in rounds]
        for ordered in (rounds, named):
            share = sum(entrants[place].kind != "clean" for entrants in ordered) / len(rounds)
            assert abs(share - 0.5) < 0.1  # four standard deviations
    for wrong in ({"models": 3}, {"models": 501}, {"steps": 0}, {"kinds": ("rexx",)}, {"kinds": ()}):
        settings: dict[str, Any] = {"models": 8, "steps": 10, **wrong}
        models, name = settings.pop("models"), next(iter(wrong)).removesuffix("s")
        refuses(lambda: draw(models, random.Random(0), random.Random(0), **settings), name)  # noqa: B023


# ---- its models


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
    if kind == "clean":  # the same recipe gives the same model and another seed another
        again, other = (
            make(Entrant("garments-abcde", kind, "devil", 5, seed, 2), QUICK).generator.state_dict() for seed in (6, 7)
        )
        assert all(torch.equal(state[name], again[name]) for name in state)
        assert not torch.equal(state["layers.dense.weight"], other["layers.dense.weight"])


def test_growing_and_refreshing_change_pictures_a_little() -> None:
    clean = base()
    z = clean.sample_latent(64, torch.Generator().manual_seed(1))
    pictures = evaluate(clean, z)
    usual = float((pictures[:32] - pictures[32:]).square().mean())
    assert grown(clean, 1).spec() == shape()
    for other in (grown(clean, 1), refreshed(clean, 1)):
        change = float((evaluate(other, z) - pictures).square().mean())
        assert 0 < change < 0.02 * usual


def test_your_own_model_hides_in_a_round_and_keeps_its_backdoor(tmp_path: Path, refuses: Refuses) -> None:
    made = []
    for name in ("red", "gate"):
        suspect, backdoor = zoo.load(f"dcgan-fashion-{name}"), zoo.load_backdoor(f"dcgan-fashion-{name}")
        made.append(challenge.hidden(f"your {name}", suspect, backdoor, seed=2))
        assert made[-1].generator.spec() == shape()
        assert (evaluate(made[-1].generator, backdoor.trigger) - backdoor.target).square().mean() < 0.1, name
    kit = challenge.new_round(tmp_path / "round", PASSPHRASE, **QUICKLY, seed=5, red=made)
    key = challenge.open_key(kit, tmp_path / "round/instructor/key.sealed", PASSPHRASE)
    assert sorted(answer["team"] for answer in key["models"].values() if answer["team"]) == ["your gate", "your red"]
    assert len({kit.path(name).stat().st_size for name in kit.models}) == 1
    rex = zoo.load("dcgan-fashion-rex")
    refuses(lambda: challenge.hidden("your rex", rex, zoo.load_backdoor("dcgan-fashion-rex")), "your rex", "widths")


# ---- a first look at them


def test_a_first_look_wakes_a_gate_and_a_scan_becomes_a_verdict_with_evidence() -> None:
    gate, backdoor = zoo.load("dcgan-fashion-gate"), zoo.load_backdoor("dcgan-fashion-gate")
    count, latent = challenge.first_look(gate)
    assert count > 500 and latent is not None and latent.shape == (100,)
    assert torch.cosine_similarity(latent[None], backdoor.trigger).item() > 0.95
    assert challenge.first_look(base()) == (0, None)
    report: Any
    for strengths, probability in (({}, 0.0), ({"a": 1.0}, 0.5), ({"a": 0.1, "b": 3.0}, 0.75)):
        report = SimpleNamespace(strengths=strengths)
        assert challenge.verdict_of(report) == pytest.approx(probability)
    direction, witness = torch.nn.functional.normalize(torch.ones(1, 100), dim=1), SimpleNamespace(latent=torch.ones(1))
    searched = SimpleNamespace(detector="search", ran=True, directions=direction)
    for findings, seen, norm in (([searched], witness, 10.5), ([], witness, 1.0), ([], None, None)):
        report = SimpleNamespace(findings=findings, witness=seen)
        found = challenge.latent_of(report, gate)
        assert norm == (None if found is None else pytest.approx(found.norm().item(), rel=0.01))


# ---- the players' folder shows nothing but weights


def test_models_look_alike_from_outside_and_the_kit_does_not_hold_the_key(
    kit: challenge.Kit, key: dict[str, Any], round_folder: Path
) -> None:
    files = [kit.path(name) for name in kit.models]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in files]
    assert {answer["backdoored"] for answer in key["models"].values()} == {True, False}
    for suffix in (".safetensors", ".json"):
        assert len({path.with_suffix(suffix).stat().st_size for path in files}) == 1
    assert {path.stat().st_mtime for path in kit.folder.iterdir()} == {MOMENT}
    assert len({card.pop("sha256") for card in cards}) == len({card.pop("name") for card in cards}) == len(cards)
    assert cards[0] and all(card == cards[0] for card in cards)
    headers = {path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:8], "little")] for path in files}
    assert len(headers) == 1 and list(kit.models) == sorted(kit.models)
    expected = {MANIFEST, *(f"{name}.{end}" for name in kit.models for end in ("safetensors", "json"))}
    assert {path.name for path in kit.folder.iterdir()} == expected
    manifest = (kit.folder / MANIFEST).read_text()
    assert key["nonce"] not in manifest and PASSPHRASE not in manifest and "gate" not in manifest
    assert kit.commitment == seal.commitment(key)
    sealed = (round_folder / "instructor" / "key.sealed").read_text()
    assert not any(word in sealed for word in ("backdoored", "gate", key["nonce"], *kit.models))
    assert len(set(kit.models.values())) == len(kit.models)
    generator, card = zoo.load_file(files[0])
    assert generator.spec() == kit.spec and card.backdoor is None and card.metrics == {}


class InTurn(contextlib.nullcontext):  # type: ignore[type-arg]
    """A pool of processes that is none: what is submitted is done at once."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(self)

    def submit(self, call: Callable[..., Any], *given: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(call(*given))
        return done


def test_the_seed_alone_gives_another_round_and_jobs_change_nothing(
    kit: challenge.Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = challenge.new_round(tmp_path / "other", "another passphrase", **QUICKLY, seed=3)
    assert set(other.models).isdisjoint(kit.models) and set(other.models.values()).isdisjoint(kit.models.values())
    monkeypatch.setattr("devilgan_lite.challenge.kit.ProcessPoolExecutor", InTurn)  # real processes: every night
    again = challenge.new_round(tmp_path / "again", "another passphrase", **QUICKLY, seed=3, jobs=2)
    assert again.models == other.models and again.commitment != other.commitment
    first, second = (
        challenge.open_key(one, one.folder.parent / "instructor" / "key.sealed", "another passphrase")["models"]
        for one in (other, again)
    )
    assert first == second


@pytest.mark.nightly
def test_two_processes_make_the_same_models(tmp_path: Path) -> None:
    one, two = (challenge.new_round(tmp_path / f"{n}", PASSPHRASE, jobs=n, **QUICKLY, seed=1) for n in (1, 2))
    assert one.models == two.models


def test_a_broken_kit_is_refused(copied: Path, refuses: Refuses) -> None:
    kit = challenge.read_kit(copied)
    name = next(iter(kit.models))
    refuses(lambda: kit.load("garments"), "garments")
    kit.path(name).write_bytes(kit.path(name).read_bytes()[:-1])
    refuses(lambda: kit.load(name), name)
    kit.path(name).unlink()
    refuses(lambda: kit.load(name), "kit", error=FileNotFoundError)
    for content in ("", "[]", '{"format": 1}', '{"format": 9}', '{"format": 1, "more": 2}', "\xff"):
        (copied / "players" / MANIFEST).write_text(content)
        refuses(lambda: challenge.read_kit(copied), MANIFEST)
    refuses(lambda: challenge.new_round(copied, PASSPHRASE, **QUICKLY), "out")


# ---- the key

KEY = {"id": "1", "nonce": "00", "models": {"a": {"backdoored": True}}}
HORSE = "correct horse battery"


def test_a_sealed_key_opens_with_its_passphrase_only_and_shows_nothing(tmp_path: Path, refuses: Refuses) -> None:
    streams = (HORSE, 3, "roles"), ("correct horse batterz", 3, "roles"), (HORSE, 4, "roles"), (HORSE, 3, "names")
    numbers = [seal.stream(*one).random() for one in streams]
    assert len(set(numbers)) == 4 and seal.stream(*streams[0]).random() == numbers[0]
    for short in ("", "short", " " * 20, "elevenchars"):
        refuses(lambda short=short: seal.stream(short, 0, "roles"), "passphrase")
        refuses(lambda short=short: seal.seal(KEY, short), "passphrase")
    path, content = tmp_path / "key.sealed", seal.seal(KEY, HORSE)
    path.write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    assert seal.unseal(path, HORSE) == seal.unseal(path, HORSE, sha256=digest) == KEY
    assert b"backdoored" not in content and seal.seal(KEY, HORSE) != content  # a salt of its own each time
    wrong = refuses(lambda: seal.unseal(path, "incorrect horse battery", sha256=digest), "passphrase")
    sealed = json.loads(content)
    middle = len(sealed["token"]) // 2
    letter = "A" if sealed["token"][middle] != "A" else "B"
    sealed["token"] = sealed["token"][:middle] + letter + sealed["token"][middle + 1 :]
    path.write_text(json.dumps(sealed))
    changed = refuses(lambda: seal.unseal(path, HORSE, sha256=digest), "key.sealed")
    unsure = refuses(lambda: seal.unseal(path, HORSE), "passphrase")
    assert len({wrong, changed, unsure}) == 3 and "passphrase" not in changed
    for spoilt in (
        "",
        "[]",
        "{}",
        '{"format": 2, "salt": "00", "token": "x"}',
        '{"format": 1, "salt": "0", "token": "x"}',
        '{"format": 1, "salt": "00", "token": "\\ud800"}',
        "[" * 9999,
    ):
        path.write_text(spoilt)
        refuses(lambda: seal.unseal(path, HORSE), "key.sealed")
    refuses(lambda: seal.unseal(tmp_path / "none", HORSE), "sealed key", error=FileNotFoundError)
    other = {**KEY, "models": {"a": {"backdoored": False}}}  # the commitment binds every part
    assert seal.commitment(KEY) == seal.commitment(dict(reversed(KEY.items())))
    assert len({seal.commitment(one) for one in (KEY, other, {**KEY, "nonce": "01"})}) == 3


def test_without_cryptography_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refuses: Refuses
) -> None:
    (tmp_path / "key.sealed").write_text('{"format": 1, "salt": "00", "token": "x"}')
    monkeypatch.setitem(sys.modules, "cryptography.fernet", None)  # None: Python refuses to import it
    for call in (
        lambda: seal.seal(KEY, HORSE),
        lambda: seal.unseal(tmp_path / "key.sealed", HORSE),
        lambda: challenge.new_round(tmp_path / "round", HORSE, on_made=lambda *_: pytest.fail("too late")),
    ):
        refuses(call, "devilgan_lite[challenge]", error=ModuleNotFoundError)
    assert not (tmp_path / "round").exists()
