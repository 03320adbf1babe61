"""A notebook as a lesson: checks, predictions, a quiz, hints (``questions``), and a start at any step (``states``)."""

from devilgan_lite.classroom.lesson.questions import (
    CheckResult,
    Prediction,
    Question,
    Quiz,
    check,
    hint,
    predict,
    quiz,
    reveal,
    solution,
)
from devilgan_lite.classroom.lesson.start import State, load, states

__all__ = [
    "CheckResult",
    "Prediction",
    "Question",
    "Quiz",
    "State",
    "check",
    "hint",
    "load",
    "predict",
    "quiz",
    "reveal",
    "solution",
    "states",
]
