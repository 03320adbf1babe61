"""Predictions, the quiz, and what is folded."""

import pytest

from devilgan_lite.classroom import hint, predict, quiz, reveal, solution


def test_a_prediction_is_remembered_and_compared(capsys):
    prediction = predict("Which way does the loss go?", ["up", "down"], key="loss")
    assert reveal("loss", "down").passed is None
    prediction.radio.value = "B"
    assert reveal("loss", "down", "It is minimised.") and reveal("loss", 0).passed is False
    assert "you predicted B: right; the answer is B, down. It is minimised." in capsys.readouterr().out
    with pytest.raises(ValueError, match="unknown"):
        reveal("lost", 0)


def test_the_quiz_counts_and_folds_its_answers():
    made = quiz([("Safe?", ["yes", "no"], 1, "It is < 1."), ("Where?", ["here", "there"], 0, "Here.")])
    made.radios[0].value = "A"
    assert made.score == 0 and "Not this one" in made.feedback[0].value
    made.radios[0].value = "B"
    assert made.score == 1 and "It is &lt; 1." in made.feedback[0].value
    assert made.static().data.count("<details>") == 2
    assert "<summary>Hint 2</summary>" in hint("a < b", 2).data and "a &lt; b" in hint("a < b").data
    assert "<pre><code>x &lt; 1</code></pre>" in solution("x < 1\n").data
