"""A notebook as a lesson: checks, predictions, a quiz, hints (``questions``), a start at any step (``states``).

And what the learner made, from one notebook to the next (``own``).
"""

from devilgan_lite.apps.course.lesson.own import Suspect, keep, mine, progress
from devilgan_lite.apps.course.lesson.questions import (
    CheckResult,
    Prediction,
    Question,
    Quiz,
    check,
    hint,
    hints,
    predict,
    quiz,
    reveal,
    solution,
)
from devilgan_lite.apps.course.lesson.start import State, load, states

__all__ = [
    "CheckResult",
    "Prediction",
    "Question",
    "Quiz",
    "State",
    "Suspect",
    "check",
    "hint",
    "hints",
    "keep",
    "load",
    "mine",
    "predict",
    "progress",
    "quiz",
    "reveal",
    "solution",
    "states",
]
