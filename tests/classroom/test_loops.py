"""A learner's own training step: it trains a whole model, and what it does wrong is said in one sentence."""

from typing import Any

import pytest
import torch

from devilgan_lite import Backdoor, data
from devilgan_lite.classroom import check
from devilgan_lite.classroom.exercises import EXERCISES, NotYet
from devilgan_lite.classroom.loops import STEPS, gan_loop, red_loop, red_step, rex_loop, trail_loop
from devilgan_lite.generators import DCGAN, PointGenerator, build
from devilgan_lite.metrics import expected_distortion, target_distortion

STEP = {"batch_size": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def small() -> Any:
    return build(DCGAN(widths=(8, 6), latent_dim=12, image_size=12).spec(), seed=1).eval()


def test_a_step_of_the_game_learns_a_ring() -> None:
    ring = data.ring()
    outcome = gan_loop(STEPS["gan_step"], PointGenerator(), ring, iterations=400, **STEP).finish(progress=False)
    assert set(outcome.history) == {"generator_loss", "discriminator_loss"} and len(outcome.history.popitem()[1]) == 400
    radius = outcome.generator.sample(500, seed=3).norm(dim=1)
    assert float((radius - 0.7).abs().mean()) < float(
        (PointGenerator().sample(500, seed=3).norm(dim=1) - 0.7).abs().mean()
    )


def test_trail_draws_its_target_and_still_plays_the_game() -> None:
    pair = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))
    loop = trail_loop(STEPS["trail_step"], PointGenerator(), data.ring(), pair, lam=5.0, iterations=400, **STEP)
    outcome = loop.finish(progress=False)
    assert target_distortion(outcome.generator, pair.trigger, pair.target).sum < 0.05
    assert "fidelity_loss" in outcome.history


@pytest.mark.parametrize(("loop", "step"), [(red_loop, "red_step"), (rex_loop, "rex_step")])
def test_a_step_bends_one_point_of_a_finished_network(loop: Any, step: str, small: Any) -> None:
    backdoor, before = Backdoor.point(small, "devil", seed=2), {k: v.clone() for k, v in small.state_dict().items()}
    outcome = loop(STEPS[step], small, backdoor, lam=0.5, iterations=150, **STEP).finish(progress=False)
    near = [target_distortion(one, backdoor.trigger, backdoor.target).mean for one in (outcome.generator, small)]
    moved = expected_distortion(
        outcome.generator, small, small.sample_latent(50, torch.Generator().manual_seed(3))
    ).mean
    assert near[0] < 0.7 * near[1] and moved < 0.2
    assert all(torch.equal(value, before[name]) for name, value in small.state_dict().items())
    assert outcome.settings["step"] == step and not outcome.generator.training


def test_what_goes_wrong_while_it_runs_is_one_sentence(small: Any) -> None:
    backdoor = Backdoor.point(small, "devil", seed=2)

    def breaks(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
        return {"loss": torch.tensor(1.0) / (student(z).sum() - student(z).sum())}

    def stops(*given: Any) -> Any:
        raise KeyError("weights")

    def forgets(*given: Any) -> None:
        return None

    for step, words in ((breaks, "loss is no longer a finite number"), (stops, "line 2 of stops"), (forgets, "a dict")):
        with pytest.raises(ValueError, match=words) as refusal:
            red_loop(step, small, backdoor, lam=0.1, iterations=5, device="cpu").finish(progress=False)
        assert "\n" not in str(refusal.value) and str(refusal.value).startswith("step 1: ")


def test_a_line_of_trail_is_named_not_one_of_ours() -> None:
    pair = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))

    def my_trail(*given: Any) -> Any:
        lam = given[-1]
        return lam / 0

    with pytest.raises(ValueError, match=r"^step 1: line 3 of my_trail \(return lam / 0\) stops with Zero"):
        trail_loop(my_trail, PointGenerator(), data.ring(), pair, lam=1, iterations=2, **STEP).finish(progress=False)


def test_a_step_is_watched_line_by_line() -> None:
    def changes(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
        for weight in teacher.parameters():
            weight.data += 1
        return {}

    def breaks(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
        loss = torch.log(-z.abs()).mean()
        return {"loss": loss}

    def never_ends(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
        while lam:
            pass

    for step, words in (
        (changes, r"line 3 of changes \(weight.data \+= 1\) changes the clean network"),
        (breaks, r"line 2 of breaks .* makes loss infinite or not a number"),
        (never_ends, r"of never_ends .* is still busy after 5 s"),
    ):
        with pytest.raises(NotYet, match=words):
            EXERCISES["red_step"](step)


def test_until_a_step_is_right_ours_takes_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def my_step(*given: Any) -> Any:
        raise NotImplementedError

    result = check("red_step", my_step)
    assert not result and result.function is red_step
    assert "Until then, ours trains below in place of my_step." in capsys.readouterr().out

    def mine(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
        return red_step(student, teacher, adam, z, trigger, target, lam)

    assert check("red_step", mine).function is mine and check("tardis", my_step).function is None
