"""``euler(velocity, x, times)``: a function of ``(x, time)``, ``[n, d]`` and a list of rising times to ``[n, d]``.

Where ``x`` is at the last time, if it starts at the first and each step goes as its start says.
"""

import itertools
from typing import Any

from torch import Tensor

from devilgan_lite.apps.course.exercise import Exercise, Learner, NotYet, normal


def euler(velocity, x, times):
    for now, then in zip(times, times[1:]):
        x = x + (then - now) * velocity(x, now)
    return x


ONE_TOO_MANY = "you ask for the velocity at the last time, too: there is no step after it."


class Walking(Exercise):
    """Counts how often the learner's function asks for the velocity."""

    def answer(self, learner: Learner, given: tuple[Any, ...], right: Any) -> Tensor:
        velocity, x, times = given
        asked: list[float] = []

        def counted(place: Tensor, time: float) -> Tensor:
            asked.append(time)
            made: Tensor = velocity(place, time)
            return made

        found = super().answer(learner, (counted, x, times), right)
        if len(asked) == len(times):
            raise NotYet(ONE_TOO_MANY)
        return found


def velocity(place, time):
    return 0.5 - place * (1 + 2 * time)


def walk(step):
    """Steps from one time to the next: ``step(velocity, here, first, now, then, times)``."""

    def walked(velocity, x, times):
        here = x
        for now, then in itertools.pairwise(times):
            here = here + step(velocity, here, x, now, then, times)
        return here

    return walked


def one_too_many(velocity, x, times):
    here = euler(velocity, x, times)
    velocity(here, times[-1])
    return here


exercise = Walking(
    euler,
    hints=(
        "zip(times, times[1:]) pairs each time with the next.",
        "A step adds its length times the velocity at its start. Keep the new x for the next step.",
    ),
    cases=lambda: [
        (velocity, normal(4, 3, seed=3), times) for times in ([0.0, 0.25, 1.0], [0.0, 0.1, 0.3, 0.6, 1.0], [0.0, 1.0])
    ],
    mistakes={
        ONE_TOO_MANY: one_too_many,
        "all your steps have the same length: each is as long as from its time to the next.": walk(
            lambda velocity, here, first, now, then, times: velocity(here, now) / (len(times) - 1)
        ),
        "you ask at the end of each step: its start decides.": walk(
            lambda velocity, here, first, now, then, times: (then - now) * velocity(here, then)
        ),
        "you ask at the first place each time: ask where x is now.": walk(
            lambda velocity, here, first, now, then, times: (then - now) * velocity(first, now)
        ),
        "you walked against the velocity: add, do not subtract.": walk(
            lambda velocity, here, first, now, then, times: (now - then) * velocity(here, now)
        ),
        "you return the first place: keep the new one after each step.": lambda velocity, x, times: x,
    },
    otherwise="a step adds (then - now) * velocity(x, now) to x.",
    praise="this is how a flow draws, and how it is read below.",
    stands_in=True,
)
