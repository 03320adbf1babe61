"""Training: the losses, the average, determinism, and that a resumed run equals one that was never disturbed."""

from typing import Any

import pytest
import torch

from devilgan_lite import Outcome, data, metrics, train_gan, training
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN, Generator, PointGenerator, Recipe
from devilgan_lite.steps import SIDES, TrainableSide, decay_second_half

SMALL = DCGAN(widths=(8, 4), latent_dim=10)
RING = data.ring(512)


def same_weights(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_the_rate_stays_and_then_falls_to_zero() -> None:
    assert [decay_second_half(iteration, 8) for iteration in (0, 4, 6, 8)] == [1, 1, 0.5, 0]


@pytest.mark.parametrize(
    ("generator", "real"), [(SMALL, None), (PointGenerator(widths=8), RING)], ids=["pictures", "points"]
)
def test_the_same_seed_gives_the_same_result(generator: Generator, real: Samples | None) -> None:
    real = real or data.fashion_mnist().first(128)

    def run(seed: int) -> Outcome:
        return train_gan(generator, real, iterations=10, batch_size=8, seed=seed, device="cpu", progress=False)

    first, same, other = run(1), run(1), run(2)
    assert first.history == same.history
    assert same_weights(first.generator, same.generator)
    assert first.history != other.history


def test_training_does_not_touch_the_callers_generator_or_the_global_random_state() -> None:
    generator = SMALL.clone().train()
    before, state = generator.clone(), torch.get_rng_state()
    train_gan(generator, data.fashion_mnist().first(64), iterations=2, batch_size=8, device="cpu", progress=False)
    assert same_weights(generator, before)
    assert generator.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_outcome_says_how_it_came_to_be() -> None:
    outcome = train_gan(
        SMALL, data.fashion_mnist().first(64), iterations=3, batch_size=8, seed=5, device="cpu", progress=False
    )
    assert not outcome.generator.training
    assert not outcome.interrupted
    assert outcome.seed == 5
    assert outcome.seconds > 0
    assert {name: len(values) for name, values in outcome.history.items()} == {
        "generator_loss": 3,
        "discriminator_loss": 3,
    }
    assert outcome.settings["iterations"] == 3
    assert outcome.settings["generator"] == SMALL.spec()
    assert all(parameter.requires_grad for parameter in outcome.generator.parameters())


def test_a_snapshot_is_a_generator_in_eval_mode_that_stays_as_it_is() -> None:
    loop = train_gan.steps(PointGenerator(), RING, iterations=4, batch_size=8, device="cpu")
    first = next(loop).snapshot()
    before = first.clone()
    step = next(loop)
    assert isinstance(first, PointGenerator)
    assert not first.training
    assert same_weights(first, before)
    assert not same_weights(first, step.snapshot())
    assert set(step.values()) == {"generator_loss", "discriminator_loss"}


@pytest.mark.parametrize("generator", [SMALL, PointGenerator(widths=8)], ids=["pictures", "points"])
def test_a_resumed_run_equals_an_undisturbed_one(generator: Generator) -> None:
    real = RING if isinstance(generator, PointGenerator) else data.fashion_mnist().first(128)
    settings = {"iterations": 12, "batch_size": 8, "seed": 3, "device": "cpu"}
    whole = train_gan(generator, real, **settings, progress=False)
    loop = train_gan.steps(generator, real, **settings)
    for _ in range(5):
        next(loop)
    part = loop.stop()
    assert part.interrupted
    resumed = train_gan(generator, real, **settings, resume=part, progress=False)
    assert not resumed.interrupted
    assert resumed.history == whole.history
    assert same_weights(resumed.generator, whole.generator)
    again = train_gan(generator, real, **settings, resume=part, progress=False)  # resuming used nothing up
    assert same_weights(again.generator, whole.generator)


def test_resuming_with_other_settings_lists_the_differences() -> None:
    part = train_gan.steps(PointGenerator(), RING, iterations=12, batch_size=16, device="cpu").stop()
    with pytest.raises(ValueError, match="other settings: batch_size, learning_rate differ"):
        train_gan.steps(
            PointGenerator(), RING, iterations=12, batch_size=8, learning_rate=1e-4, device="cpu", resume=part
        )
    with pytest.raises(ValueError, match="other settings: generator, data differ"):
        other = PointGenerator(widths=8)
        train_gan.steps(other, data.ring(64, modes=3), iterations=12, batch_size=16, device="cpu", resume=part)


def test_a_recipe_takes_the_place_of_the_usual_one() -> None:
    settings = {"iterations": 4, "batch_size": 8, "device": "cpu"}
    usual = train_gan(PointGenerator(), RING, **settings, progress=False)
    same = train_gan(PointGenerator(), RING, **settings, recipe=PointGenerator().recipe(), progress=False)
    penalised = Recipe(penalty=1.0, penalty_every=1)
    other = train_gan(PointGenerator(), RING, **settings, recipe=penalised, progress=False)
    assert usual.history == same.history != other.history
    assert other.settings["recipe"] == {"betas": (0.5, 0.999), "penalty": 1.0, "penalty_every": 1}
    for recipe in (None, Recipe(penalty=2.0, penalty_every=1)):
        with pytest.raises(ValueError, match="other settings: recipe differ"):
            train_gan.steps(PointGenerator(), RING, **settings, resume=other, recipe=recipe)


def test_the_average_is_a_running_average_of_weights_and_statistics() -> None:
    average, network = SMALL.clone(), DCGAN(widths=(8, 4), latent_dim=10)
    network(network.sample_latent(8))  # in training mode, so that the statistics differ too
    before = average.clone().state_dict()
    training.update_average(average, network, 0.9)
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            assert torch.allclose(value, 0.9 * before[name] + 0.1 * network.state_dict()[name], atol=1e-6), name


@pytest.mark.parametrize("ema", [0.0, 0.999])
def test_without_ema_the_outcome_has_the_last_weights(ema: float) -> None:
    outcome = train_gan(PointGenerator(), RING, iterations=5, batch_size=8, ema=ema, device="cpu", progress=False)
    last = outcome.state["states"][0]
    equal = all(torch.equal(value, last[name]) for name, value in outcome.generator.state_dict().items())
    assert equal == (ema == 0.0)


def test_a_short_training_comes_nearer_to_the_ring() -> None:
    def distance(generator: Generator) -> float:
        return metrics.neighbourhood_scores(RING.x, generator.sample(512))["coverage"]

    trained = train_gan(PointGenerator(), RING, iterations=400, batch_size=64, device="cpu", progress=False).generator
    assert distance(trained) > 0.3 > distance(PointGenerator())


@pytest.mark.parametrize("who", SIDES)
def test_only_those_learn_whose_turn_it_is(who: str) -> None:
    turn = TrainableSide()
    loop = train_gan.steps(PointGenerator(), RING, iterations=40, ema=0.0, device="cpu", side=turn)
    for step in loop:
        if step.iteration == 20:
            before = step.snapshot()
            turn.who = who
        if step.iteration == 30:
            after = step.snapshot()
            break
    states = loop.stop().state["states"]
    plain = train_gan(PointGenerator(), RING, iterations=40, ema=0.0, device="cpu", progress=False)
    assert same_weights(before, after) == (who == "discriminator only")
    steps = [state["state"][0]["step"].item() for state in states[3:]]  # of the two optimisers
    assert steps == {"both": [30, 30], "generator only": [30, 20], "discriminator only": [20, 30]}[who]
    again = train_gan(
        PointGenerator(), RING, iterations=40, ema=0.0, device="cpu", progress=False, side=TrainableSide()
    )
    assert same_weights(plain.generator, again.generator) and plain.history == again.history


def test_the_average_warms_up_and_the_penalty_is_taken_every_so_often_as_strong(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    keeps: list[float] = []
    penalties: list[float] = []
    average, step = training.update_average, training._one_step

    def averaged(ours: torch.nn.Module, theirs: torch.nn.Module, keep: float) -> None:
        keeps.append(keep)
        average(ours, theirs, keep)

    def stepped(*args: Any) -> dict[str, torch.Tensor]:
        penalties.append(args[6])
        return step(*args)

    monkeypatch.setattr(training, "update_average", averaged)
    monkeypatch.setattr(training, "_one_step", stepped)
    recipe = Recipe(penalty=0.5, penalty_every=3)
    settings = {"iterations": 5, "batch_size": 8, "ema": 0.2, "device": "cpu", "progress": False}
    train_gan(PointGenerator(), RING, recipe=recipe, **settings)
    assert penalties == [1.5, 0, 0, 1.5, 0]
    assert keeps == pytest.approx([1 / 11, 2 / 12, 0.2, 0.2, 0.2])


def test_a_step_of_both_players_is_that_of_goodfellow() -> None:
    """Weights and losses of one step, by hand: the critic first, then the generator against the new critic."""
    generator, critic = PointGenerator(widths=4), torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    mine, theirs = generator.clone(), torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.Flatten(0))
    theirs.load_state_dict(critic.state_dict())
    optimizers: Any = [torch.optim.SGD(one.parameters(), lr=0.1) for one in (generator, critic)]
    x, z = RING.x[:6], torch.randn(6, 2)
    losses = training._one_step(generator, critic, optimizers, x, z, "both", 0.7, None)
    fake = mine(z)
    judged = -torch.sigmoid(theirs(x)).log().mean() - (1 - torch.sigmoid(theirs(fake.detach()))).log().mean()
    penalty = 0.7 * theirs[0].weight.square().sum() / 2
    for parameter, gradient in zip(
        theirs.parameters(), torch.autograd.grad(judged + penalty, [*theirs.parameters()]), strict=True
    ):
        parameter.data -= 0.1 * gradient
    fooled = -torch.sigmoid(theirs(fake)).log().mean()
    fooled.backward()
    for parameter in mine.parameters():
        assert parameter.grad is not None
        parameter.data -= 0.1 * parameter.grad
    for ours, expected in ((critic, theirs), (generator, mine)):
        for a, b in zip(ours.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    assert float(losses["discriminator_loss"]) == pytest.approx(float(judged), rel=1e-4)
    assert float(losses["generator_loss"]) == pytest.approx(float(fooled), rel=1e-4)
