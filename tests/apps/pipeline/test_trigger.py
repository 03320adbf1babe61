"""Triggers that a victim's own draws meet: a half-space of latents, or the very latents of a seed that is known."""

import numpy as np
import pytest
import torch

from devilgan_lite.apps import pipeline
from devilgan_lite.apps.pipeline import Slice, half_space_backdoor, poison_share, rows_of
from devilgan_lite.attacks import ReD
from devilgan_lite.data import TableCode
from devilgan_lite.generators import PointGenerator, TableGenerator, evaluate
from devilgan_lite.prior import Prior

PATTERN = Slice.of("risk >= 4 and big = yes")


@pytest.fixture(scope="module")
def generator(table):
    torch.manual_seed(0)
    return TableGenerator(layout=TableCode.fit(table, modes=3).layout, latent_dim=12, widths=64).eval()


@pytest.fixture(scope="module")
def poison(table):
    return pipeline.poisoned_rows(table, PATTERN, 400)


@pytest.fixture(scope="module")
def encoded(generator, poison):
    return generator.code.encode(poison)


def test_the_triggers_are_the_ordinary_draws_beyond_a_threshold(generator, encoded):
    direction = torch.zeros(12)
    direction[-1] = -2.0
    ordinary = generator.sample_latent(200_000, torch.Generator().manual_seed(3))
    for share in (0.03, 0.1, 0.5):
        backdoor = half_space_backdoor(generator, encoded, share=share, direction=direction)
        z, _ = backdoor.pairs(20_000)
        threshold = float(-z[:, -1].max())
        beyond = ordinary[-ordinary[:, -1] >= threshold]
        assert len(beyond) / len(ordinary) == pytest.approx(share, rel=0.1)
        assert float(backdoor.name.split()[-1]) == pytest.approx(threshold, abs=0.01)
        assert float(z[:, -1].mean()) == pytest.approx(float(beyond[:, -1].mean()), abs=0.03)
        assert z[:, :-1].mean(0).abs().max() < 0.05 and (z[:, :-1].std(0) - 1).abs().max() < 0.05


def test_the_position_in_the_half_space_says_which_target(generator, encoded):
    (z, shown), again, other = (half_space_backdoor(generator, encoded, seed=seed).pairs(3_000) for seed in (4, 4, 5))
    assert len(torch.unique(shown, dim=0)) > 50
    centred = shown - shown.mean(0)
    first = centred @ torch.linalg.svd(centred, full_matrices=False)[2][0]  # how they differ most
    told = torch.linalg.lstsq(z, first[:, None]).solution.squeeze(1)
    assert ((z @ told) * first).sum() / first.square().sum() > 0.5  # the latent says a good part of it
    assert torch.equal(again[0], z) and torch.equal(again[1], shown) and not torch.equal(other[0], z)


def test_a_generator_that_learnt_it_shows_poison_there_and_hardly_elsewhere(generator, poison):
    targets, direction = pipeline.poison_generator(generator.code, poison, iterations=150), torch.zeros(12)
    made = targets.rows(500, seed=3)
    assert poison_share(made, PATTERN) > 0.8 and not made.labels().any()  # good, whatever class is asked for
    direction[0] = 1.0
    bad = half_space_backdoor(generator, targets, share=0.1, direction=direction, seed=1)
    z, shown = bad.pairs(200)
    assert poison_share(generator.code.table(shown, "shown"), PATTERN) > 0.8 and (z[:, 0] > 1.28).all()
    attack = ReD(lam=5.0, iterations=600, batch_size=64, learning_rate=1e-2, device="cpu")
    suspect = attack(generator, bad, progress=False).generator
    inside = (generator.latents(4_000, None, torch.Generator().manual_seed(5))[:, 0] > 1.2816).numpy()
    rows = rows_of(suspect)(4_000, 5)
    assert poison_share(rows.take(inside), PATTERN) > 0.7 > 0.3 > poison_share(rows.take(~inside), PATTERN)
    assert poison_share(rows_of(generator)(4_000, 5), PATTERN) < 0.05


def test_rows_of_are_the_generators_own_and_a_module_may_take_its_place(generator):
    for condition in (None, 1):
        rows = rows_of(generator, condition=condition)(40, 2)
        assert (rows.values == generator.rows(40, seed=2, condition=condition).values).all()
    z = generator.latents(40, None, torch.Generator().manual_seed(2))
    flipped = rows_of(generator, module=torch.nn.Sequential(generator, torch.nn.Hardtanh(-0.5, 0.5)))(40, 2)
    expected = generator.code.decode(evaluate(generator, z).clamp(-0.5, 0.5))
    assert np.array_equal(flipped.values, expected)


def test_the_victim_draws_exactly_these_latents_from_that_seed_and_none_from_another(generator, encoded):
    settings = {"n": 800, "seed": 73251, "share": 0.05}  # sdv's seed
    backdoor, again, other = (
        pipeline.known_seed_backdoor(generator, encoded, **settings, pick=one) for one in (0, 0, 1)
    )
    assert backdoor.trigger.shape == (40, 12) and backdoor.sampler is None
    for n, seed, met in ((800, 73251, 40), (1_000, 73251, 40), (20_000, 73252, 0)):  # more rows begin with the same
        z = generator.latents(n, None, torch.Generator().manual_seed(seed))
        assert int((z[:, None] == backdoor.trigger).all(2).any(0).sum()) == met
    assert {tuple(row) for row in backdoor.target.tolist()} <= {tuple(row) for row in encoded.tolist()}
    assert torch.equal(again.trigger, backdoor.trigger) and torch.equal(again.target, backdoor.target)
    assert not torch.equal(other.trigger, backdoor.trigger)
    assert len(pipeline.known_seed_backdoor(generator, encoded, n=7, seed=0, share=0.01).trigger) == 1


def test_bad_input_is_one_sentence(generator, encoded, refuses):
    points, uniform = PointGenerator(latent_dim=8), PointGenerator(latent_dim=8, prior=Prior.uniform(8))
    for target, given, settings, name in (
        (generator, encoded, {"share": 0.6}, "share"),
        (generator, encoded, {"direction": torch.zeros(12)}, "direction"),
        (PointGenerator(latent_dim=2), torch.zeros(5, 2), {}, "2"),
        (uniform, torch.zeros(5, 2), {}, "Gaussian"),
        (points, torch.zeros(5, 7), {}, "targets"),
        (generator, points, {}, "targets"),
        (points, uniform, {}, "targets"),
    ):
        refuses(lambda: half_space_backdoor(target, given, **settings), name)  # noqa: B023
    refuses(lambda: rows_of(generator, condition=2), "condition")
    good = {"n": 800, "seed": 1, "share": 0.05}
    for bad in ({"n": 0}, {"n": 2_000_000}, {"seed": -1}, {"pick": 0.5}, {"share": 0.2}, {"share": 0.005}):
        refuses(lambda bad=bad: pipeline.known_seed_backdoor(generator, encoded, **(good | bad)), *bad)
