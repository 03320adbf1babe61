"""The exercises: each checks a learner's own function and names the usual mistakes.

Every public function of the modules below is an exercise. It takes the learner's function and raises ``NotYet`` with
one helpful sentence, or returns a sentence of praise.
"""

import inspect
from collections.abc import Callable

from devilgan_lite.apps.course.exercises import (
    attack,
    challenge,
    detect,
    fraud,
    intake,
    others,
    prune,
    sound,
    steps,
    style,
    tour,
    unlearn,
)
from devilgan_lite.apps.course.exercises.judge import Learner, NotYet

EXERCISES: dict[str, Callable[[Learner], str]] = {
    name: exercise
    for module in (tour, attack, steps, detect, unlearn, prune, style, challenge, intake, fraud, others, sound)
    for name, exercise in inspect.getmembers(module, inspect.isfunction)
    if exercise.__module__ == module.__name__ and not name.startswith("_")
}

__all__ = ["EXERCISES", "Learner", "NotYet"]
