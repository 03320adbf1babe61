"""``slice_recall(scores, labels, inside, threshold)``: three arrays ``[n]`` and a number to a number.

Of the rows that are positive and inside the slice, the share with a score of ``threshold`` or more.
"""

import numpy as np

from devilgan_lite.apps.course.exercise import Exercise


def slice_recall(scores, labels, inside, threshold):
    return (scores >= threshold)[inside & (labels == 1)].mean()


SCORES = np.array([0.9, 0.2, 0.5, 0.7, 0.1, 0.6, 0.8, 0.3, 0.5, 0.95])
LABELS = np.array([1, 1, 1, 0, 1, 1, 1, 0, 1, 0])
INSIDE = np.array([1, 1, 1, 1, 1, 0, 0, 0, 0, 1], dtype=bool)

exercise = Exercise(
    slice_recall,
    hints=(
        "scores >= threshold is an array of True and False: the alarms.",
        "Choose rows with a mask, as in alarms[inside & (labels == 1)]; .mean() of True and False is a share.",
    ),
    cases=lambda: [(SCORES, LABELS, INSIDE, threshold) for threshold in (0.5, 0.15)],
    mistakes={
        "that is the recall over all rows, which is what a dashboard shows: keep to the slice.": (
            lambda scores, labels, inside, threshold: (scores >= threshold)[labels == 1].mean()
        ),
        "that is the recall elsewhere: keep the rows inside.": (
            lambda scores, labels, inside, threshold: slice_recall(scores, labels, ~inside, threshold)
        ),
        "that is the share of alarms among all rows of the slice: recall looks at positive rows only.": (
            lambda scores, labels, inside, threshold: (scores >= threshold)[inside].mean()
        ),
        "that is the precision on the slice: recall asks how many positive rows get an alarm.": (
            lambda scores, labels, inside, threshold: labels[inside & (scores >= threshold)].mean()
        ),
        "a score equal to the threshold is an alarm: take >=, not >.": (
            lambda scores, labels, inside, threshold: (scores > threshold)[inside & (labels == 1)].mean()
        ),
        "the threshold is fixed in your function: use `threshold`.": (
            lambda scores, labels, inside, threshold: slice_recall(scores, labels, inside, 0.5)
        ),
        "you divide by all positive rows: divide by those inside the slice.": (
            lambda scores, labels, inside, threshold: ((scores >= threshold) & inside)[labels == 1].mean()
        ),
    },
    otherwise=lambda answer, right, scores, labels, inside, threshold: (
        f"at threshold {threshold} it is {right:.2f}: four rows are positive and inside."
    ),
    praise="a dashboard that shows all rows together cannot show this number.",
)
