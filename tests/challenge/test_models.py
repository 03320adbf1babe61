"""All models of a round have one shape and one counter, whatever they are, and a gate draws its target."""

import pytest
import torch

from devilgan_lite.challenge.models import COUNTER, QUICK, base, grown, make, refreshed, shape
from devilgan_lite.challenge.roster import HARD, Entrant
from devilgan_lite.generators import evaluate


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
