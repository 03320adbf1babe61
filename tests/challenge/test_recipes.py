"""Who is in a round: drawn from the stream, shares within bounds, names that say nothing."""

from __future__ import annotations

import random

import pytest

from devilgan_lite.challenge import seal
from devilgan_lite.challenge.recipes import KINDS, draw


def drawn(seed: int = 0, models: int = 12, passphrase: str = "correct horse battery") -> list:  # type: ignore[type-arg]
    streams = [seal.stream(passphrase, seed, purpose) for purpose in ("roles", "names")]
    return draw(models, *streams, steps=100)


def test_the_same_stream_gives_the_same_round_and_another_passphrase_another() -> None:
    assert drawn() == drawn()
    ours, theirs = drawn(), drawn(passphrase="battery horse correct")
    assert {recipe.name for recipe in ours}.isdisjoint(recipe.name for recipe in theirs)
    assert [recipe.seed for recipe in ours] != [recipe.seed for recipe in theirs]


def test_shares_and_names() -> None:
    counts = set()
    for seed in range(30):
        recipes = draw(12, random.Random(seed), random.Random(seed), steps=100)
        guilty = [recipe for recipe in recipes if recipe.kind != "clean"]
        counts.add(len(guilty))
        assert 4 <= len(guilty) <= 8 and {recipe.kind for recipe in guilty} == set(KINDS)
        assert len({recipe.name for recipe in recipes}) == 12
        assert len({len(recipe.name) for recipe in recipes}) == 1
        assert all(70 <= recipe.steps <= 130 for recipe in recipes)
        assert len({recipe.seed for recipe in recipes}) == 12
    assert len(counts) > 2  # the number of backdoored ones is not known beforehand


def test_neither_place_nor_name_says_what_a_model_is() -> None:
    rounds = [draw(12, random.Random(f"r{seed}"), random.Random(f"n{seed}"), steps=9) for seed in range(400)]
    for place in range(12):
        share = sum(recipes[place].kind != "clean" for recipes in rounds) / len(rounds)
        assert abs(share - 0.5) < 0.1  # four standard deviations
        by_name = [sorted(recipes, key=lambda recipe: recipe.name)[place] for recipes in rounds]
        assert abs(sum(recipe.kind != "clean" for recipe in by_name) / len(rounds) - 0.5) < 0.1


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
