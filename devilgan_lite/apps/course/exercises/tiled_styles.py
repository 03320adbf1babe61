"""``tiled_styles(w, shift, inputs)``: ``[n, d]``, ``[inputs, d]`` and a number to ``w+`` ``[n, inputs, d]``."""

from devilgan_lite.apps.course.exercise import Exercise, normal


def tiled_styles(w, shift, inputs):
    return w[:, None] + shift


exercise = Exercise(
    tiled_styles,
    hints=(
        "w has no axis for the layers yet: w[:, None] has one.",
        "Broadcasting does the rest: [n, 1, d] + [inputs, d].",
    ),
    cases=lambda: [(normal(3, 5), normal(4, 5, seed=8), 4)],
    mistakes={
        "every layer gets the style, and none gets its shift: add shift.": lambda w, shift, n: w[:, None] + 0 * shift,
        "the shift replaces the style: add it to w.": lambda w, shift, n: shift.expand(len(w), -1, -1),
        "all layers get the same shift: layer k gets shift[k].": (
            lambda w, shift, n: w[:, None] + shift.mean(0).expand_as(shift)
        ),
        "the shift has the wrong sign.": lambda w, shift, n: w[:, None] - shift,
    },
    otherwise="w+[i, k] must be w[i] + shift[k].",
    praise="one style for all layers, and a shift for each: what the attacker adds.",
)
