"""What makes a notebook a lesson: checks of the learner's code, predictions before running, a quiz, folded hints.

Everything has a static form (plain HTML with folded answers) for GitHub, print and automatic runs.
"""

import html
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ipywidgets as widgets
from IPython.display import HTML, display

from devilgan_lite.apps.course.exercise import Learner, NotYet
from devilgan_lite.apps.course.exercises import EXERCISES
from devilgan_lite.apps.course.own_steps import StepExercise
from devilgan_lite.apps.course.profile import is_static
from devilgan_lite.checks import nearest, one_of, whole_number

QUIZZES = Path(__file__).with_name("quizzes.json")  # number of a notebook -> its questions


@dataclass(frozen=True)
class CheckResult:
    """True or False (None: nothing was answered), for ``if`` and ``assert``; its line has been printed already.

    ``function`` is the learner's own where it passed. Where it did not and later cells need it (a training step, say),
    it is ours, so that the rest of the notebook can go on.
    """

    passed: bool | None
    sentence: str
    function: Learner | None = field(default=None, repr=False)

    def __bool__(self) -> bool:
        return bool(self.passed)

    def _ipython_display_(self) -> None:
        """Nothing more to show at the end of a cell."""


def check(exercise: str, learner: Learner) -> CheckResult:
    """Try the learner's function on ``exercise`` (one of ``EXERCISES``), print one line, return the verdict."""
    one_of("exercise", exercise, EXERCISES)
    if not callable(learner):
        raise ValueError(f"learner={learner!r} is not a function: pass its name without parentheses.")
    judge = EXERCISES[exercise]
    try:
        praise = judge(learner)
    except NotYet as reason:
        does = "trains" if isinstance(judge, StepExercise) else "runs"
        instead = f" Until then, ours {does} below in place of {_name(learner)}." if judge.stands_in else ""
        said = f"\N{CROSS MARK} {exercise}: not yet. {_sentence(reason)}{instead}"
        return _said(False, said, judge.solution if judge.stands_in else None)
    return _said(True, f"\N{WHITE HEAVY CHECK MARK} {exercise}: right. {_sentence(praise)}", learner)


def _name(learner: Learner) -> str:
    return getattr(learner, "__name__", "yours")


def _said(passed: bool | None, sentence: str, function: Learner | None = None) -> CheckResult:
    print(sentence)
    return CheckResult(passed, sentence, function)


def _sentence(text: object) -> str:
    words = str(text).strip()
    return words[:1].upper() + words[1:]


def _letter(index: int) -> str:
    return chr(ord("A") + index)


def _listed(question: str, options: Sequence[str]) -> str:
    """The letters are text: JupyterLab and GitHub number an ordered list 1, 2, 3, whatever its type."""
    items = "".join(f"<li>{_letter(index)}. {html.escape(option)}</li>" for index, option in enumerate(options))
    return f'<p><b>{html.escape(question)}</b></p><ul role="list" style="list-style: none">{items}</ul>'


def _radio(options: Sequence[str], about: str) -> widgets.RadioButtons:
    letters = [_letter(index) for index in range(len(options))]
    return widgets.RadioButtons(options=letters, value=None, description=about, layout=widgets.Layout(width="20em"))


class Prediction:
    """A question that is answered before running; ``radio.value`` is ``"A"``, ``"B"``, ... or None."""

    def __init__(self, question: str, options: Sequence[str]) -> None:
        whole_number("number of options", len(options), 2, 26)
        self.question, self.options = question, list(options)
        self.radio = _radio(options, "I predict")

    @property
    def answer(self) -> int | None:
        """The index of the chosen option, or None."""
        return None if self.radio.value is None else ord(self.radio.value) - ord("A")

    def _ipython_display_(self) -> None:
        display(HTML(_listed(self.question, self.options)))
        if not is_static():
            display(self.radio)


_predictions: dict[str, Prediction] = {}


def predict(question: str, options: Sequence[str], key: str) -> Prediction:
    """Ask before the next cell is run, as the value of a cell; the choice is kept under ``key`` until ``reveal``."""
    prediction = _predictions[key] = Prediction(question, options)
    return prediction


def reveal(key: str, answer: int | str, why: str = "") -> CheckResult:
    """Compare the prediction under ``key`` with the ``answer`` (its text, or its index from 0) and print it."""
    if key not in _predictions:
        raise ValueError(
            f"key={key!r} is unknown: first run the cell with predict(..., key={key!r}).{nearest(key, _predictions)}"
        )
    prediction = _predictions[key]
    if isinstance(answer, str):
        one_of("answer", answer, prediction.options)
        right = prediction.options.index(answer)
    else:
        whole_number("answer", answer, 0, len(prediction.options) - 1)
        right = answer
    passed = None if prediction.answer is None else prediction.answer == right
    yours = "" if prediction.answer is None else f"You said {_letter(prediction.answer)}. "
    mark = {None: "The answer is", True: "Right, it is", False: "Not this time: it is"}[passed]
    return _said(passed, f"{yours}{mark} {_letter(right)}, {prediction.options[right]}. {why}".rstrip())


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
        text = f"<b>Right.</b> {html.escape(question.why)}" if right else "Not this one; try another."
        self.feedback[index].value = text

    def static(self) -> HTML:
        """The questions with folded answers."""
        parts = []
        for number, question in enumerate(self.questions, start=1):
            answer = html.escape(f"{_letter(question.answer)}. {question.why}")
            parts.append(_listed(f"{number}. {question.text}", question.options) + _folded("Answer", answer))
        return HTML("".join(parts))

    def _ipython_display_(self) -> None:
        """Radio buttons, or folded answers where nobody can press them."""
        if is_static():
            display(self.static())
            return
        for number, (question, radio, feedback) in enumerate(
            zip(self.questions, self.radios, self.feedback, strict=True), start=1
        ):
            display(HTML(_listed(f"{number}. {question.text}", question.options)), widgets.VBox([radio, feedback]))


def quiz(questions: str | Sequence[Question | tuple[str, Sequence[str], int, str]]) -> Quiz:
    """The closing quiz, as the value of a cell: that of a notebook (``"03"``), or your own questions.

    A tuple is ``(text, options, index of the answer, why)``.
    """
    if isinstance(questions, str):
        known = json.loads(QUIZZES.read_text(encoding="utf-8"))
        one_of("questions", questions, known)
        questions = [Question(**one) for one in known[questions]]
    return Quiz([question if isinstance(question, Question) else Question(*question) for question in questions])


def _folded(summary: str, body: str) -> str:
    return f"<details><summary>{html.escape(summary)}</summary>{body}</details>"


def hint(text: str, n: int = 1) -> HTML:
    """The ``n``-th hint, folded."""
    return HTML(_folded(f"Hint {n}", f"<p>{html.escape(text)}</p>"))


def solution(code: str) -> HTML:
    """A solution's code, folded."""
    return HTML(_folded("Solution", f"<pre><code>{html.escape(code.strip())}</code></pre>"))


def hints(*texts: str, solution: str = "") -> HTML:
    """The hints to an exercise and the code of its solution, each folded, as the value of one cell.

    One word, such as ``hints("slerp")``, is the name of an exercise (one of ``EXERCISES``), which has both; for an open
    one, write its hints here.
    """
    if len(texts) == 1 and texts[0].isidentifier() and not solution:
        one_of("exercise", texts[0], EXERCISES)
        texts, solution = EXERCISES[texts[0]].hints, EXERCISES[texts[0]].code
    folded = [_folded(f"Hint {n}", f"<p>{html.escape(text)}</p>") for n, text in enumerate(texts, start=1)]
    if solution:
        folded.append(_folded("Solution", f"<pre><code>{html.escape(solution.strip())}</code></pre>"))
    return HTML("".join(folded))
