"""``guard_limit(scores, rate)``: scores ``[n]`` and a share to a number with ``rate * n`` scores above it."""

from devilgan_lite.apps.course.exercise import Exercise, normal


def guard_limit(scores, rate):
    return scores.sort(descending=True).values[int(round(rate * len(scores)))]


OTHER_END = "that is the other end: nearly all scores are above it."


def otherwise(above, right, scores, rate):
    of_all = f"{int(above)} of {len(scores)} scores are above your limit; for rate = {rate:g} it must be {int(right)}."
    return OTHER_END if above > len(scores) / 2 else of_all


def ranked(more):
    """The limit with ``more`` scores above it than asked for."""
    return lambda scores, rate: scores.sort(descending=True).values[round(rate * len(scores)) + more]


exercise = Exercise(
    guard_limit,
    hints=(
        "Sort from large to small. How many scores may be above the limit?",
        "The score in place number rate * n, counted from 0, has exactly rate * n larger ones.",
    ),
    cases=lambda: [(normal(n, seed=n).exp(), rate) for n, rate in ((200, 0.05), (1_000, 0.01))],
    mistakes={
        OTHER_END: lambda scores, rate: scores.quantile(rate),
        "that is the largest score: nothing is above it, and the share asked for is rate.": (
            lambda scores, rate: scores.max()
        ),
        "one score too few is above: places are counted from 0.": ranked(-1),
        "one score too many is above: places are counted from 0.": ranked(1),
    },
    seen=lambda answer, scores, rate: (scores > answer).sum(),
    otherwise=otherwise,
    praise="of ordinary latents, just this share will be flagged.",
)
