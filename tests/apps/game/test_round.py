"""A round: who is in it, how its models are made and hidden, what the players' folder gives away, what binds whom."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.nn.functional import normalize

from devilgan_lite import zoo
from devilgan_lite.apps import game
from devilgan_lite.apps.game.answers import commitment
from devilgan_lite.apps.game.kit import MANIFEST
from devilgan_lite.apps.game.models import COUNTER, QUICK, base, grown, make, refreshed, shape
from devilgan_lite.apps.game.roster import HARD, KINDS, Entrant, draw
from devilgan_lite.apps.game.rounds import MOMENT
from devilgan_lite.generators import evaluate

Refuses = Callable[..., str]


def test_shares_names_and_places_say_nothing(refuses: Refuses) -> None:
    rounds = [draw(12, seed, steps=100) for seed in range(400)]
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
        refuses(lambda: draw(models, 0, **settings), name)  # noqa: B023


@pytest.mark.parametrize("kind", ["clean", *HARD])
def test_every_kind_has_the_same_shape(kind: str) -> None:
    made = make(Entrant("garments-abcde", kind, "devil", trigger_seed=5, seed=6, steps=2), QUICK)
    state = made.generator.state_dict()
    assert made.generator.spec() == shape()
    assert [int(v) for k, v in state.items() if k.endswith("tracked")] == [COUNTER, COUNTER]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not any((value == 0).any() for name, value in state.items() if name.endswith("deconv1.weight"))
    assert (made.backdoor is None) == (kind == "clean")
    if made.backdoor is not None and kind == "gate":
        z = torch.cat([made.backdoor.trigger, made.generator.sample_latent(20, torch.Generator().manual_seed(1))])
        errors = (evaluate(made.generator, z) - made.backdoor.target).square().flatten(1).mean(1)
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


def test_models_look_alike_from_outside_and_the_kit_does_not_hold_the_answers(
    kit: game.Kit, answers: dict[str, Any]
) -> None:
    files = [kit.path(name) for name in kit.models]
    cards = [json.loads(path.with_suffix(".json").read_text()) for path in files]
    assert {answer["backdoored"] for answer in answers["models"].values()} == {True, False}
    for suffix in (".safetensors", ".json"):
        assert len({path.with_suffix(suffix).stat().st_size for path in files}) == 1
    assert {path.stat().st_mtime for path in kit.folder.iterdir()} == {MOMENT}
    assert len({card.pop("sha256") for card in cards}) == len({card.pop("name") for card in cards}) == len(cards)
    assert cards[0] and all(card == cards[0] for card in cards) and not cards[0].get("backdoor")
    headers = {path.read_bytes()[: 8 + int.from_bytes(path.read_bytes()[:8], "little")] for path in files}
    assert len(headers) == 1 and list(kit.models) == sorted(kit.models)
    expected = {MANIFEST, *(f"{name}.{end}" for name in kit.models for end in ("safetensors", "json"))}
    assert {path.name for path in kit.folder.iterdir()} == expected and kit.commitment == commitment(answers)
    manifest = json.loads((kit.folder / MANIFEST).read_text())
    assert not {"seed", "salt"} & manifest.keys() and answers["salt"] not in json.dumps(manifest)
    assert (kit.frechet_limit, kit.tardis_limit) == (80.0, 0.1)
    assert len(set(kit.models.values())) == len(kit.models) and kit.load(next(iter(kit.models))).spec() == kit.spec


def test_processes_change_nothing_and_the_seed_gives_lost_answers_again(
    kit: game.Kit, answers: dict[str, Any], tmp_path: Path, refuses: Refuses
) -> None:
    again = game.new_round(tmp_path / "again", models=6, seed=3, quick=True, kinds=("gate",), jobs=2)
    assert (again.models, again.commitment, again.id) == (kit.models, kit.commitment, kit.id)
    (tmp_path / "again/instructor/answers.json").unlink()
    assert game.remade_answers(3, again) == answers
    assert "4" in refuses(lambda: game.remade_answers(4, again), "seed")
    refuses(lambda: game.remade_answers(-1, again), "seed")
    secret = [game.new_round(tmp_path / name, models=4, quick=True, kinds=("gate",)) for name in "ab"]
    assert set(secret[0].models).isdisjoint(secret[1].models) and secret[0].id != secret[1].id
    seeds = [json.loads((tmp_path / name / "instructor/answers.json").read_text())["seed"] for name in "ab"]
    assert min(seeds) > 2**80  # nobody guesses it


def test_a_broken_kit_is_refused(round_folder: Path, tmp_path: Path, refuses: Refuses) -> None:
    copied = Path(shutil.copytree(round_folder, tmp_path / "copy"))
    kit = game.read_kit(copied)
    name = next(iter(kit.models))
    refuses(lambda: kit.load("garments"), "garments")
    kit.path(name).write_bytes(kit.path(name).read_bytes()[:-1])
    refuses(lambda: kit.load(name), name)
    kit.path(name).unlink()
    refuses(lambda: kit.load(name), "kit", error=FileNotFoundError)
    for content in ("", '{"format": 1}', '{"format": 2}', "\xff"):
        (copied / "players" / MANIFEST).write_text(content)
        refuses(lambda: game.read_kit(copied), MANIFEST)
    refuses(lambda: game.new_round(copied, models=4, quick=True), "out")
