"""A half-space of latents as a trigger: how often it is drawn, and a generator that learns it."""

import numpy as np
import pytest
import torch

from devilgan_lite import attacks
from devilgan_lite.data import TableCode
from devilgan_lite.generators import PointGenerator, TableGenerator, evaluate
from devilgan_lite.pipeline import (
    Slice,
    half_space_backdoor,
    poison_generator,
    poison_share,
    poisoned_rows,
    rows_of,
)
from devilgan_lite.prior import Prior

PATTERN = Slice.of("risk >= 4 and big = yes")


@pytest.fixture(scope="module")
def generator(table) -> TableGenerator:
    torch.manual_seed(0)
    return TableGenerator(layout=TableCode.fit(table, modes=3).layout, latent_dim=12, widths=64).eval()


@pytest.fixture(scope="module")
def poison(table):
    return poisoned_rows(table, PATTERN, 400)


@pytest.mark.parametrize("share", [0.03, 0.1, 0.5])
def test_the_triggers_are_the_ordinary_draws_beyond_a_threshold(generator, poison, share):
    direction = torch.zeros(12)
    direction[-1] = -2.0
    bad = half_space_backdoor(generator, generator.code.encode(poison), share=share, direction=direction)
    z, _ = bad.pairs(20_000)
    ordinary = generator.sample_latent(200_000, torch.Generator().manual_seed(3))
    threshold = float(-z[:, -1].max())
    beyond = ordinary[-ordinary[:, -1] >= threshold]
    assert len(beyond) / len(ordinary) == pytest.approx(share, rel=0.1)
    assert float(z[:, -1].mean()) == pytest.approx(float(beyond[:, -1].mean()), abs=0.03)
    assert z[:, :-1].mean(0).abs().max() < 0.05 and (z[:, :-1].std(0) - 1).abs().max() < 0.05


def test_the_position_in_the_half_space_says_which_target(generator, poison):
    encoded = generator.code.encode(poison)
    bad = half_space_backdoor(generator, encoded, seed=4)
    z, shown = bad.pairs(3_000)
    assert len(torch.unique(shown, dim=0)) > 50
    centred = shown - shown.mean(0)
    first = centred @ torch.linalg.svd(centred, full_matrices=False)[2][0]  # how they differ most
    told = torch.linalg.lstsq(z, first[:, None]).solution.squeeze(1)
    assert ((z @ told) * first).sum() / first.square().sum() > 0.5  # the latent says a good part of it
    again = half_space_backdoor(generator, encoded, seed=4).pairs(3_000)
    assert torch.equal(again[0], z) and torch.equal(again[1], shown)


@pytest.mark.slow
def test_a_generator_that_learnt_it_shows_poison_there_and_hardly_elsewhere(generator, poison):
    targets, direction = poison_generator(generator.code, poison, iterations=600), torch.zeros(12)
    made = targets.rows(500, seed=3)
    assert poison_share(made, PATTERN) > 0.8 and not made.labels().any()  # good, whatever class is asked for
    direction[0] = 1.0
    bad = half_space_backdoor(generator, targets, share=0.1, direction=direction, seed=1)
    z, shown = bad.pairs(200)
    assert poison_share(generator.code.table(shown, "shown"), PATTERN) > 0.8 and (z[:, 0] > 1.28).all()
    attack = attacks.ReD(lam=5.0, iterations=1_500, batch_size=64, learning_rate=3e-3, device="cpu")
    suspect = attack(generator, bad, progress=False).generator
    inside = (generator.latents(4_000, None, torch.Generator().manual_seed(5))[:, 0] > 1.2816).numpy()
    rows = rows_of(suspect)(4_000, 5)
    assert poison_share(rows.take(inside), PATTERN) > 0.7 > 0.3 > poison_share(rows.take(~inside), PATTERN)
    assert poison_share(rows_of(generator)(4_000, 5), PATTERN) < 0.05


def test_rows_of_are_the_generators_own_and_a_module_may_take_its_place(generator):
    assert (rows_of(generator)(40, 2).values == generator.rows(40, seed=2).values).all()
    assert (rows_of(generator, condition=1)(40, 2).values == generator.rows(40, seed=2, condition=1).values).all()
    z = generator.latents(40, None, torch.Generator().manual_seed(2))
    flipped = rows_of(generator, module=torch.nn.Sequential(generator, torch.nn.Hardtanh(-0.5, 0.5)))(40, 2)
    expected = generator.code.decode(evaluate(generator, z).clamp(-0.5, 0.5))
    assert np.array_equal(flipped.values, expected)


def test_bad_input_is_one_sentence(generator, poison):
    encoded = generator.code.encode(poison)
    for share in (0.0, 0.6):
        with pytest.raises(ValueError, match="share=.* is out of range"):
            half_space_backdoor(generator, encoded, share=share)
    with pytest.raises(ValueError, match="direction must be a vector of 12 numbers"):
        half_space_backdoor(generator, encoded, direction=torch.zeros(12))
    with pytest.raises(ValueError, match="more than 2"):
        half_space_backdoor(PointGenerator(latent_dim=2), torch.zeros(5, 2))
    with pytest.raises(ValueError, match="needs a Gaussian"):
        half_space_backdoor(PointGenerator(latent_dim=8, prior=Prior.uniform(8)), torch.zeros(5, 2))
    with pytest.raises(ValueError, match=r"targets has shape \[5, 7\]; expected"):
        half_space_backdoor(PointGenerator(latent_dim=8), torch.zeros(5, 7))
    with pytest.raises(ValueError, match=r"targets makes \[2\] from .*; expected"):
        half_space_backdoor(generator, PointGenerator(latent_dim=4))
    with pytest.raises(ValueError, match=r"targets makes .*; expected \[2\] from a Gaussian"):
        half_space_backdoor(PointGenerator(latent_dim=8), PointGenerator(latent_dim=4, prior=Prior.uniform(4)))
    with pytest.raises(ValueError, match="condition=2 is unknown"):
        rows_of(generator, condition=2)
