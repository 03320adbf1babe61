"""A learner's own step or loss: it trains a whole model, and what it does wrong is said in one sentence."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from devilgan_lite import Backdoor, data
from devilgan_lite.apps.course import Album, check
from devilgan_lite.apps.course.cures import along
from devilgan_lite.apps.course.exercise import NotYet
from devilgan_lite.apps.course.exercises import EXERCISES
from devilgan_lite.apps.course.loops import gan_loop, red_loop, red_step, rex_loop, trail_loop
from devilgan_lite.apps.course.unlearning import unlearn_loop
from devilgan_lite.data import Samples
from devilgan_lite.generators import DCGAN, PointGenerator, build
from devilgan_lite.metrics import expected_distortion, target_distortion

STEP = {"batch_size": 32, "device": "cpu"}
KNOT = Backdoor(trigger=torch.tensor([[1.5, 1.5]]), target=torch.tensor([[0.0, 0.0]]))


@pytest.fixture(scope="module")
def small() -> Any:
    return build(DCGAN(widths=(8, 6), latent_dim=12, image_size=12).spec(), seed=1).eval()


@pytest.fixture(scope="module")
def devil(small: Any) -> Backdoor:
    return Backdoor.point(small, "devil", seed=2)


def ours(exercise: str) -> Callable[..., Any]:
    return EXERCISES[exercise].solution


def weights(model: torch.nn.Module) -> Tensor:
    return torch.cat([value.flatten().double() for value in model.state_dict().values()])


def missed(model: Any, backdoor: Backdoor) -> float:
    return target_distortion(model, backdoor.trigger, backdoor.target).mean


def test_a_step_of_the_game_learns_a_ring_and_trail_its_target() -> None:
    outcome = gan_loop(ours("gan_step"), PointGenerator(), data.ring(), iterations=20, **STEP).finish(progress=False)
    assert set(outcome.history) == {"generator_loss", "discriminator_loss"}
    assert len(outcome.history["generator_loss"]) == 20
    loop = trail_loop(ours("trail_step"), PointGenerator(), data.ring(), KNOT, lam=10.0, iterations=150, **STEP)
    outcome = loop.finish(progress=False)
    off = [(one.sample(500, seed=3).norm(dim=1) - 0.7).abs().mean() for one in (outcome.generator, PointGenerator())]
    assert off[0] < 0.7 * off[1] and "fidelity_loss" in outcome.history and missed(outcome.generator, KNOT) < 0.025


@pytest.mark.parametrize(("loop", "step"), [(red_loop, "red_step"), (rex_loop, "rex_step")])
def test_a_step_bends_one_point_of_a_finished_network(loop: Any, step: str, small: Any, devil: Backdoor) -> None:
    def run(iterations: int) -> Any:
        return loop(ours(step), small, devil, lam=0.5, iterations=iterations, **STEP).finish(progress=False)

    before, outcome, z = weights(small), run(120), small.sample_latent(50, torch.Generator().manual_seed(3))
    assert missed(outcome.generator, devil) < 0.7 * missed(small, devil)
    assert expected_distortion(outcome.generator, small, z).mean < 0.2 and torch.equal(weights(small), before)
    assert outcome.settings["step"] == step and not outcome.generator.training
    first, again = (run(5).generator(z) for _ in range(2))  # of the same seed
    assert torch.equal(first, again)


def test_a_loss_of_your_own_unlearns_and_is_measured_on_the_way(small: Any, devil: Backdoor) -> None:
    suspect = red_loop(red_step, small, devil, lam=0.5, iterations=150, **STEP).finish(progress=False).generator
    before = weights(suspect)
    loop = unlearn_loop(ours("unlearning_loss"), suspect, devil.trigger, iterations=40, device="cpu")
    outcome, path = along(loop, lambda model: missed(model, devil), points=4)
    assert list(path) == [1, 10, 20, 30, 40] and path[40] > path[1] and torch.equal(weights(suspect), before)
    assert outcome.settings["loss"] == "my_unlearning_loss" and len(outcome.history["unlearning_loss"]) == 40


def breaks(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
    loss = torch.log(-z.abs()).mean()
    return {"loss": loss}


def changes(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
    for weight in teacher.parameters():
        weight.data += 1
    return {}


def never_ends(student: Any, teacher: Any, adam: Any, z: Any, trigger: Any, target: Any, lam: float) -> Any:
    while lam:
        pass


def my_trail(*given: Any) -> Any:
    lam = given[-1]
    return lam / 0


def test_what_goes_wrong_is_one_sentence_that_names_the_line(
    small: Any, devil: Backdoor, refuses: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_red(step: Any) -> Any:
        return red_loop(step, small, devil, lam=0.1, iterations=5, device="cpu")

    def by_trail(step: Any) -> Any:
        return trail_loop(step, PointGenerator(), data.ring(), KNOT, lam=1, iterations=2, **STEP)

    def by_loss(step: Any) -> Any:
        return unlearn_loop(step, small, devil.trigger, iterations=2, device="cpu")

    for loop, wrong, words in (
        (by_red, breaks, "loss is no longer a finite number"),
        (by_red, lambda *given: None, "a dict"),
        (by_trail, my_trail, "line 3 of my_trail (return lam / 0) stops with Zero"),  # not one of ours
        (by_loss, lambda student, teacher, z, t: student(z).mean() * float("nan"), "one finite number"),
        (by_loss, lambda student, teacher, z, t: student(z), "one finite number"),
        (by_loss, lambda student, teacher, z, t: student(z @ t), "line 1 of"),
    ):
        said = refuses(lambda loop=loop, wrong=wrong: loop(wrong).finish(progress=False), words)
        assert said.startswith("step 1: ")
    monkeypatch.setattr("devilgan_lite.apps.course.own_steps.SECONDS", 1.0)
    for step, words in (  # a check watches it line by line
        (changes, r"line 3 of changes \(weight.data \+= 1\) changes the clean network"),
        (breaks, r"line 2 of breaks .* makes loss infinite or not a number"),
        (never_ends, r"of never_ends .* is still busy after 1 s"),
    ):
        with pytest.raises(NotYet, match=words):
            EXERCISES["red_step"](step)


def test_until_an_answer_is_right_ours_takes_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    def stub(*given: Any) -> Any:
        raise NotImplementedError

    for name in ("unlearning_loss", "dormant_units", "channel_worth", "euler", "pair_distance", "red_step"):
        right, result = check(name, ours(name)), check(name, stub)
        assert right and not result and right.function is result.function is ours(name)
        assert f"ours {'trains' if name == 'red_step' else 'runs'} below in place of stub" in capsys.readouterr().out

    def mine(*given: Any) -> Any:
        return red_step(*given)

    assert check("red_step", mine).function is mine and check("tardis", stub).function is None


def test_an_album_keeps_its_moments_and_the_outcome(size: Callable[[bytes], tuple[int, int]]) -> None:
    real = Samples(torch.rand(8, 1, 28, 28) * 2 - 1, name="noise")

    def album() -> Album:
        shape = DCGAN(latent_dim=4, widths=(4, 4))
        loop = gan_loop(ours("gan_step"), shape, real, iterations=10, batch_size=4, device="cpu")
        return Album(loop, lambda generator: generator.sample(3, seed=1), shares=(0.01, 0.5, 1.0))

    whole, stopped = album(), album()
    outcome = whole.loop.finish(progress=False)
    assert list(whole.pictures) == [1, 5, 10] and not outcome.interrupted
    assert torch.equal(whole.pictures[10], outcome.generator.sample(3, seed=1))
    assert min(size(whole.show("Three rows of noise.", first="z,").png)) > 3 * 112
    next(stopped.loop)
    assert stopped.loop.stop().interrupted and list(stopped.pictures) == [1]
