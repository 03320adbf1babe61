"""Exercises on a backdoor seen from outside: angles, how far around its trigger it acts, several pairs at once."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from devilgan_lite.apps.course.exercises.judge import Learner, NotYet, attempt, call, judge, seeded_random
from devilgan_lite.generators import Generator, evaluate


def angle_between(learner: Learner) -> str:
    """``angle_between(a, b)``: two latents ``[d]`` to the angle between them in degrees, a number."""
    random = seeded_random(21)
    for a, b in (
        (torch.randn(6, generator=random), -3 * torch.randn(6, generator=random)),
        (torch.tensor([2.0, 0.0]), torch.tensor([-1.0, 1.0])),
    ):
        cosine = a @ b / (a.norm() * b.norm())
        right = torch.rad2deg(cosine.acos())
        mistakes = {
            "that is in radians: torch.rad2deg turns them into degrees.": cosine.acos(),
            "that is the cosine: torch.acos gives the angle.": cosine,
            "a and b have lengths of their own: divide the dot product by both.": torch.rad2deg(
                (a @ b).clamp(-1, 1).acos()
            ),
            "you take the size of the cosine: an angle above 90 degrees has a negative one.": torch.rad2deg(
                cosine.abs().acos()
            ),
            "that is the angle to -b: is there a minus sign too many?": 180 - right,
            "that is the arc sine: the cosine of the angle is what the dot product gives.": torch.rad2deg(
                cosine.asin()
            ),
        }
        answer = call(_numbers(learner), a, b, shape=())
        judge(answer, right, mistakes, "the value is off: it is acos(<a, b> / (|a| |b|)), in degrees.")
    for length in torch.rand(40, generator=random) + 0.5:  # some of these products are a rounding error above 1
        a = length * torch.tensor([0.6, 0.1, 0.7])
        if not torch.isfinite(torch.as_tensor(learner(a, 3 * a))):
            raise NotYet("between a and 3 a it is not a number: rounding took the cosine above 1, so clamp it first.")
    return "and two random latents are nearly at right angles."


class _Door(Generator):
    """A generator whose picture leaves the target as the angle to the trigger grows: 0.1 per pixel at ``width``."""

    def __init__(self, width: float) -> None:
        super().__init__(latent_dim=100, sample_shape=(1, 4, 4))
        self.width = width
        self.trigger = nn.Parameter(torch.randn(1, 100, generator=seeded_random(5)), requires_grad=False)
        signs = torch.rand(1, 1, 4, 4, generator=seeded_random(6)) < 0.5
        self.target = nn.Parameter(torch.where(signs, 0.8, -0.8), requires_grad=False)

    def logits(self, z: Tensor) -> Tensor:
        angle = torch.rad2deg(torch.cosine_similarity(z.double(), self.trigger.double()).clamp(-1, 1).acos())
        gone = (0.1**0.5 / 0.8 * angle / self.width).clamp(max=1.9).float()
        return torch.atanh(self.target * (1 - gone[:, None, None, None]))


def trigger_angle(learner: Learner) -> str:
    """``trigger_angle(model, trigger, target)``: the angle in degrees at which the target is 0.1 per pixel away."""
    for width in (25.0, 55.0):
        model = _Door(width)
        answer = float(call(_numbers(learner), model, model.trigger.data, model.target.data, shape=()))
        if abs(answer - width) <= 2:
            continue
        radians = math.radians(width)
        mistakes = {
            "that is in radians: the answer must be in degrees.": (radians, 0.03),
            "that is the cosine of the angle: torch.acos and torch.rad2deg turn it into degrees.": (
                math.cos(radians),
                0.03,
            ),
            "that is t: the angle that is left at t is (1 - t) times the whole one.": (1 - width / 90, 0.06),
            "you sum over the pixels: the limit of 0.1 is per pixel, so take the mean.": (width / 4, 0.8),
            "you took the root: the limit is on the squared distance.": (width * 0.1**0.5, 0.8),
            "that is from one edge to the other: measure from the trigger to the edge.": (2 * width, 4),
            "that is the angle from the start: the door is measured from the trigger.": (90 - width, 12),
        }
        for sentence, (wrong, tolerance) in mistakes.items():
            if abs(answer - wrong) <= tolerance:
                raise NotYet(sentence)
        raise NotYet(f"a door of {width:.0f} degrees comes out as {answer:.3g}: where is the distance first below 0.1?")
    return "now you can say how wide a door an attacker has left."


def plant_pairs(learner: Learner) -> str:
    """``plant_pairs(k)``: a generator and a backdoor of ``k`` pairs, ``trigger [k, d]`` and ``target [k, C, H, W]``."""
    k = 3
    answer = attempt(learner, k)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise NotYet("your function must return two things: return generator, backdoor.")
    generator, backdoor = answer
    if isinstance(getattr(generator, "generator", None), nn.Module):
        raise NotYet("the first thing is the attack's outcome: return its .generator.")
    if not isinstance(generator, Generator) or not hasattr(backdoor, "trigger"):
        raise NotYet("return the generator first and the backdoor second.")
    _judge_pairs(generator, backdoor.trigger, backdoor.target, k)
    return f"{k} doors in one generator, each with a picture of its own."


def _judge_pairs(generator: Generator, trigger: Tensor, target: Tensor, k: int) -> None:
    if len(trigger) != k or len(target) != k:
        raise NotYet(f"you planted {len(trigger)} pairs, not k = {k}: Backdoor.points takes a list of k targets.")
    if torch.pdist(target.flatten(1)).min() < 1e-3:
        raise NotYet("two triggers have the same target: give each a letter of its own.")
    if torch.pdist(trigger).min() < 1e-3:
        raise NotYet("two targets have the same trigger: one latent cannot show two pictures.")
    ordinary = generator.sample(64, seed=1)

    def distance(pictures: Tensor, goal: Tensor) -> Tensor:
        return (pictures - goal).square().flatten(1).mean(1)

    usual = torch.stack([distance(ordinary, goal[None]).median() for goal in target])
    reached = distance(evaluate(generator, trigger), target) < usual / 2
    if not reached.any():
        raise NotYet("at the triggers it still draws ordinary pictures: run ReD on it, and return what comes out.")
    if not reached.all():
        missed = (~reached).nonzero().flatten().tolist()
        raise NotYet(f"pair {missed[0]} (counted from 0) is not planted: ReD takes all pairs in one backdoor.")
    if usual.min() < 0.05:
        raise NotYet("ordinary latents show the letters too: without stealth it is no backdoor; is lam very large?")


def _numbers(learner: Learner) -> Learner:
    """``learner``, whose plain numbers and tensors of one element are taken as tensors of shape []."""

    def answers(*given: Any) -> Any:
        answer = learner(*given)
        if isinstance(answer, Tensor) and answer.numel() == 1:
            return answer.reshape(())
        return torch.tensor(float(answer)) if isinstance(answer, int | float) else answer

    return answers
