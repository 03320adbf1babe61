"""What makes a notebook a lesson: checks of the learner's code, predictions before running, a quiz, folded hints.

Everything has a static form (plain HTML with folded answers) for GitHub, print and automatic runs.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ipywidgets as widgets
from IPython.display import HTML, display

from devilgan_lite.checks import one_of, whole_number
from devilgan_lite.classroom.exercises import EXERCISES, Learner, NotYet
from devilgan_lite.classroom.profile import is_static


def check(exercise: str, learner: Learner) -> bool:
    """Try the learner's function on ``exercise`` (one of ``EXERCISES``), print one line, return whether it passes."""
    one_of("exercise", exercise, EXERCISES)
    if not callable(learner):
        raise ValueError(f"learner={learner!r} is not a function: pass its name without parentheses.")
    try:
        praise = EXERCISES[exercise](learner)
    except NotYet as reason:
        print(f"\N{CROSS MARK} {exercise}: not yet. {_sentence(reason)}")
        return False
    print(f"\N{WHITE HEAVY CHECK MARK} {exercise}: right. {_sentence(praise)}")
    return True


def _sentence(text: object) -> str:
    words = str(text).strip()
    return words[:1].upper() + words[1:]


@dataclass
class _Prediction:
    question: str
    options: list[str]
    answer: int | None = None


_predictions: dict[str, _Prediction] = {}


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _listed(question: str, options: Sequence[str]) -> str:
    items = "".join(f"<li>{html.escape(option)}</li>" for option in options)
    return f'<p><b>{html.escape(question)}</b></p><ol type="A">{items}</ol>'


def _radio(options: Sequence[str], about: str) -> widgets.RadioButtons:
    letters = [_letter(index) for index in range(len(options))]
    return widgets.RadioButtons(options=letters, value=None, description=about, layout=widgets.Layout(width="20em"))


def predict(question: str, options: Sequence[str], key: str) -> widgets.RadioButtons:
    """Ask before the cell is run; the learner's choice is kept under ``key`` until ``reveal``.

    Returns nothing to look at twice: the question is displayed, and the radio buttons (whose ``value`` is ``"A"``,
    ``"B"``, ...) are returned for code that wants to answer.
    """
    whole_number("number of options", len(options), 2, 26)
    prediction = _predictions[key] = _Prediction(question, list(options))
    radio = _radio(options, "I predict")

    def remember(change: Any) -> None:
        prediction.answer = None if change["new"] is None else ord(change["new"]) - ord("A")

    radio.observe(remember, names="value")
    display(HTML(_listed(question, options)))
    if not is_static():
        display(radio)
    return radio


def reveal(key: str, answer: int | str, why: str = "") -> bool | None:
    """Compare the prediction under ``key`` with the ``answer`` (its text, or its index from 0); print what was right.

    Returns whether the prediction was right, or None when there was none.
    """
    one_of("key", key, _predictions)
    prediction = _predictions[key]
    if isinstance(answer, str):
        one_of("answer", answer, prediction.options)
        right = prediction.options.index(answer)
    else:
        whole_number("answer", answer, 0, len(prediction.options) - 1)
        right = answer
    verdict = None if prediction.answer is None else prediction.answer == right
    ours = "no prediction" if prediction.answer is None else f"you predicted {_letter(prediction.answer)}"
    mark = {None: "", True: ": right", False: ": not this time"}[verdict]
    print(f"{ours}{mark}; the answer is {_letter(right)}, {prediction.options[right]}. {why}".rstrip())
    return verdict


@dataclass(frozen=True)
class Question:
    """One quiz question; ``answer`` is the index (from 0) of the right option and ``why`` the explanation."""

    text: str
    options: Sequence[str]
    answer: int
    why: str

    def __post_init__(self) -> None:
        whole_number("number of options", len(self.options), 2, 26)
        whole_number("answer", self.answer, 0, len(self.options) - 1)


class Quiz:
    """Questions with feedback at once; ``radios[k].value = "B"`` answers the k-th in Python, ``score`` counts."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.questions = list(questions)
        self.radios = [_radio(question.options, "") for question in self.questions]
        self.feedback = [widgets.HTML() for _ in self.questions]
        for index, radio in enumerate(self.radios):
            radio.observe(lambda change, index=index: self._answered(index, change["new"]), names="value")

    @property
    def score(self) -> int:
        """How many questions are answered rightly at this moment."""
        pairs = zip(self.questions, self.radios, strict=True)
        return sum(radio.value == _letter(question.answer) for question, radio in pairs)

    def _answered(self, index: int, letter: str | None) -> None:
        question = self.questions[index]
        right = letter == _letter(question.answer)
        self.feedback[index].value = f"<b>Right.</b> {html.escape(question.why)}" if right else "Not this one; try another."

    def static(self) -> HTML:
        """The questions with folded answers."""
        parts = []
        for number, question in enumerate(self.questions, start=1):
            answer = html.escape(f"{_letter(question.answer)}. {question.why}")
            parts.append(_listed(f"{number}. {question.text}", question.options) + _folded("Answer", answer))
        return HTML("".join(parts))

    def show(self) -> None:
        """Display the quiz: radio buttons, or folded answers where nobody can press them."""
        if is_static():
            display(self.static())
            return
        for number, (question, radio, feedback) in enumerate(
            zip(self.questions, self.radios, self.feedback, strict=True), start=1
        ):
            display(HTML(_listed(f"{number}. {question.text}", question.options)), widgets.VBox([radio, feedback]))


def quiz(questions: Sequence[Question | tuple[str, Sequence[str], int, str]]) -> Quiz:
    """Show the closing quiz; a question is a ``Question`` or a tuple ``(text, options, index of the answer, why)``."""
    made = Quiz([question if isinstance(question, Question) else Question(*question) for question in questions])
    made.show()
    return made


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"


def hint(text: str, n: int = 1) -> HTML:
    """The ``n``-th hint, folded."""
    return HTML(_folded(f"Hint {n}", f"<p>{html.escape(text)}</p>"))


def solution(code: str) -> HTML:
    """A solution's code, folded."""
    return HTML(_folded("Solution", f"<pre><code>{html.escape(code.strip())}</code></pre>"))
