"""Who is in a round: drawn from the stream, shares within bounds, names that say nothing."""

import random

import pytest

from devilgan_lite.challenge import seal
from devilgan_lite.challenge.roster import KINDS, draw


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
