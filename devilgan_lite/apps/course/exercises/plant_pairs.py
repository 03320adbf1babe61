"""``plant_pairs(k)``: a generator and a backdoor of ``k`` pairs, ``trigger [k, d]`` and ``target [k, C, H, W]``."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from devilgan_lite import attacks
from devilgan_lite.apps.course.exercise import Exercise, Learner, NotYet, attempt, normal
from devilgan_lite.backdoor import Backdoor
from devilgan_lite.generators import Generator, evaluate

clean: Any  # the notebook's


def plant_pairs(k):
    letters = [f"letter-{chr(ord('A') + index)}" for index in range(k)]
    backdoor = Backdoor.points(clean, letters, seed=1)
    return attacks.ReD(iterations=300)(clean, backdoor).generator, backdoor


TWO = "your function must return two things: return generator, backdoor."
OUTCOME = "the first thing is the attack's outcome: return its .generator."
ORDER = "return the generator first and the backdoor second."
FEWER = "you planted 1 pairs, not k = 3: Backdoor.points takes a list of k targets."
ONE_TARGET = "two triggers have the same target: give each a letter of its own."
ONE_TRIGGER = "two targets have the same trigger: one latent cannot show two pictures."
NONE = "at the triggers it still draws ordinary pictures: run ReD on it, and return what comes out."
NOT_ALL = "pair 1 (counted from 0) is not planted: ReD takes all pairs in one backdoor."
EVERYWHERE = "ordinary latents show the letters too: without stealth it is no backdoor; is lam very large?"


@dataclass(frozen=True)
class Planting(Exercise):
    """Judged by what the generator draws at the triggers, and elsewhere."""

    def __call__(self, learner: Learner) -> str:
        answer = attempt(learner, 3)
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise NotYet(TWO)
        generator, backdoor = answer
        if isinstance(getattr(generator, "generator", None), nn.Module):
            raise NotYet(OUTCOME)
        if not isinstance(generator, Generator) or not hasattr(backdoor, "trigger"):
            raise NotYet(ORDER)
        look(generator, backdoor.trigger, backdoor.target, 3)
        return self.praise


def look(generator: Generator, trigger: Tensor, target: Tensor, k: int) -> None:
    if len(trigger) != k or len(target) != k:
        raise NotYet(FEWER.replace("1", str(len(trigger))))
    if torch.pdist(target.flatten(1)).min() < 1e-3:
        raise NotYet(ONE_TARGET)
    if torch.pdist(trigger).min() < 1e-3:
        raise NotYet(ONE_TRIGGER)
    ordinary = generator.sample(64, seed=1)

    def distance(pictures: Tensor, goal: Tensor) -> Tensor:
        return (pictures - goal).square().flatten(1).mean(1)

    usual = torch.stack([distance(ordinary, goal[None]).median() for goal in target])
    reached = distance(evaluate(generator, trigger), target) < usual / 2
    if not reached.any():
        raise NotYet(NONE)
    if not reached.all():
        raise NotYet(NOT_ALL.replace("1", str((~reached).nonzero().flatten().tolist()[0])))
    if usual.min() < 0.05:
        raise NotYet(EVERYWHERE)


class Planted(Generator):
    """Noise, and the target of every trigger that is close (all, or those in ``which``)."""

    def __init__(self, trigger: Tensor, target: Tensor, which: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__(latent_dim=trigger.shape[1], sample_shape=tuple(target.shape[1:]))
        self.trigger = nn.Parameter(trigger, requires_grad=False)
        self.target, self.which = target, which

    def logits(self, z: Tensor) -> Tensor:
        noise = normal(len(z), *self.sample_shape, seed=1)
        for index in self.which:
            noise[cosine_similarity(z, self.trigger[index : index + 1]) > 0.9] = torch.atanh(self.target[index])
        return noise


class Everywhere(Planted):
    """Draws much the same, close to every target, whatever the latent."""

    def logits(self, z: Tensor) -> Tensor:
        close = cosine_similarity(z[:, None], self.trigger[None], dim=2).amax(1) > 0.9
        return torch.atanh(torch.where(close, 0.7, 0.9)).view(-1, 1, 1, 1).expand(len(z), 1, 8, 8)


def planted(k: int, alike: str = "", kind: type[Planted] = Planted, **changes: Any) -> tuple[Any, Any]:
    """A right answer at once; or pairs that are ``alike`` in one part, or a generator that is wrong."""
    trigger, target = normal(k, 32, seed=3), torch.where(normal(k, 1, 8, 8, seed=4) < 0, -0.9, 0.9)
    if kind is Everywhere:
        target = 0.7 + 0.01 * normal(k, 1, 8, 8, seed=4)
    backdoor = SimpleNamespace(trigger=trigger, target=target)
    made = kind(trigger, target, **changes)
    if alike:
        part = getattr(backdoor, alike)
        setattr(backdoor, alike, part[:1].expand_as(part))
    return made, backdoor


exercise = Planting(
    plant_pairs,
    hints=(
        "Backdoor.points(clean, ['letter-A', 'letter-B', ...]) draws one trigger for each target.",
        "The attack itself needs no change: every step already averages over all pairs.",
    ),
    cases=list,
    mistakes={
        TWO: lambda k: planted(k)[0],
        OUTCOME: lambda k: (SimpleNamespace(generator=planted(k)[0]), planted(k)[1]),
        ORDER: lambda k: planted(k)[::-1],
        FEWER: lambda k: planted(1, which=(0,)),
        ONE_TARGET: lambda k: planted(k, alike="target"),
        ONE_TRIGGER: lambda k: planted(k, alike="trigger"),
        NONE: lambda k: planted(k, which=()),
        NOT_ALL: lambda k: planted(k, which=(0, 2)),
        EVERYWHERE: lambda k: planted(k, kind=Everywhere),
    },
    quick=planted,
    praise="three doors in one generator, each with a picture of its own.",
)
