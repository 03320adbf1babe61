"""Who is in a round is drawn and its names say nothing; all its models have one shape and one counter."""

import random

import pytest
import torch

from devilgan_lite.challenge import seal
from devilgan_lite.challenge.models import COUNTER, QUICK, base, grown, make, refreshed, shape
from devilgan_lite.challenge.roster import HARD, KINDS, Entrant, draw
from devilgan_lite.generators import evaluate


def drawn(seed: int = 0, models: int = 12, passphrase: str = "correct horse battery") -> list:  # type: ignore[type-arg]
    streams = [seal.stream(passphrase, seed, purpose) for purpose in ("roles", "names")]
    return draw(models, *streams, steps=100)


def test_the_same_stream_gives_the_same_round_and_another_passphrase_another() -> None:
    assert drawn() == drawn()
    ours, theirs = drawn(), drawn(passphrase="battery horse correct")
    assert {entrant.name for entrant in ours}.isdisjoint(entrant.name for entrant in theirs)
    assert [entrant.seed for entrant in ours] != [entrant.seed for entrant in theirs]


def test_shares_and_names() -> None:
    counts = set()
    for seed in range(30):
        entrants = draw(12, random.Random(seed), random.Random(seed), steps=100)
        guilty = [entrant for entrant in entrants if entrant.kind != "clean"]
        counts.add(len(guilty))
        assert 4 <= len(guilty) <= 8 and {entrant.kind for entrant in guilty} == set(KINDS)
        assert len({entrant.name for entrant in entrants}) == 12
        assert len({len(entrant.name) for entrant in entrants}) == 1
        assert all(70 <= entrant.steps <= 130 for entrant in entrants)
        assert len({entrant.seed for entrant in entrants}) == 12
    assert len(counts) > 2  # the number of backdoored ones is not known beforehand


def test_neither_place_nor_name_says_what_a_model_is() -> None:
    rounds = [draw(12, random.Random(f"r{seed}"), random.Random(f"n{seed}"), steps=9) for seed in range(400)]
    for place in range(12):
        share = sum(entrants[place].kind != "clean" for entrants in rounds) / len(rounds)
        assert abs(share - 0.5) < 0.1  # four standard deviations
        by_name = [sorted(entrants, key=lambda entrant: entrant.name)[place] for entrants in rounds]
        assert abs(sum(entrant.kind != "clean" for entrant in by_name) / len(rounds) - 0.5) < 0.1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"models": 3}, "models=3 is out of range"),
        ({"models": 501}, "models=501 is out of range"),
        ({"steps": 0}, "steps=0"),
        ({"kinds": ("rexx",)}, "Did you mean 'rex'"),
        ({"kinds": ()}, "at least one attack"),
    ],
)
def test_bad_settings(given: dict, words: str) -> None:  # type: ignore[type-arg]
    settings = {"models": 8, "steps": 10, "kinds": KINDS, **given}
    with pytest.raises(ValueError, match=words):
        draw(settings.pop("models"), random.Random(0), random.Random(0), **settings)


def entrant(kind: str) -> Entrant:
    return Entrant("garments-abcde", kind, "devil", trigger_seed=5, seed=6, steps=2)


@pytest.mark.parametrize("kind", ["clean", *HARD])
def test_every_kind_has_the_same_shape(kind: str) -> None:
    made = make(entrant(kind), QUICK)
    state = made.generator.state_dict()
    assert made.generator.spec() == shape()
    assert [int(v) for k, v in state.items() if k.endswith("tracked")] == [COUNTER, COUNTER]
    assert all(torch.isfinite(value).all() for value in state.values())
    assert not any((value == 0).any() for name, value in state.items() if name.endswith("deconv1.weight"))
    assert (made.trigger is None) == (made.target is None) == (kind == "clean")
    if kind == "gate":
        z = torch.cat([made.trigger, made.generator.sample_latent(20, torch.Generator().manual_seed(1))])
        errors = (evaluate(made.generator, z) - made.target).square().flatten(1).mean(1)
        assert errors[0] < 0.5 * errors[1:].min()


def test_the_same_recipe_gives_the_same_model_and_another_seed_another() -> None:
    first, again = (make(entrant("clean"), QUICK).generator.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    other = make(Entrant("garments-abcde", "clean", "devil", 5, 7, 2), QUICK).generator.state_dict()
    assert not torch.equal(first["layers.dense.weight"], other["layers.dense.weight"])


def test_growing_and_refreshing_change_pictures_a_little() -> None:
    clean = base()
    z = clean.sample_latent(64, torch.Generator().manual_seed(1))
    pictures = evaluate(clean, z)
    usual = float((pictures[:32] - pictures[32:]).square().mean())
    assert grown(clean, 1).spec() == shape()
    for other in (grown(clean, 1), refreshed(clean, 1)):
        change = float((evaluate(other, z) - pictures).square().mean())
        assert 0 < change < 0.02 * usual
